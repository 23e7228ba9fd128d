"""Two ends of a TLS connection, tied together in memory, and a raw end that keeps none of our rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509
from OpenSSL import SSL

from ringfence.spiffe import SpiffeId, X509Svid
from sidecar.tls import TlsEndedError, TlsEngine, TlsFailed, TlsIdentity

CLIENT_SECRET = b"app bytes of the client"
SERVER_SECRET = b"app bytes of the server"


class End(Protocol):
    established: bool

    def start(self) -> bytes: ...
    def receive(self, data: bytes) -> bytes: ...
    def send(self, plaintext: bytes) -> None: ...
    def outgoing(self) -> bytes: ...


class RawEnd:
    """An end made from any pyOpenSSL context: what a peer that keeps no rules, or other rules, would be."""

    def __init__(self, context: SSL.Context, *, is_client: bool, session: SSL.Session | None = None) -> None:
        self.connection = SSL.Connection(context, None)
        if session is not None:
            session._context = (
                context  # pyOpenSSL would refuse a session of another context; an attacker's TLS does not
            )
            self.connection.set_session(session)
        (self.connection.set_connect_state if is_client else self.connection.set_accept_state)()
        self.established = False

    def start(self) -> bytes:
        self._shake()
        return self.outgoing()

    def receive(self, data: bytes) -> bytes:
        if data:
            self.connection.bio_write(data)
        if not self.established:
            self._shake()
        pieces = []
        try:
            while self.established:
                pieces.append(self.connection.recv(16384))
        except SSL.WantReadError:
            pass
        return b"".join(pieces)

    def send(self, plaintext: bytes) -> None:
        self.connection.send(plaintext)

    def outgoing(self) -> bytes:
        try:
            return self.connection.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    def _shake(self) -> None:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return
        self.established = True


def raw_context(
    svid: X509Svid | None,
    *,
    alpn: list[bytes] | None = [b"h2"],  # noqa: B006 - read only
    version: int = SSL.TLS1_3_VERSION,
    is_client: bool = True,
) -> SSL.Context:
    """A context that shows ``svid`` (None: nothing) and accepts whatever the other end shows."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if svid is not None:
        leaf, *above = (x509.load_der_x509_certificate(der) for der in svid.chain)
        context.use_certificate(leaf)
        context.use_privatekey(svid.private_key)
        for certificate in above:
            context.add_extra_chain_cert(certificate)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if alpn is not None and is_client:
        context.set_alpn_protos(alpn)
    if alpn is not None and not is_client:
        chosen = alpn[0]
        context.set_alpn_select_callback(lambda _connection, _offered: chosen)
    return context


@dataclass
class Outcome:
    """What came of a handshake in which each end sends its secret as soon as it may."""

    client_error: Exception | None = None
    server_error: Exception | None = None
    client_got: bytes = b""
    server_got: bytes = b""
    crossed: list[bytes] = field(default_factory=list)


def meet(client: End, server: End, *, split: Callable[[bytes], list[bytes]] | None = None) -> Outcome:
    """Move bytes between the two until neither has more to send; ``split`` cuts what is moved into pieces."""
    cut = split or (lambda data: [data])
    outcome = Outcome()
    told = {"client": False, "server": False}

    def step(name: str, end: End, secret: bytes, data: bytes) -> bytes:
        try:
            got = b"".join(end.receive(piece) for piece in cut(data)) if data else b""
            setattr(outcome, f"{name}_got", getattr(outcome, f"{name}_got") + got)
            if end.established and not told[name]:
                told[name] = True
                end.send(secret)
        except (TlsEndedError, SSL.Error) as error:
            if isinstance(error, TlsEndedError):
                setattr(outcome, f"{name}_got", getattr(outcome, f"{name}_got") + error.plaintext)
            setattr(outcome, f"{name}_error", error)
        return end.outgoing()

    to_server = client.start()
    for _ in range(16):
        outcome.crossed.append(to_server)
        to_client = step("server", server, SERVER_SECRET, to_server) if outcome.server_error is None else b""
        to_server = step("client", client, CLIENT_SECRET, to_client) if outcome.client_error is None else b""
        if not to_client and not to_server:
            return outcome
    raise AssertionError("the two ends never fell silent")


def connected(client: TlsIdentity, server: TlsIdentity) -> tuple[TlsEngine, TlsEngine]:
    """Both engines of an established connection, with nothing left in between."""
    dialling, accepting = client.client(frozenset({server.svid.spiffe_id})), server.server()
    to_server = dialling.start()
    while not (dialling.established and accepting.established):
        accepting.receive(to_server)
        dialling.receive(accepting.outgoing())
        to_server = dialling.outgoing()
    assert dialling.receive(accepting.outgoing()) == b""
    return dialling, accepting


def carry(sender: TlsEngine, receiver: TlsEngine, plaintext: bytes) -> bytes:
    """Send ``plaintext`` across; what the receiver made of it."""
    sender.send(plaintext)
    return receiver.receive(sender.outgoing())


def refused_by_peer(error: Exception | None) -> bool:
    """Whether ``error`` is an end's word for an alert from the other end."""
    if isinstance(error, TlsFailed):
        return error.by_peer
    return isinstance(error, SSL.Error) and "alert" in str(error)


def only(spiffe_id: SpiffeId) -> frozenset[SpiffeId]:
    return frozenset({spiffe_id})
