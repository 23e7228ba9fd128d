"""An authority that is there already, or is carried from place to place: what an installation does again and again.

Carried, it is one text of four PEM blocks: root, issuing certificate, and their keys, still under their passphrase. The
database stays behind: a place that lost it issues again to whoever proves who they are anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import DataFolderError
from ca.folder import (
    ISSUING_KEY,
    ROOT_CERTIFICATE,
    ROOT_KEY,
    SigningKeys,
    create_folder,
    read_certificates,
    read_issuing_key,
)
from ca.hierarchy import Hierarchy, read_hierarchy, same_key
from ca.pbes2 import decrypt_private_key
from ringfence.spiffe import TrustDomain, fingerprint

LIMIT_BYTES: Final = 65_536
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]{1,40})-----[^-]{1,32768}-----END \1-----\n?")
_BLOCKS: Final = (b"CERTIFICATE", b"CERTIFICATE", b"ENCRYPTED PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Who an authority must be to be taken for one's own. ``known_root``: the root that the mesh had before, PEM; empty
    where it had none."""

    trust_domain: TrustDomain | None = None
    passphrase: bytes = field(repr=False)
    known_root: bytes = b""


def present_authority(data_dir: Path, expected: Expected) -> Hierarchy | None:
    """The authority in ``data_dir``, which is the one expected and opens; None where there never was one.

    DataFolderError if it is another's, or if it is gone: a new root in its place would end the trust of every sidecar.
    """
    known = _known(expected.known_root)
    if not (data_dir / ROOT_CERTIFICATE).exists():
        if known is not None:
            raise DataFolderError(
                f"{data_dir} holds no authority, but the mesh has the root {fingerprint(known)} "
                "(bring back its volume, or a backup by ringfence ca import; where a root is on record, none is made)"
            )
        return None
    hierarchy = read_certificates(data_dir)
    if expected.trust_domain is not None and hierarchy.trust_domain != expected.trust_domain:
        raise DataFolderError(
            f"{data_dir} holds the authority of {hierarchy.trust_domain}, not of {expected.trust_domain} "
            "(a mesh keeps its trust domain: set it back, or choose another folder)"
        )
    if known is not None and known != hierarchy.root_der:
        raise DataFolderError(
            f"{data_dir} holds the root {fingerprint(hierarchy.root_der)}, but the mesh has {fingerprint(known)} "
            "(bring the right volume back)"
        )
    read_issuing_key(data_dir, hierarchy, expected.passphrase)
    return hierarchy


def export_authority(data_dir: Path) -> bytes:
    """All that another place needs but the passphrase."""
    hierarchy = read_certificates(data_dir)
    certificates = [one.public_bytes(Encoding.PEM) for one in (hierarchy.root, hierarchy.intermediate)]
    try:
        keys = [(data_dir / name).read_bytes() for name in (ROOT_KEY, ISSUING_KEY)]
    except OSError as problem:
        raise DataFolderError(f"cannot read {problem.filename}: {problem.strerror}") from problem
    text = b"".join(certificates + keys)
    _blocks(text, str(data_dir))
    return text


def check_same_root(data_dir: Path, text: bytes) -> None:
    """DataFolderError unless the authority in ``data_dir`` has the root of the one in ``text``.

    Its issuing certificate may be another: the folder's is the one in use.
    """
    root, issuing, *_ = _blocks(text, "backup")
    given, held = read_hierarchy(root, issuing), read_certificates(data_dir)
    if given.root_der != held.root_der:
        raise DataFolderError(
            f"{data_dir} holds the root {fingerprint(held.root_der)}, the backup {fingerprint(given.root_der)} "
            "(bring the right volume or the right backup)"
        )


def import_authority(
    data_dir: Path, text: bytes, expected: Expected, random_bytes: Callable[[int], bytes]
) -> Hierarchy:
    """Make ``data_dir``, absent or empty, the place of the authority in ``text``; all of it, or nothing.

    DataFolderError, PassphraseError.
    """
    passphrase = expected.passphrase
    root, issuing, root_key, issuing_key = _blocks(text, "backup")
    hierarchy = read_hierarchy(root, issuing)
    keys = SigningKeys(
        root=decrypt_private_key(root_key, passphrase), issuing=decrypt_private_key(issuing_key, passphrase)
    )
    if not same_key(keys.root, hierarchy.root) or not same_key(keys.issuing, hierarchy.intermediate):
        raise DataFolderError("backup holds keys of other certificates (take one made by ringfence ca export)")
    known = _known(expected.known_root)
    if known is not None and known != hierarchy.root_der:
        raise DataFolderError(
            f"backup holds the root {fingerprint(hierarchy.root_der)}, but the mesh has {fingerprint(known)} "
            "(bring the right backup)"
        )
    create_folder(data_dir, hierarchy, keys, passphrase, random_bytes)
    return hierarchy


def _blocks(text: bytes, source: str) -> list[bytes]:
    found = list(_BLOCK.finditer(text)) if len(text) <= LIMIT_BYTES else []
    if tuple(match[1] for match in found) != _BLOCKS or b"".join(match[0] for match in found) != text:
        raise DataFolderError(
            f"{source} is not two certificates and their two encrypted keys (take one made by ringfence ca export)"
        )
    return [match[0] for match in found]


def _known(pem: bytes) -> bytes | None:
    if not pem:
        return None
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError as problem:
        raise DataFolderError("the root on record is no PEM certificate (mend the record, or delete it)") from problem
