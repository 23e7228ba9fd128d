"""The TLS contexts of one SVID: one for each role, made once, since a context freezes at its first use.

On renewal or when a bundle changes, make a new ``TlsIdentity`` and use it for new connections; those that live keep
theirs. The private key goes from memory to memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from OpenSSL import SSL

from ringfence.kit.clock import Clock
from ringfence.spiffe import MAX_CHAIN_CERTIFICATES, ChainVerifier, SpiffeId, TrustBundle, X509Svid
from sidecar.tls.engine import ALPN_H2, NoH2Error, TlsEngine
from sidecar.tls.peer_check import PeerCheck, PeerVerifier, on_certificate

if TYPE_CHECKING:
    from OpenSSL.SSL import _NoOverlappingProtocols

# AES-128 first: the cheapest of the three with hardware support, and strong enough for traffic of the day.
_CIPHER_SUITES: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
# The empty store judges by a time at which no certificate is valid yet, so that the verify callback is called for an
# error of the leaf, not only for its success: a refusal then reaches the peer as the alert bad_certificate, where a
# refusal of a success would reach it as internal_error. Times are judged by the ChainVerifier, by our own clock.
_BEFORE_ANY_SVID: Final = datetime(1999, 1, 1, tzinfo=UTC)
_PARTIAL_WRITE: Final = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL turns on and does not name


class TlsIdentity:
    """What this workload shows, and whom it believes, on new connections."""

    __slots__ = ("_client", "_clock", "_direct", "_direct_client", "_server", "svid", "verifier")

    def __init__(self, svid: X509Svid, bundles: Iterable[TrustBundle], clock: Clock) -> None:
        """Raises ValueError when the key is not the leaf's, BundleError when two bundles claim one trust domain."""
        self.svid = svid
        self.verifier = ChainVerifier(bundles)
        self._clock = clock
        self._server = _own_context(svid)
        self._server.set_alpn_select_callback(_chooser(ALPN_H2))
        self._client = _own_context(svid)
        self._client.set_alpn_protos([ALPN_H2])

        self._direct: dict[tuple[bytes, ...], SSL.Context] = {}
        self._direct_client: dict[bytes | None, SSL.Context] = {}

    def server(self) -> TlsEngine:
        """The accepting side of a new connection, for any peer that the bundles vouch for."""
        return TlsEngine(self._server, PeerCheck(self.verifier, None, self._clock), is_client=False)

    def direct_server(self, protocols: tuple[bytes, ...], *, others: bool = False) -> TlsEngine:
        """The accepting side for a SPIFFE peer without sidecar: the app's own protocol inside TLS, no tunnel.

        ``protocols``: of these such a peer gets the first that it offers by ALPN, if it offers anything at all; none
        for an opaque port. ``others``: if it offers other ones only, it gets none, and is not refused for it.
        """
        key = (*protocols, b"") if others else protocols
        context = self._direct.get(key)
        if context is None:
            context = self._direct[key] = _own_context(self.svid)
            if protocols:
                context.set_alpn_select_callback(_chooser(*protocols, others=others))
        check = PeerCheck(self.verifier, None, self._clock)
        return TlsEngine(context, check, is_client=False, h2_only=False)

    def direct_client(self, protocol: bytes | None, expected: frozenset[SpiffeId]) -> TlsEngine:
        """The dialling side to a SPIFFE server without sidecar: the app's own protocol inside TLS, no tunnel.

        ``protocol``: offered by ALPN; None for an opaque port. HTTP/2 has to be agreed on (RFC 9113 section 3.2), any
        other is also had of a server that knows no ALPN.
        """
        context = self._direct_client.get(protocol)
        if context is None:
            context = self._direct_client[protocol] = _own_context(self.svid)
            if protocol is not None:
                context.set_alpn_protos([protocol])
        check = PeerCheck(self.verifier, expected, self._clock)
        return TlsEngine(context, check, is_client=True, h2_only=protocol == ALPN_H2)

    def client(self, expected: frozenset[SpiffeId]) -> TlsEngine:
        """The dialling side of a new connection, to one of the ``expected`` identities and nobody else."""
        return TlsEngine(self._client, PeerCheck(self.verifier, expected, self._clock), is_client=True)


def anonymous_client(verifier: PeerVerifier, expected: frozenset[SpiffeId], clock: Clock) -> TlsEngine:
    """The dialling side of a connection on which only the server proves itself: for whoever has no SVID yet."""
    context = _context()
    context.set_alpn_protos([ALPN_H2])
    return TlsEngine(context, PeerCheck(verifier, expected, clock), is_client=True)


def _own_context(svid: X509Svid) -> SSL.Context:
    """A context that shows ``svid``; ValueError when the key is not the leaf's."""
    context = _context()
    leaf, *above = (x509.load_der_x509_certificate(der) for der in svid.chain)
    try:
        context.use_certificate(leaf)
        context.use_privatekey(svid.private_key)
        context.check_privatekey()
    except SSL.Error as error:
        raise ValueError(f"private key is not the one in the SVID of {svid.spiffe_id}") from error
    for certificate in above:
        context.add_extra_chain_cert(certificate)
    return context


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHER_SUITES)
    # Both are needed: a resumed handshake never calls the verify callback.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(_PARTIAL_WRITE)  # a large send is then one call: a third cheaper at 64 KiB
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # a third less memory for a connection at rest, at no price in motion
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, on_certificate)
    context.set_verify_depth(MAX_CHAIN_CERTIFICATES)
    store = context.get_cert_store()
    if store is None:
        raise RuntimeError("TLS context has no certificate store")
    store.set_time(_BEFORE_ANY_SVID)
    return context


def _chooser(
    *protocols: bytes, others: bool = False
) -> Callable[[SSL.Connection, list[bytes]], bytes | _NoOverlappingProtocols]:
    """An ALPN callback that takes the first of ``protocols`` that is offered; ``others``: or else nothing."""

    def choose(connection: SSL.Connection, offered: list[bytes]) -> bytes | _NoOverlappingProtocols:
        for protocol in protocols:
            if protocol in offered:
                return protocol
        if others:
            return SSL.NO_OVERLAPPING_PROTOCOLS
        raise NoH2Error

    return choose
