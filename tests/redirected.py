"""What transparent interception needs in a test without a kernel that redirects, and callers that have no sidecar."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from cryptography import x509
from OpenSSL import SSL

from ringfence.spiffe import SpiffeId, X509Svid
from sidecar.interception import Destination
from tests.tls_ends import raw_context

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Kernel:
    """Stands for the redirecting kernel: it knows of each connection dialled here where that meant to go."""

    def __init__(self) -> None:
        self._meant: dict[int, Destination] = {}

    def destination_of(self, sock: socket.socket) -> Destination | None:
        return self._meant.get(sock.getpeername()[1])

    async def dial(
        self, port: int, destination: Destination | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to loopback ``port`` as if redirected there from ``destination``; None: as if dialled directly."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            if destination is not None:
                self._meant[sock.getsockname()[1]] = destination
            else:
                self._meant.pop(sock.getsockname()[1], None)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise


class DirectClient:
    """A SPIFFE client without a sidecar: the app's own bytes inside mutual TLS, by plain pyOpenSSL.

    ``reader`` gives plaintext; it ends with the peer's close_notify, and fails with what the peer's TLS or TCP said
    otherwise. ``write`` and ``close`` are a StreamWriter's, so that an HTTP client can stand upon it.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, svid: X509Svid | None, **context: object
    ) -> None:
        self.reader = asyncio.StreamReader()
        self._in, self._out = reader, writer
        alpn = context.pop("alpn", None)
        self._tls = SSL.Connection(raw_context(svid, alpn=alpn, **context), None)  # type: ignore[arg-type]
        self._tls.set_connect_state()
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def over(
        cls,
        pair: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        svid: X509Svid | None,
        *,
        reading: bool = True,
        **context: object,
    ) -> DirectClient:
        """Shake hands on a connection; raises SSL.Error or ConnectionError when the server will not.

        By TLS 1.3 the client is done before the server has judged its certificate: a refusal of that is read later.
        ``reading``: read from now on; else from ``pump`` on.
        """
        client = cls(*pair, svid, **context)
        try:
            pair[1].write(await client.shake_but_hold())
        except BaseException:
            pair[1].close()
            raise
        if reading:
            client.pump()
        return client

    async def shake_but_hold(self) -> bytes:
        """Shake hands; the last flight is not sent but returned."""
        async with asyncio.timeout(10):
            while True:
                try:
                    self._tls.do_handshake()
                    return self.held()
                except SSL.WantReadError:
                    await self._swap()

    def held(self) -> bytes:
        """What waits to be sent."""
        pieces = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                pieces.append(self._tls.bio_read(65536))
        return b"".join(pieces)

    def pump(self) -> None:
        """Read from now on."""
        self._pump = asyncio.get_running_loop().create_task(self._read())

    @property
    def alpn(self) -> bytes:
        return self._tls.get_alpn_proto_negotiated()

    @property
    def server(self) -> SpiffeId:
        """Whom the server's certificate names."""
        leaf = self._tls.get_peer_certificate(as_cryptography=True)
        assert leaf is not None
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        return SpiffeId.parse(uri)

    def write(self, data: bytes) -> None:
        self._tls.sendall(data)
        self._send()

    async def drain(self) -> None:
        await self._out.drain()

    def half_close(self, last: bytes = b"") -> None:
        """Say ``last`` and close_notify in one write; what the peer says is still read."""
        if last:
            self._tls.sendall(last)
        self._tls.shutdown()
        if self._pump is not None:
            self._send()

    def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._out.close()

    def _send(self) -> None:
        self._out.write(self.held())

    async def _swap(self) -> None:
        self._send()
        data = await self._in.read(65536)
        if not data:
            raise ConnectionResetError("closed during the handshake")
        self._tls.bio_write(data)

    async def _read(self) -> None:
        try:
            while True:
                try:
                    self.reader.feed_data(self._tls.recv(65536))
                except SSL.WantReadError:
                    await self._swap()
        except SSL.ZeroReturnError:
            self.reader.feed_eof()
        except (SSL.Error, OSError) as error:
            self.reader.set_exception(error)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a TCP connection by RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
