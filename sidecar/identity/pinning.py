"""Finds out who answers at the join address, before anything secret is sent there.

grpcio can neither check a fingerprint nor hand out the peer's chain. So a bare TLS 1.3 handshake goes first, by
pyOpenSSL over memory BIOs; it proves that the peer holds the leaf's key and shows the chain, and carries no data. The
root found in it by its fingerprint is then the only root that grpcio is given: should somebody else answer that second
connection, grpcio refuses them.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from ringfence.kit.clock import Clock
from ringfence.spiffe import TrustBundle, TrustDomain, control_plane_dns_name
from sidecar.identity.anchor import Anchor, verified_roots
from sidecar.identity.errors import IdentityUnavailable
from sidecar.settings import HostPort

_RECEIVE_LIMIT_BYTES: Final = 65_536
_CHUNK_BYTES: Final = 16_384


async def authenticate_control_plane(
    address: HostPort, anchor: Anchor, *, trust_domain: TrustDomain, clock: Clock, deadline_seconds: float
) -> TrustBundle:
    """The roots to give to grpcio for ``address``.

    Raises WrongRoot if somebody else answers there, IdentityUnavailable if nobody does in time.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            chain = await _shown_chain(address, control_plane_dns_name(trust_domain))
    except TimeoutError as error:
        raise IdentityUnavailable(f"{address} gave no TLS answer within {deadline_seconds:g} s") from error
    except OSError as error:
        # asyncio puts words of its own into strerror; the system's are the ones that people know.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise IdentityUnavailable(f"cannot connect to {address}: {reason.lower()}") from error
    return verified_roots(chain, anchor, trust_domain=trust_domain, now=clock.now(), address=str(address))


async def _shown_chain(address: HostPort, server_name: str) -> tuple[bytes, ...]:
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=_RECEIVE_LIMIT_BYTES)
    try:
        return await _handshake(reader, writer, address, server_name)
    finally:
        # No farewell: the handshake was all that was wanted, and a stuck peer must not hold the caller.
        writer.transport.abort()


async def _handshake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: HostPort, server_name: str
) -> tuple[bytes, ...]:
    engine = SSL.Connection(_context(), None)
    engine.set_tlsext_host_name(server_name.encode("ascii"))
    engine.set_connect_state()
    received = 0
    while True:
        try:
            engine.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise IdentityUnavailable(f"{address} does not complete a TLS 1.3 handshake: {_words(error)}") from error
        else:
            break
        _flush(engine, writer)
        await writer.drain()
        data = await reader.read(_CHUNK_BYTES)
        if not data:
            raise IdentityUnavailable(f"{address} closed the connection in the TLS handshake")
        received += len(data)
        if received > _RECEIVE_LIMIT_BYTES:
            raise IdentityUnavailable(f"{address} sent more than {_RECEIVE_LIMIT_BYTES} bytes in the TLS handshake")
        engine.bio_write(data)
    chain = engine.get_peer_cert_chain(as_cryptography=True) or []
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    # The chain is judged after the handshake, against the pin; OpenSSL still checks that the peer holds the leaf's key.
    context.set_verify(SSL.VERIFY_NONE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_alpn_protos([b"h2"])
    return context


def _flush(engine: SSL.Connection, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            writer.write(engine.bio_read(_CHUNK_BYTES))
        except SSL.WantReadError:
            return


def _words(error: SSL.Error) -> str:
    """OpenSSL's own words for its last error."""
    stack = error.args[0] if error.args else None
    if isinstance(stack, list) and stack:
        return str(stack[-1][-1]).lower()
    return "connection closed" if isinstance(error, SSL.ZeroReturnError) else type(error).__name__
