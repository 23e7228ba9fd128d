"""gRPC channels to the control plane: what they trust, what they show, how they are bounded.

grpcio checks a server's DNS name, never its SPIFFE ID. The name asked for here is reserved for the control plane: the
CA gives it to no workload. Everything travels in memory; no key or certificate is written to a file for grpcio.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio

from ringfence.spiffe import TrustBundle, TrustDomain, X509Svid, control_plane_dns_name
from sidecar.settings import HostPort

SNAPSHOT_LIMIT_BYTES: Final = 16 << 20
"""Of one message on the control stream: a mesh of many services, and still no more than a sidecar can bear."""
IDENTITY_LIMIT_BYTES: Final = 256 << 10
"""Of one answer of the CA: some certificates."""
_REQUEST_ID_KEY: Final = "ringfence-request-id"  # in trailing metadata: finds the reason in the other side's log
_KEEPALIVE_MILLISECONDS: Final = 30_000
_KEEPALIVE_DEADLINE_MILLISECONDS: Final = 10_000

FINAL_CODES: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Status codes with which asking again in the same words changes nothing."""


def server_tls_channel(address: HostPort, roots: TrustBundle, *, limit_bytes: int) -> grpc.aio.Channel:
    """A channel on which only the server proves itself, by a chain to ``roots``."""
    credentials = grpc.ssl_channel_credentials(root_certificates=roots.to_pem())
    return _channel(address, roots.trust_domain, credentials, limit_bytes)


def mutual_tls_channel(address: HostPort, roots: TrustBundle, svid: X509Svid, *, limit_bytes: int) -> grpc.aio.Channel:
    """A channel on which both sides prove themselves; this side by ``svid``, for as long as the channel lives."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots.to_pem(), private_key=svid.private_key_pem(), certificate_chain=svid.chain_pem()
    )
    return _channel(address, roots.trust_domain, credentials, limit_bytes)


def told(error: grpc.aio.AioRpcError) -> str:
    """What a failed call has to say, in one bounded line."""
    details = " ".join((error.details() or "").split())
    # grpcio wraps a failed connection into two layers of its own words.
    details = (
        details.rpartition("last error: ")[2].removeprefix("UNKNOWN: ").removesuffix(": OK")[:500]
        or error.code().name.lower()
    )
    trailing: Any = error.trailing_metadata() or ()  # pairs of key and value; the types know it otherwise
    request_id = dict(trailing).get(_REQUEST_ID_KEY)
    return f"{details}, request id {request_id[:64]}" if isinstance(request_id, str) else details


def _channel(
    address: HostPort, trust_domain: TrustDomain, credentials: grpc.ChannelCredentials, limit_bytes: int
) -> grpc.aio.Channel:
    options = [
        ("grpc.ssl_target_name_override", control_plane_dns_name(trust_domain)),
        # A proxy set for the app's sake (http_proxy) has no business between a sidecar and its control plane.
        ("grpc.enable_http_proxy", 0),
        # No connection shared behind our back with another channel that shows another SVID.
        ("grpc.use_local_subchannel_pool", 1),
        # The sidecar has its own backoff; two of them on top of each other wait the product.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", limit_bytes),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_DEADLINE_MILLISECONDS),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    # The scheme is said, or grpcio would take a host called "unix" for one.
    return grpc.aio.secure_channel(f"dns:///{address}", credentials, options=options)
