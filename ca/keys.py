"""Signing keys and the files that hold them: P-256, encrypted, mode 0600, written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from ca.errors import DataFolderError, PassphraseError
from ca.pbes2 import decrypt_private_key, encrypt_private_key
from ringfence.kit.private_file import replace_private

_KEY_FILE_LIMIT_BYTES: Final = 16_384


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key, from the operating system's randomness."""
    return ec.generate_private_key(ec.SECP256R1())


def save_key(
    path: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes, random_bytes: Callable[[int], bytes]
) -> None:
    """Write ``key`` to ``path``, PEM, encrypted."""
    replace_private(path, encrypt_private_key(key, passphrase, random_bytes))


def load_key(path: Path, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """The key in ``path``. A file that others may read, or that is not encrypted, is refused: it is no secret."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as problem:
        raise DataFolderError(f"cannot open key {path}: {problem.strerror}") from problem
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise DataFolderError(f"key {path} has mode {mode:04o} and is open to others (chmod 600, then replace it)")
        content = file.read(_KEY_FILE_LIMIT_BYTES + 1)
    if len(content) > _KEY_FILE_LIMIT_BYTES:
        raise DataFolderError(f"key {path} is larger than {_KEY_FILE_LIMIT_BYTES} bytes")
    try:
        return decrypt_private_key(content, passphrase)
    except PassphraseError as problem:
        raise PassphraseError(f"{path}: {problem}") from problem
