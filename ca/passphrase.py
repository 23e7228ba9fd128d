"""Where the passphrase comes from: a file, never an argument (others read those) and never the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ca.errors import PassphraseError

PASSPHRASE_FILE_VARIABLE: Final = "RINGFENCE_CA_PASSPHRASE_FILE"
PASSPHRASE_MINIMUM_BYTES: Final = 8
_LIMIT_BYTES: Final = 1024


def read_passphrase_file(file: Path, data_dir: Path) -> bytes:
    """The passphrase in ``file``, without the line break at its end. PassphraseError if there is none fit for use."""
    if file.resolve().is_relative_to(data_dir.resolve()):
        raise PassphraseError(f"passphrase file {file} lies in the data folder it protects (keep it elsewhere)")
    try:
        with file.open("rb") as stream:
            content = stream.read(_LIMIT_BYTES + 1)
    except OSError as problem:
        raise PassphraseError(f"cannot read passphrase file {file}: {problem.strerror}") from problem
    if len(content) > _LIMIT_BYTES:
        raise PassphraseError(f"passphrase file {file} is larger than {_LIMIT_BYTES} bytes")
    passphrase = content.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise PassphraseError(f"passphrase file {file} is empty")
    return passphrase


def check_new_passphrase(passphrase: bytes) -> None:
    """PassphraseError for a passphrase too short to protect a new authority."""
    if len(passphrase) < PASSPHRASE_MINIMUM_BYTES:
        raise PassphraseError(
            f"passphrase of {len(passphrase)} bytes is too short (at least {PASSPHRASE_MINIMUM_BYTES}; "
            "32 random characters in a file of mode 0600 are best)"
        )
