"""The host key: a P-256 key in the state folder that can do one thing, attest the workload it was enrolled for.

It is the only private key that touches a disk. A new key is written down before it is enrolled (a crash after the CA's
answer must not lose it) under a name of its own, and takes the old one's place once the CA has enrolled it; so an old
key that the CA may still know is not thrown away for one that it may not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sidecar.state_folder import StateError, StateFolder

CURRENT: Final = "host-key.pem"
PENDING: Final = "host-key.pending.pem"
_FILE_LIMIT_BYTES: Final = 8_192


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host key and the three statements it can sign (see ringfence/wire/protos/issuing.proto)."""

    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def id(self) -> str:
        """Lower-case hex SHA-256 of ``public_der``."""
        return hashlib.sha256(self.public_der).hexdigest()

    def enrolment_proof(self, token: str, csr: bytes) -> bytes:
        """Proof of possession that binds this key to one join token and one CSR."""
        token_digest = hashlib.sha256(token.encode("utf-8")).digest()
        return self._sign(b"ringfence-enrol-v1\0" + token_digest + hashlib.sha256(csr).digest())

    def evidence_proof(self, kind: str, evidence: bytes, csr: bytes) -> bytes:
        """Proof of possession that binds this key to one piece of evidence and one CSR."""
        digests = (hashlib.sha256(part).digest() for part in (kind.encode(), evidence, csr))
        return self._sign(b"ringfence-prove-v1\0" + b"".join(digests))

    def attestation(self, nonce: bytes, csr: bytes) -> bytes:
        """The answer to the CA's challenge for one CSR."""
        return self._sign(b"ringfence-attest-v1\0" + nonce + hashlib.sha256(csr).digest())

    def _sign(self, message: bytes) -> bytes:
        return self.private_key.sign(message, ec.ECDSA(hashes.SHA256()))


class HostKeyStore:
    """The host key files of one state folder."""

    __slots__ = ("_folder",)

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def candidates(self) -> list[HostKey]:
        """The keys to attest with, the enrolled one first; raises StateError if the folder or a file is unfit."""
        self._folder.prepare()
        held = [self._load(name) for name in (CURRENT, PENDING)]
        return [key for key in held if key is not None]

    def draw(self) -> HostKey:
        """A new key, on disk as pending before it is returned; raises StateError."""
        self._folder.prepare()
        key = HostKey(ec.generate_private_key(ec.SECP256R1()))
        pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._folder.write(PENDING, pem)
        return key

    def enrolled(self, key: HostKey) -> None:
        """The CA knows ``key``: if it is the pending one it becomes the current one; raises StateError."""
        pending = self._load(PENDING)
        if pending is not None and pending.id == key.id:
            self._folder.rename(PENDING, CURRENT)

    def refused(self, key: HostKey) -> None:
        """The CA does not know ``key`` and never will: it is not tried again; raises StateError."""
        pending = self._load(PENDING)
        if pending is not None and pending.id == key.id:
            self._folder.remove(PENDING)

    def _load(self, name: str) -> HostKey | None:
        pem = self._folder.read(name, limit_bytes=_FILE_LIMIT_BYTES)
        if pem is None:
            return None
        path = self._folder.path / name
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StateError(f"{path} holds no private key (remove it, and join again with a new token)") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise StateError(f"{path} is not a P-256 key (remove it, and join again with a new token)")
        return HostKey(key)
