"""Private files: written whole, refused when others could have touched them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sidecar.state_folder import StateError, StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "state")
    made.prepare()
    return made


def test_what_is_written_is_read_back(folder: StateFolder) -> None:
    folder.write("file", b"content")
    assert folder.read("file", limit_bytes=100) == b"content"


def test_folder_and_files_are_for_the_owner_alone(folder: StateFolder) -> None:
    folder.write("file", b"content")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "file").stat().st_mode) == 0o600


def test_folders_above_that_were_missing_are_private_too(tmp_path: Path) -> None:
    StateFolder(tmp_path / "one" / "two").prepare()
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700


def test_a_file_keeps_its_mode_whatever_the_umask(folder: StateFolder) -> None:
    before = os.umask(0)
    try:
        folder.write("file", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder.path / "file").stat().st_mode) == 0o600


def test_a_file_that_is_not_there_is_none(folder: StateFolder) -> None:
    assert folder.read("file", limit_bytes=100) is None


def test_nothing_but_the_file_is_left_behind(folder: StateFolder) -> None:
    folder.write("file", b"one")
    folder.write("file", b"two")
    assert [path.name for path in folder.path.iterdir()] == ["file"]


def test_a_write_that_fails_keeps_the_old_content(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("file", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="no space left on device"):
        folder.write("file", b"new")
    assert folder.read("file", limit_bytes=100) == b"old"
    assert [path.name for path in folder.path.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_touch_is_refused(folder: StateFolder, mode: int) -> None:
    folder.write("file", b"content")
    (folder.path / "file").chmod(mode)
    with pytest.raises(StateError, match="chmod 0600"):
        folder.read("file", limit_bytes=100)


def test_a_link_is_not_followed(folder: StateFolder) -> None:
    folder.write("file", b"content")
    (folder.path / "link").symlink_to(folder.path / "file")
    with pytest.raises(StateError):
        folder.read("link", limit_bytes=100)


def test_a_pipe_is_refused_and_does_not_hang(folder: StateFolder) -> None:
    os.mkfifo(folder.path / "pipe", 0o600)
    with pytest.raises(StateError, match="not a plain file"):
        folder.read("pipe", limit_bytes=100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_somebody_else_is_refused(folder: StateFolder) -> None:
    folder.write("file", b"content")
    os.chown(folder.path / "file", 12345, 12345)
    with pytest.raises(StateError, match="12345"):
        folder.read("file", limit_bytes=100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_refused(folder: StateFolder) -> None:
    os.chown(folder.path, 12345, 12345)
    with pytest.raises(StateError, match="12345"):
        folder.prepare()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_refused(folder: StateFolder, mode: int) -> None:
    folder.path.chmod(mode)
    with pytest.raises(StateError, match="may be written by others"):
        folder.prepare()


def test_a_folder_that_others_may_only_read_will_do(folder: StateFolder) -> None:
    folder.path.chmod(0o755)
    folder.prepare()


def test_a_file_above_the_limit_is_refused(folder: StateFolder) -> None:
    folder.write("file", b"x" * 101)
    with pytest.raises(StateError, match="larger than 100 bytes"):
        folder.read("file", limit_bytes=100)


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(StateError, match=str(tmp_path / "state")):
        StateFolder(tmp_path / "state").prepare()
