"""The revision ledger on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.push.ledger_file import LedgerDamagedError, LedgerFile
from controlplane.push.revisions import Ledger, Stamp

LEDGER = Ledger(revision=9, stamps={"spiffe://a/ns/b/sa/c": Stamp(revision=4, digest="ab")})


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "revisions.json")
    assert file.load() == Ledger()
    file.save(LEDGER)
    assert file.load() == LEDGER
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["revisions.json"]


def test_revisions_that_are_set_aside_are_loaded_again(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "revisions.json")
    file.save(replace(LEDGER, reserved=1009))
    assert file.load() == replace(LEDGER, reserved=1009)


def test_ledger_of_a_version_that_set_none_aside_is_loaded(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "revisions.json")
    file.path.write_text(json.dumps(GOOD))
    assert file.load().reserved == 0


GOOD = {"version": 1, "revision": 9, "workloads": {"a": {"revision": 4, "digest": "ab"}}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({**GOOD, "version": 2}).encode(),
        json.dumps({**GOOD, "revision": 0}).encode(),
        json.dumps({**GOOD, "revision": "9"}).encode(),
        json.dumps({**GOOD, "revision": True}).encode(),
        json.dumps({**GOOD, "revision": 2**60}).encode(),
        json.dumps({**GOOD, "reserved": 8}).encode(),
        json.dumps({**GOOD, "reserved": None}).encode(),
        json.dumps({**GOOD, "workloads": []}).encode(),
        json.dumps({**GOOD, "workloads": {"a": {"revision": 10, "digest": "ab"}}}).encode(),
        json.dumps({**GOOD, "workloads": {"a": {"digest": "ab"}}}).encode(),
        json.dumps(GOOD).encode()[:-5],
    ],
)
def test_damaged_ledger_is_not_believed(tmp_path: Path, content: bytes) -> None:
    file = LedgerFile(tmp_path / "revisions.json")
    file.path.write_bytes(content)
    with pytest.raises(LedgerDamagedError):
        file.load()


def test_failed_save_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LedgerFile(tmp_path / "revisions.json")
    file.save(LEDGER)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ringfence.kit.private_file.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.save(Ledger(revision=10))
    assert file.load() == LEDGER
