"""Where a passphrase may come from, and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ca.errors import PassphraseError
from ca.passphrase import check_new_passphrase, read_passphrase_file


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"swordfish", b"swordfish"),
        (b"swordfish\n", b"swordfish"),
        (b"sword fish\r\n", b"sword fish"),
        (b"a\n\n", b"a\n"),
    ],
)
def test_one_line_break_at_the_end_is_not_part_of_it(tmp_path: Path, content: bytes, passphrase: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    assert read_passphrase_file(tmp_path / "p", tmp_path / "ca") == passphrase


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 1025])
def test_an_empty_or_huge_file_holds_no_passphrase(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(PassphraseError):
        read_passphrase_file(tmp_path / "p", tmp_path / "ca")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match=str(tmp_path / "absent")):
        read_passphrase_file(tmp_path / "absent", tmp_path / "ca")


def test_the_data_folder_never_holds_its_own_passphrase(tmp_path: Path) -> None:
    data = tmp_path / "ca"
    data.mkdir()
    (data / "p").write_bytes(b"swordfish")
    with pytest.raises(PassphraseError, match="keep it elsewhere"):
        read_passphrase_file(data / "p", data)
    (tmp_path / "link").symlink_to(data / "p")
    with pytest.raises(PassphraseError, match="keep it elsewhere"):
        read_passphrase_file(tmp_path / "link", data)


def test_a_new_passphrase_is_not_too_short() -> None:
    check_new_passphrase(b"12345678")
    with pytest.raises(PassphraseError, match="too short"):
        check_new_passphrase(b"1234567")
