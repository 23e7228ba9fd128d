"""Re-proof: a renewed SVID shown and proved on a living TLS connection.

The construction is RFC 9261's authenticator: Certificate, CertificateVerify and Finished messages, in which the leaf's
key signs, and a key exported from the TLS session authenticates, values that only the two ends of this connection
know (RFC 8446 section 7.5 exporter). So a proof is worthless on any other connection, relayed or replayed. Labels are
the RFC's, different for client and server, so that no end's proof can be sent back to it.

Of our own: proofs are sent without a request, by both roles (in the RFC only a server's may be); the
certificate_request_context, which must never repeat on a connection, is the proof's number, eight bytes, which each
end counts up from 1 and requires from the other in order; the one signature scheme is ecdsa_secp256r1_sha256, as the
authority issues P-256 keys. Sans-IO and pure but for the engine's exporter.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.spiffe import (
    MAX_CHAIN_CERTIFICATES,
    ChainVerifier,
    SpiffeId,
    VerificationError,
    VerifiedPeer,
    VerifyReason,
    X509Svid,
)
from sidecar.tls import TlsEngine

PROOF_LIMIT_BYTES: Final = 16_384

_CERTIFICATE: Final = 11
_CERTIFICATE_VERIFY: Final = 15
_FINISHED: Final = 20
_COUNTER_BYTES: Final = 8
_ECDSA_P256_SHA256: Final = b"\x04\x03"
_SIGNED_PREFIX: Final = b"\x20" * 64 + b"Exported Authenticator\x00"


def make_proof(engine: TlsEngine, svid: X509Svid, counter: int) -> bytes:
    """This end's proof number ``counter`` (from 1, never twice on a connection) that it now holds ``svid``."""
    keys = _SessionKeys(engine, by_client=engine.is_client)
    entries = b"".join(_sized(der, 3) + b"\x00\x00" for der in svid.chain)
    certificate = _message(_CERTIFICATE, _sized(_number(counter), 1) + _sized(entries, 3))
    signed = _SIGNED_PREFIX + keys.transcript(certificate)
    signature = svid.private_key.sign(signed, ec.ECDSA(hashes.SHA256()))
    verify = _message(_CERTIFICATE_VERIFY, _ECDSA_P256_SHA256 + _sized(signature, 2))
    proof = certificate + verify + _message(_FINISHED, keys.mac(certificate + verify))
    if len(proof) > PROOF_LIMIT_BYTES:
        raise ValueError(f"proof of {len(proof)} bytes is larger than {PROOF_LIMIT_BYTES} (shorten the chain)")
    return proof


def check_proof(
    engine: TlsEngine, verifier: ChainVerifier, proof: bytes, peer_id: SpiffeId, counter: int, now: float
) -> VerifiedPeer:
    """The peer as proved anew by its proof number ``counter``, the next one due; its ``not_after`` is the new one.

    ``peer_id`` is who the peer was at the handshake, and must still be. Raises VerificationError.
    """
    if len(proof) > PROOF_LIMIT_BYTES:
        raise VerificationError(VerifyReason.MALFORMED, f"re-proof of {len(proof)} bytes")
    keys = _SessionKeys(engine, by_client=not engine.is_client)
    messages = _Reader(proof)
    certificate = messages.message(_CERTIFICATE)
    verify = messages.message(_CERTIFICATE_VERIFY)
    finished = messages.message(_FINISHED)
    messages.end()
    # The MAC first: it is cheap, and whoever cannot make it is not the other end of this connection.
    if not hmac.compare_digest(finished[4:], keys.mac(certificate + verify)):
        raise VerificationError(VerifyReason.PROOF_INVALID, "re-proof is not for this connection and this end of it")
    number, chain = _read_certificate(certificate)
    if number != _number(counter):
        raise VerificationError(VerifyReason.PROOF_INVALID, f"re-proof is not number {counter}, the next one due")
    peer = verifier.verify(chain, now, (peer_id,))
    _check_signature(chain[0], verify, _SIGNED_PREFIX + keys.transcript(certificate))
    return peer


class _SessionKeys:
    """What one end's authenticators on one connection are bound to (RFC 9261, section 5.1)."""

    __slots__ = ("_context", "_hash", "_mac_key")

    def __init__(self, engine: TlsEngine, *, by_client: bool) -> None:
        self._hash = "sha384" if engine.cipher.endswith("SHA384") else "sha256"  # the cipher suite's own
        size = hashlib.new(self._hash).digest_size
        role = b"EXPORTER-client authenticator " if by_client else b"EXPORTER-server authenticator "
        self._context = engine.exporter(role + b"handshake context", b"", size)
        self._mac_key = engine.exporter(role + b"finished key", b"", size)

    def transcript(self, messages: bytes) -> bytes:
        """Hash(Handshake Context || messages); no request was sent, so it adds nothing."""
        return hashlib.new(self._hash, self._context + messages).digest()

    def mac(self, messages: bytes) -> bytes:
        return hmac.digest(self._mac_key, self.transcript(messages), self._hash)


class _Reader:
    """Reads length-prefixed fields; anything short or left over is a malformed proof."""

    __slots__ = ("_bytes", "_position")

    def __init__(self, source: bytes) -> None:
        self._bytes = source
        self._position = 0

    @property
    def done(self) -> bool:
        return self._position == len(self._bytes)

    def take(self, size: int) -> bytes:
        piece = self._bytes[self._position : self._position + size]
        if len(piece) != size:
            raise VerificationError(VerifyReason.MALFORMED, "re-proof ends in the middle of a field")
        self._position += size
        return piece

    def sized(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes), "big"))

    def message(self, kind: int) -> bytes:
        """The next handshake message, header and all, which must be of ``kind``."""
        header = self.take(4)
        if header[0] != kind:
            raise VerificationError(VerifyReason.MALFORMED, f"re-proof has message {header[0]} in place of {kind}")
        return header + self.take(int.from_bytes(header[1:], "big"))

    def end(self) -> None:
        if not self.done:
            raise VerificationError(VerifyReason.MALFORMED, "re-proof has bytes left over")


def _read_certificate(message: bytes) -> tuple[bytes, list[bytes]]:
    """The proof's number and the chain, leaf first, of a Certificate message (RFC 8446, section 4.4.2)."""
    fields = _Reader(message[4:])
    number = fields.sized(1)
    entries = _Reader(fields.sized(3))
    fields.end()
    chain: list[bytes] = []
    while not entries.done:
        if len(chain) == MAX_CHAIN_CERTIFICATES:
            raise VerificationError(VerifyReason.TOO_LONG_CHAIN, "re-proof shows too long a chain")
        chain.append(entries.sized(3))
        if entries.sized(2):
            raise VerificationError(VerifyReason.MALFORMED, "re-proof has certificate extensions")
    return number, chain


def _check_signature(leaf_der: bytes, message: bytes, signed: bytes) -> None:
    fields = _Reader(message[4:])
    scheme, signature = fields.take(2), fields.sized(2)
    fields.end()
    try:
        key = x509.load_der_x509_certificate(leaf_der).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(VerifyReason.MALFORMED, "key of the re-proof's leaf cannot be read") from error
    if scheme != _ECDSA_P256_SHA256 or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise VerificationError(VerifyReason.PROOF_INVALID, "re-proof is not signed by ecdsa_secp256r1_sha256")
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise VerificationError(VerifyReason.PROOF_INVALID, "re-proof is not signed by the leaf's key") from error


def _number(counter: int) -> bytes:
    return counter.to_bytes(_COUNTER_BYTES, "big")


def _message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _sized(body, 3)


def _sized(body: bytes, length_bytes: int) -> bytes:
    return len(body).to_bytes(length_bytes, "big") + body
