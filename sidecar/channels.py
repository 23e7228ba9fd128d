"""Connections to the control plane: what they trust, what they show, how they are bounded.

On each of them the control plane proves its SPIFFE ID inside the TLS handshake, to the verifier that peers use among
themselves; no key or certificate is written to a file for it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final

from ringfence.kit.clock import Clock
from ringfence.spiffe import TrustBundle, TrustDomain, X509Svid, control_plane_dns_name, control_plane_id
from sidecar.rpc import Connection, Limits, RpcError, StatusCode, connected
from sidecar.settings import HostPort
from sidecar.tls import PeerVerifier, TlsEngine, TlsIdentity, anonymous_client

SNAPSHOT_LIMIT_BYTES: Final = 16 << 20
"""Of one message on the control stream: a mesh of many services, and still no more than a sidecar can bear."""
IDENTITY_LIMIT_BYTES: Final = 256 << 10
"""Of one answer of the CA: some certificates."""
_REQUEST_ID_KEY: Final = b"ringfence-request-id"  # in trailing metadata: finds the reason in the other side's log
_WORDS_LIMIT: Final = 500

FINAL_CODES: Final = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.UNIMPLEMENTED,
    }
)
"""Status codes with which asking again in the same words changes nothing."""


def joining_channel(
    address: HostPort, trust_domain: TrustDomain, verifier: PeerVerifier, *, clock: Clock, connect_seconds: float
) -> AbstractAsyncContextManager[Connection]:
    """A connection on which only the control plane proves itself, to ``verifier``; for a sidecar without an SVID."""
    engine = anonymous_client(verifier, frozenset({control_plane_id(trust_domain)}), clock)
    return _channel(address, trust_domain, engine, IDENTITY_LIMIT_BYTES, connect_seconds)


def mutual_tls_channel(
    address: HostPort, roots: TrustBundle, svid: X509Svid, *, clock: Clock, limit_bytes: int, connect_seconds: float
) -> AbstractAsyncContextManager[Connection]:
    """A connection on which both sides prove themselves; this side by ``svid``, for as long as it lives."""
    engine = TlsIdentity(svid, [roots], clock).client(frozenset({control_plane_id(roots.trust_domain)}))
    return _channel(address, roots.trust_domain, engine, limit_bytes, connect_seconds)


def told(error: RpcError) -> str:
    """What a failed call has to say, in one bounded line."""
    words = " ".join(error.details.split())[:_WORDS_LIMIT]
    details = "".join(letter if letter.isprintable() else "?" for letter in words) or error.code.name.lower()
    request_id = error.status.metadata.get(_REQUEST_ID_KEY, b"")[:64]
    return f"{details}, request id {request_id.decode()}" if request_id.isalnum() else details


def _channel(
    address: HostPort, trust_domain: TrustDomain, engine: TlsEngine, limit_bytes: int, connect_seconds: float
) -> AbstractAsyncContextManager[Connection]:
    limits = Limits(answer_bytes=limit_bytes, connect_seconds=connect_seconds)
    authority = control_plane_dns_name(trust_domain)
    return connected(address.host, address.port, engine, authority=authority, limits=limits)
