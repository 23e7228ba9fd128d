"""The data folder: which file is which, made whole or not at all, read with suspicion.

``root.pem``, ``root.key``: the root. ``issuing.pem``, ``issuing.key``: the issuing intermediate. ``ca.db``: the
database, unless it is elsewhere. The passphrase that opens the keys is never in here, or a stolen backup would be a
stolen CA.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import DataFolderError
from ca.hierarchy import Hierarchy, read_hierarchy, same_key
from ca.keys import load_key, save_key
from ringfence.kit.private_file import flush_folder, replace_private

ROOT_CERTIFICATE: Final = "root.pem"
ROOT_KEY: Final = "root.key"
ISSUING_CERTIFICATE: Final = "issuing.pem"
ISSUING_KEY: Final = "issuing.key"
DATABASE: Final = "ca.db"
_CERTIFICATE_LIMIT_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The private halves of a hierarchy."""

    root: ec.EllipticCurvePrivateKey = field(repr=False)
    issuing: ec.EllipticCurvePrivateKey = field(repr=False)


def check_vacant(data_dir: Path) -> None:
    """DataFolderError if an authority, or anything else, is there already."""
    if (data_dir / ROOT_CERTIFICATE).exists():
        raise DataFolderError(f"{data_dir} already holds an authority (choose another folder)")
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise DataFolderError(f"{data_dir} is not an empty folder (choose another)")


def create_folder(
    data_dir: Path,
    hierarchy: Hierarchy,
    keys: SigningKeys,
    passphrase: bytes,
    random_bytes: Callable[[int], bytes],
) -> None:
    """Write a new authority: into a draft folder beside it, then by one rename; on any failure nothing is left."""
    check_vacant(data_dir)
    draft: Path | None = None
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{data_dir.name}.", dir=data_dir.parent))  # mode 0700
        save_key(draft / ROOT_KEY, keys.root, passphrase, random_bytes)
        save_key(draft / ISSUING_KEY, keys.issuing, passphrase, random_bytes)
        replace_private(draft / ISSUING_CERTIFICATE, hierarchy.intermediate.public_bytes(Encoding.PEM))
        replace_private(draft / ROOT_CERTIFICATE, hierarchy.root.public_bytes(Encoding.PEM))
        # Replaces an empty folder, and fails on one that somebody filled in the meantime.
        draft.rename(data_dir)
        flush_folder(data_dir.parent)
    except BaseException as problem:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
        if isinstance(problem, OSError):
            raise DataFolderError(f"cannot make {data_dir}: {problem.strerror}") from problem
        raise


def read_certificates(data_dir: Path) -> Hierarchy:
    """The authority's certificates; needs no passphrase.

    DataFolderError if they are missing, do not fit together, or lie where others may write: whoever swaps the root or
    the database decides whom the mesh trusts.
    """
    with contextlib.suppress(FileNotFoundError):
        _check_own(data_dir, data_dir.stat())
    return read_hierarchy(_read(data_dir, ROOT_CERTIFICATE), _read(data_dir, ISSUING_CERTIFICATE))


def read_issuing_key(data_dir: Path, hierarchy: Hierarchy, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """The key that signs SVIDs; PassphraseError if it does not open, DataFolderError if it is another's."""
    key = load_key(data_dir / ISSUING_KEY, passphrase)
    if not same_key(key, hierarchy.intermediate):
        raise DataFolderError(
            f"{data_dir / ISSUING_KEY} is not the key of {ISSUING_CERTIFICATE} (restore both together)"
        )
    return key


def _read(data_dir: Path, name: str) -> bytes:
    path = data_dir / name
    try:
        with path.open("rb") as file:
            _check_own(path, os.fstat(file.fileno()))
            content = file.read(_CERTIFICATE_LIMIT_BYTES + 1)
    except FileNotFoundError as problem:
        raise DataFolderError(f"{data_dir} holds no authority: {name} is missing (ringfence ca init)") from problem
    except OSError as problem:
        raise DataFolderError(f"cannot read {path}: {problem.strerror}") from problem
    if len(content) > _CERTIFICATE_LIMIT_BYTES:
        raise DataFolderError(f"{path} is larger than {_CERTIFICATE_LIMIT_BYTES} bytes")
    return content


def _check_own(path: Path, found: os.stat_result) -> None:
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise DataFolderError(f"{path} may be written by others (chmod go-w, and see that it is what it was)")
