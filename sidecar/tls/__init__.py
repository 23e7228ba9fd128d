"""Mutual TLS with SPIFFE identities, sans-IO.

``TlsIdentity`` holds the contexts of one SVID and makes a ``TlsEngine`` a connection; ``peer_check`` verifies inside
the handshake. No sockets: ``sidecar.tunnel`` and ``sidecar.rpc`` move the bytes.
"""

from __future__ import annotations

from sidecar.tls.engine import HANDSHAKE_LIMIT_BYTES, TlsEngine
from sidecar.tls.errors import TlsClosed, TlsEndedError, TlsFailed, TlsFault
from sidecar.tls.identity import TlsIdentity, anonymous_client
from sidecar.tls.peer_check import PeerVerifier
from sidecar.tls.records import SEALED_BYTES, RecordBuffers

__all__ = [
    "HANDSHAKE_LIMIT_BYTES",
    "SEALED_BYTES",
    "PeerVerifier",
    "RecordBuffers",
    "TlsClosed",
    "TlsEndedError",
    "TlsEngine",
    "TlsFailed",
    "TlsFault",
    "TlsIdentity",
    "anonymous_client",
]
