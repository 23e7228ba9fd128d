"""A TLS 1.3 client's own record layer, taken over after the handshake: for key updates, which pyOpenSSL cannot send."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"
_HANDSHAKE, _APPLICATION = 0x16, 0x17


class TrafficKeys:
    """The client's sending keys, read from the key log; RFC 8446 sections 5.2 and 7.2."""

    def __init__(self) -> None:
        self._secret = b""
        self._number = 0
        self._aead: Any = None
        self._kind: Any = None
        self._iv = b""

    def line(self, _: object, line: bytes) -> None:
        """One line of the key log."""
        label, _random, secret = line.split(b" ")
        if label == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())

    def begin(self, kind: Any) -> None:
        """Take over; ``kind`` makes the AEAD of a key. Nothing may have been sent by the library yet."""
        self._kind = kind
        self._derive()

    def record(self, content: bytes, kind: int = _APPLICATION) -> bytes:
        """One protected record."""
        inner = content + bytes((kind,))
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + bytes(self._aead.encrypt(nonce, inner, header))

    def update(self) -> bytes:
        """A KeyUpdate that asks the other end for one of its own, under the old keys; then the keys are new."""
        record = self.record(_UPDATE_REQUESTED, _HANDSHAKE)
        self._secret = self._expand(b"traffic upd", len(self._secret))
        self._derive()
        return record

    def _derive(self) -> None:
        self._aead = self._kind(self._expand(b"key", 32 if len(self._secret) == 48 else 16))
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label with an empty context."""
        name = hashlib.sha384 if len(self._secret) == 48 else hashlib.sha256
        full = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes((len(full),)) + full + b"\0"
        out, block, number = b"", b"", 1
        while len(out) < size:
            block = hmac.digest(self._secret, block + info + bytes((number,)), name)
            out, number = out + block, number + 1
        return out[:size]
