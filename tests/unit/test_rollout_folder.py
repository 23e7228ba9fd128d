"""Writing the policy folder: all of a change, or none, or the rest at the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.rollout import folder as module
from controlplane.rollout.folder import FolderError, PolicyFolderWriter


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    made = tmp_path / "policies"
    (made / "sub").mkdir(parents=True)
    (made / "a.yaml").write_bytes(b"1")
    (made / "a.yaml").chmod(0o640)
    (made / "sub" / "b.yaml").write_bytes(b"2")
    return made


def test_a_change_is_written_whole_and_modes_stay(policies: Path, tmp_path: Path) -> None:
    writer = PolicyFolderWriter(tmp_path / "journal")
    wanted = {"a.yaml": b"9", "new/c.yaml": b"3"}
    writer.write(policies, held(policies), wanted)
    assert held(policies) == wanted
    assert (policies / "a.yaml").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "journal").exists()
    assert not writer.unfinished
    assert not writer.recover()


def test_a_change_that_a_crash_interrupted_is_ended_at_the_next_start(
    policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(path: Path, content: bytes) -> None:
        if path.name == "c.yaml":
            raise Crash
        real(path, content)

    real = module.replace_private
    monkeypatch.setattr(module, "replace_private", crash)
    with pytest.raises(Crash):
        PolicyFolderWriter(tmp_path / "journal").write(policies, held(policies), {"a.yaml": b"9", "c.yaml": b"3"})
    assert held(policies)["a.yaml"] == b"1"
    monkeypatch.undo()
    assert PolicyFolderWriter(tmp_path / "journal").recover()
    assert held(policies) == {"a.yaml": b"9", "c.yaml": b"3"}
    assert not (tmp_path / "journal").exists()


def test_a_disk_that_fails_midway_has_the_change_taken_back(
    policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(policies)
    real = module.replace_private

    def fail(path: Path, content: bytes) -> None:
        if path.name == "z.yaml":
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(module, "replace_private", fail)
    writer = PolicyFolderWriter(tmp_path / "journal")
    with pytest.raises(FolderError, match="No space left on device"):
        writer.write(policies, before, {"a.yaml": b"9", "z.yaml": b"3"})
    assert held(policies) == before
    assert not writer.unfinished
    assert not (tmp_path / "journal").exists()


def test_a_disk_that_lets_nothing_be_taken_back_leaves_a_folder_that_is_not_to_be_read(
    policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(policies)
    real = module.replace_private
    written: list[str] = []

    def fail(path: Path, content: bytes) -> None:
        written.append(path.name)
        if len(written) > 2:
            raise OSError(5, "Input/output error")
        real(path, content)

    monkeypatch.setattr(module, "replace_private", fail)
    writer = PolicyFolderWriter(tmp_path / "journal")
    wanted = {**before, "a.yaml": b"9", "z.yaml": b"3"}
    with pytest.raises(FolderError, match="half changed"):
        writer.write(policies, before, wanted)
    assert writer.unfinished
    monkeypatch.undo()
    assert PolicyFolderWriter(tmp_path / "journal").recover()
    assert held(policies) == wanted


def test_a_link_that_leads_out_of_the_folder_is_not_followed(policies: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (policies / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderError, match="symbolic link"):
        PolicyFolderWriter(tmp_path / "journal").write(policies, {}, {"out/x.yaml": b"1"})
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"folder": "/tmp", "write": {"../../x.yaml": ""}, "remove": []}', b"\xff"]
)
def test_a_journal_that_is_none_is_told_and_nothing_written(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "journal").write_bytes(text)
    with pytest.raises(FolderError, match="no journal"):
        PolicyFolderWriter(tmp_path / "journal").recover()
