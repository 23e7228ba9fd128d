"""Last words go into the file that is there for them, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.last_words import leave


def test_the_last_words_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    place = tmp_path / "termination-log"
    place.write_text("something longer from before")
    assert leave("no identity: refused", place)
    assert place.read_text() == "no identity: refused"


def test_they_are_as_long_as_the_kubelet_reads(tmp_path: Path) -> None:
    place = tmp_path / "termination-log"
    place.touch()
    assert leave("ä\ud800" * 4096, place)
    assert len(place.read_bytes()) == 4096


def test_no_file_is_made(tmp_path: Path) -> None:
    assert not leave("words", tmp_path / "termination-log")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
def test_what_is_no_plain_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    other, place = tmp_path / "other", tmp_path / "termination-log"
    other.write_text("kept")
    match kind:
        case "link":
            place.symlink_to(other)
        case "fifo":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            place = Path("/dev/null")
    assert not leave("words", place)
    assert other.read_text() == "kept"
