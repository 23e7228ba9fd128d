"""PROXY protocol version 2: tells an opaque app who called, before the caller's first byte. Pure.

Format: HAProxy's "The PROXY protocol", section 2.2. The SPIFFE ID travels in a TLV of type 0xD0, which Istio's ztunnel
uses for a peer's identity; the addresses are those of the tunnel's TCP connection.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_PROXY: Final = b"\x21"
IDENTITY_TLV: Final = 0xD0


def header(source: tuple[str, int], destination: tuple[str, int], spiffe_id: str) -> bytes:
    """The header for one connection; ``spiffe_id`` "" for a caller without identity.

    Addresses of two families, or none that can be read, are told as unspecified: the app then knows the identity alone.
    """
    tlv = spiffe_id.encode("ascii")
    extra = bytes((IDENTITY_TLV,)) + len(tlv).to_bytes(2, "big") + tlv if tlv else b""
    family, addresses = b"\x00", b""
    try:
        near, far = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    except ValueError:
        pass
    else:
        if near.version == far.version:
            family = b"\x11" if near.version == 4 else b"\x21"
            addresses = near.packed + far.packed + source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    body = addresses + extra
    return _SIGNATURE + _VERSION_PROXY + family + len(body).to_bytes(2, "big") + body
