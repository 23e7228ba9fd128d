"""Nonces for attestation: made without being stored, spent by being stored. Pure.

A caller without any credential may ask for nonces, as often as it likes; if each took a row, it could fill the table
and lock everybody else out. So a nonce carries its expiry, the host key it is for and a MAC of both, and the database
holds only nonces that were *used*, by a caller whose host key signed them, until they would have expired anyway. The
MAC's secret is the database's, so that every replica accepts the nonces of every other.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from ca.errors import RefusalReason

NONCE_BYTES: Final = 56
_EXPIRY: Final = struct.Struct(">Q")
_RANDOM_BYTES: Final = 16
_MAC_START: Final = _EXPIRY.size + _RANDOM_BYTES
_LABEL: Final = b"ringfence-nonce-v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentNonce:
    """A nonce to be recorded as used: its SHA-256 and the second from which it need not be remembered."""

    sha256: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceMint:
    """Makes and checks nonces; ``secret`` is 32 random bytes shared by the replicas, ``life_seconds`` their life."""

    secret: bytes = field(repr=False)
    life_seconds: float

    def mint(self, host_key_id: str, now: float, random_bytes: Callable[[int], bytes]) -> bytes:
        """A nonce for ``host_key_id``: expiry in milliseconds (8 bytes), 16 random bytes, HMAC-SHA256 (32 bytes)."""
        head = _EXPIRY.pack(int((now + self.life_seconds) * 1000)) + random_bytes(_RANDOM_BYTES)
        return head + self._mac(head, host_key_id)

    def check(self, nonce: bytes, host_key_id: str, now: float) -> SpentNonce | RefusalReason:
        """What to record when the nonce is spent, or why it is no good."""
        if len(nonce) != NONCE_BYTES:
            return RefusalReason.NONCE_INVALID
        head = nonce[:_MAC_START]
        if not hmac.compare_digest(nonce[_MAC_START:], self._mac(head, host_key_id)):
            return RefusalReason.NONCE_INVALID
        expires_at = _EXPIRY.unpack_from(head)[0] / 1000
        if now >= expires_at:
            return RefusalReason.NONCE_EXPIRED
        return SpentNonce(sha256=sha256(nonce).hexdigest(), expires_at=expires_at)

    def _mac(self, head: bytes, host_key_id: str) -> bytes:
        return hmac.digest(self.secret, _LABEL + head + host_key_id.encode(), "sha256")
