"""The records of policy on disk: kept whole, bounded, and never half believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.rollout.history import History, HistoryError
from controlplane.rollout.records import Author, Cause, Origin

ORIGIN = Origin(cause=Cause.APPLY, author=Author(uid=7, name="ada"), message="why", back_to=0)


class Kept:
    def __init__(self, folder: Path, **limits: int) -> None:
        self.damaged: list[str] = []
        self.folder = folder
        self.limits = limits
        self.history = self.opened()

    def opened(self) -> History:
        made = History(self.folder, lambda path, why: self.damaged.append(f"{path.name}: {why}"), **self.limits)
        made.load()
        return made

    def add(self, **files: bytes) -> None:
        contents = {f"{name}.yaml": content for name, content in files.items()}
        self.history.add(revision=3, at=1.5, origin=ORIGIN, contents=contents)


def test_records_come_back_as_they_were_after_a_restart(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "history")
    kept.add(a=b"1")
    kept.add(a=b"1", b=b"2")
    assert kept.opened().records == kept.history.records
    assert [record.number for record in kept.history.records] == [1, 2]
    assert kept.history.records[1].origin == ORIGIN
    assert (tmp_path / "history").stat().st_mode & 0o077 == 0
    assert kept.damaged == []


def test_the_oldest_go_with_the_files_that_nobody_else_has(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit_records=2)
    for number in range(4):
        kept.add(same=b"same", own=b"%d" % number)
    assert [record.number for record in kept.opened().records] == [3, 4]
    assert len(list((tmp_path / "files").iterdir())) == 3


def test_they_hold_no_more_than_so_many_bytes_but_the_newest_always(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit_bytes=10)
    kept.add(a=b"x" * 8)
    kept.add(a=b"y" * 8)
    kept.add(a=b"z" * 20)
    assert [record.number for record in kept.history.records] == [3]


@pytest.mark.parametrize("what", ["record", "file", "missing", "garbage"])
def test_a_damaged_record_is_told_and_left_out_and_the_others_stay(tmp_path: Path, what: str) -> None:
    kept = Kept(tmp_path)
    kept.add(a=b"1")
    kept.add(b=b"2")
    path = tmp_path / "0000000001.json"
    document = json.loads(path.read_text())
    blob = tmp_path / "files" / document["files"]["a.yaml"]
    if what == "record":
        document["files"] = {"other.yaml": document["files"]["a.yaml"]}
        path.write_text(json.dumps(document))
    elif what == "file":
        blob.write_bytes(b"9")
    elif what == "missing":
        blob.unlink()
    else:
        path.write_bytes(b"\xff{")
    assert [record.number for record in kept.opened().records] == [2]
    assert len(kept.damaged) == 1
    assert kept.damaged[0].startswith(path.name)


def test_a_path_in_a_record_is_not_followed(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "history")
    kept.add(a=b"1")
    (tmp_path / "secret").write_bytes(b"secret")
    path = tmp_path / "history" / "0000000001.json"
    document = json.loads(path.read_text())
    document["files"] = {"a.yaml": "../../secret"}
    path.write_text(json.dumps(document))
    assert kept.opened().records == ()


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("a file")
    with pytest.raises(HistoryError, match="history cannot be used"):
        Kept(tmp_path / "history")
