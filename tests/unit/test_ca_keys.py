"""Private keys at rest: encrypted, closed to others, whole or absent."""

from __future__ import annotations

import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ca.errors import DataFolderError, PassphraseError
from ca.keys import load_key, new_key, save_key
from ca.pbes2 import SCRYPT_P, decrypt_private_key, encrypt_private_key
from ringfence.kit.private_file import replace_private

PASSPHRASE = b"correct horse battery"


@pytest.fixture(scope="module", autouse=True)
def _quick_scrypt() -> Iterator[None]:
    """An eighth of the work for each key: these tests are about something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ca.pbes2.SCRYPT_P", 1)
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "a.key"
    save_key(path, new_key(), PASSPHRASE, secrets.token_bytes)
    return path


def copy_of(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy2(saved, tmp_path / "copy.key"))


def test_a_saved_key_comes_back(tmp_path: Path) -> None:
    key = new_key()
    save_key(tmp_path / "k", key, PASSPHRASE, secrets.token_bytes)
    assert load_key(tmp_path / "k", PASSPHRASE).private_numbers() == key.private_numbers()


def test_the_wrong_passphrase_opens_nothing_and_is_not_repeated(saved: Path) -> None:
    with pytest.raises(PassphraseError) as refusal:
        load_key(saved, b"hunter2hunter2")
    assert "hunter2" not in str(refusal.value)
    assert str(saved) in str(refusal.value)


def test_a_damaged_key_is_refused(saved: Path, tmp_path: Path) -> None:
    path = copy_of(saved, tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:10] + (b"A" if lines[3][10:11] != b"A" else b"B") + lines[3][11:]
    path.write_bytes(b"".join(lines))
    with pytest.raises(PassphraseError):
        load_key(path, PASSPHRASE)


def test_no_key_is_written_in_the_clear(saved: Path) -> None:
    assert saved.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(PassphraseError, match="empty"):
        encrypt_private_key(new_key(), b"", secrets.token_bytes)


def test_a_key_in_the_clear_is_not_accepted() -> None:
    plain = new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(PassphraseError, match="not an encrypted"):
        decrypt_private_key(plain, PASSPHRASE)


def test_another_kind_of_key_is_not_accepted() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    with pytest.raises(PassphraseError, match="not an elliptic curve key"):
        decrypt_private_key(pem, PASSPHRASE)


def test_salt_and_iv_differ_from_key_to_key() -> None:
    key = new_key()
    drawn: list[bytes] = []

    def draw(size: int) -> bytes:
        drawn.append(secrets.token_bytes(size))
        return drawn[-1]

    first, second = (encrypt_private_key(key, PASSPHRASE, draw) for _ in range(2))
    assert first != second
    assert len(set(drawn)) == 4


def test_openssl_reads_the_key_too_at_full_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program")
    monkeypatch.setattr("ca.pbes2.SCRYPT_P", SCRYPT_P)
    save_key(tmp_path / "k", new_key(), PASSPHRASE, secrets.token_bytes)
    command = [openssl, "pkey", "-in", str(tmp_path / "k"), "-passin", f"pass:{PASSPHRASE.decode()}", "-noout"]
    assert subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


def test_key_files_are_closed_to_others(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_open_to_others_is_refused(saved: Path, tmp_path: Path, mode: int) -> None:
    path = copy_of(saved, tmp_path)
    path.chmod(mode)
    with pytest.raises(DataFolderError, match="chmod 600"):
        load_key(path, PASSPHRASE)


def test_a_link_in_place_of_a_key_is_not_followed(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved)
    with pytest.raises(DataFolderError, match="cannot open key"):
        load_key(tmp_path / "link", PASSPHRASE)


def test_a_huge_key_file_is_not_read(tmp_path: Path) -> None:
    replace_private(tmp_path / "k", b"-" * 20_000)
    with pytest.raises(DataFolderError, match="larger than"):
        load_key(tmp_path / "k", PASSPHRASE)
