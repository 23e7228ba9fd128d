"""Mutual TLS with SPIFFE identities, sans-IO.

``TlsIdentity`` holds the contexts of one SVID and makes a ``TlsEngine`` a connection; ``peer_check`` verifies inside
the handshake. No sockets: ``sidecar.tunnel`` moves the bytes.
"""

from __future__ import annotations

from sidecar.tls.engine import HANDSHAKE_LIMIT_BYTES, TlsEngine
from sidecar.tls.errors import TlsClosed, TlsEndedError, TlsFailed, TlsFault
from sidecar.tls.identity import TlsIdentity

__all__ = [
    "HANDSHAKE_LIMIT_BYTES",
    "TlsClosed",
    "TlsEndedError",
    "TlsEngine",
    "TlsFailed",
    "TlsFault",
    "TlsIdentity",
]
