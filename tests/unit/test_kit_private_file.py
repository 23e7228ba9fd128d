"""Files for their owner alone: modes, wholeness, and what a power cut may not take."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from controlplane.push.ledger_file import LedgerFile
from controlplane.push.revisions import Ledger
from controlplane.up.places import ensure_passphrase
from ringfence.kit.private_file import replace_private


def test_it_is_closed_to_others_whatever_the_umask_and_the_old_file_s_mode(tmp_path: Path) -> None:
    file = tmp_path / "k"
    file.write_text("an older and longer one, which others may read")
    file.chmod(0o644)
    before = os.umask(0)
    try:
        replace_private(file, b"secret")
    finally:
        os.umask(before)
    assert file.read_bytes() == b"secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_private(tmp_path / "k", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ringfence.kit.private_file.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_private(tmp_path / "k", b"new")
    assert (tmp_path / "k").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "k").symlink_to("precious")
    replace_private(tmp_path / "k", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "k").is_symlink()


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was flushed to the disk, by its path at that moment, in order."""
    seen: list[str] = []
    flush = os.fsync

    def remember(descriptor: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 no file of ours
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    return seen


def test_its_content_and_its_name_are_on_the_disk_when_it_returns(tmp_path: Path, flushed: list[str]) -> None:
    replace_private(tmp_path / "k", b"secret")
    content, name = flushed
    assert content.startswith(f"{tmp_path}/.k.")
    assert name == str(tmp_path)


def test_the_passphrase_is_on_the_disk_before_an_authority_is_sealed_with_it(
    tmp_path: Path, flushed: list[str]
) -> None:
    # Else a power cut could leave the keys and take what opens them.
    ensure_passphrase(tmp_path / "conf" / "shop.passphrase", authority_exists=False)
    assert flushed[-1] == str(tmp_path / "conf")


def test_the_ledger_is_on_the_disk_before_anything_is_published(tmp_path: Path, flushed: list[str]) -> None:
    LedgerFile(tmp_path / "revisions.json").save(Ledger(revision=1))
    assert flushed[-1] == str(tmp_path)
