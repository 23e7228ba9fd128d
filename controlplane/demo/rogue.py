"""Calls to a mesh port from outside the mesh's rules: with a stolen, forged, old or no certificate, or in plain text.

What comes back is what a rogue can see, which is little: an answer to CONNECT, a TLS alert, or nothing. Why it was
refused is in the log of the sidecar that refused, found there by the rogue's own port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from controlplane.demo.connect import Connect
from ringfence.kit.addresses import SocketAddress

DEADLINE_SECONDS: Final = 10.0
_PIECE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A certificate chain in DER, leaf first, and the leaf's key."""

    chain: Sequence[bytes]
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a rogue saw. ``local``: its own address, by which the refusing side logs it."""

    local: str
    answer: dict[str, str] | None = None
    """The headers that answered its CONNECT."""

    alert: str = ""
    """What its TLS engine said when the other side refused; empty if the connection was just closed."""


class _RogueTls:
    """TLS 1.3 over memory, trusting anybody: sans-IO."""

    def __init__(self, credentials: Credentials | None) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_verify(SSL.VERIFY_NONE)
        context.set_alpn_protos([b"h2"])
        if credentials is not None:
            leaf, *rest = (x509.load_der_x509_certificate(der) for der in credentials.chain)
            context.use_certificate(leaf)
            context.use_privatekey(credentials.private_key)
            for certificate in rest:
                context.add_extra_chain_cert(certificate)
        self._connection = SSL.Connection(context)
        self._connection.set_connect_state()
        self._shaken = False

    def receive(self, data: bytes) -> bytes:
        """Ciphertext in, plaintext out; SSL.Error when the other side refused or closed."""
        if data:
            self._connection.bio_write(data)
        try:
            if not self._shaken:
                self._connection.do_handshake()
                self._shaken = True
            plain = b""
            while True:
                plain += self._connection.recv(_PIECE_BYTES)
        except SSL.WantReadError:
            return plain if self._shaken else b""

    @property
    def shaken(self) -> bool:
        """The handshake is over as the client sees it; in TLS 1.3 that is before the server judges its certificate."""
        return self._shaken

    def send(self, plain: bytes) -> None:
        if plain:
            self._connection.sendall(plain)

    def outgoing(self) -> bytes:
        pieces = b""
        while True:
            try:
                pieces += self._connection.bio_read(_PIECE_BYTES)
            except SSL.WantReadError:
                return pieces


async def attempt_connect(mesh: SocketAddress, credentials: Credentials | None, authority: str) -> Attempt:
    """One TLS connection to ``mesh`` with ``credentials`` and one CONNECT in it. OSError if nobody listens."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_connection(mesh.host, mesh.port)
        local = _local(writer)
        try:
            tls, connect = _RogueTls(credentials), Connect(authority)
            started, received = False, b""
            while True:
                plain = tls.receive(received)
                if tls.shaken:
                    tls.send(connect.receive(plain) if started else connect.start() + connect.receive(plain))
                    started = True
                writer.write(tls.outgoing())
                await writer.drain()
                if connect.over or not (received := await reader.read(_PIECE_BYTES)):
                    break
            return Attempt(local=local, answer=connect.answer)
        except SSL.Error as error:
            return Attempt(local=local, alert=_alert(error))
        except ConnectionError as error:
            return Attempt(local=local, alert=error.strerror or "connection lost")
        finally:
            writer.close()


async def attempt_plaintext(mesh: SocketAddress, request: bytes) -> Attempt:
    """``request`` sent to the mesh port without TLS; an answer in HTTP counts as one."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_connection(mesh.host, mesh.port)
        local = _local(writer)
        try:
            writer.write(request)
            await writer.drain()
            received = await reader.read(_PIECE_BYTES)
        except ConnectionError as error:
            return Attempt(local=local, alert=error.strerror or "connection lost")
        finally:
            writer.close()
    if received.startswith(b"HTTP/"):
        return Attempt(local=local, answer={":status": received.split(b" ")[1].decode("ascii", "replace")})
    return Attempt(local=local, alert="answered by a TLS alert" if received else "")


def _local(writer: asyncio.StreamWriter) -> str:
    host, port = writer.get_extra_info("sockname")[:2]
    return str(SocketAddress(host, port))


def _alert(error: SSL.Error) -> str:
    """The last of OpenSSL's error strings, as ``tlsv13 alert certificate required``; ZeroReturnError has none."""
    queue = error.args[0] if error.args else ()
    return str(queue[-1][2]) if isinstance(queue, list | tuple) and queue and len(queue[-1]) == 3 else ""
