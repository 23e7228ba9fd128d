"""One inspector between a scripted client and a scripted server, driven as the relay drives it, with a transcript."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sidecar.http1 import Exchange, Heads, Inspector, Malformed

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\ngw!"
IDENTITY = b"x-forwarded-client-cert: URI=spiffe://shop.example/ns/shop/sa/web\r\n"


class Between:
    """The judge and the adapter in one. ``refuses`` says which requests are refused; the rest get ``inserted``."""

    def __init__(
        self,
        *,
        heads: Heads | None = None,
        inserted: bytes = b"",
        refuses: Callable[[Exchange], bool] = lambda _: False,
        close: bool = False,
        bad_gateway: bytes = BAD_GATEWAY,
    ) -> None:
        self.inserted = inserted
        self.refuses = refuses
        self.close = close
        self.bad_gateway = bad_gateway
        self.events: list[tuple[object, ...]] = []
        self.exchanges: list[Exchange] = []
        self.to_server = b""
        self.to_client = b""
        self.inspector = Inspector(self, heads or Heads())

    # the judge

    def request(self, exchange: Exchange) -> bytes | None:
        self.exchanges.append(exchange)
        self.events.append(("request", exchange.method, exchange.target, exchange.host, exchange.fields.length))
        if self.refuses(exchange):
            self.inspector.refuse(exchange, FORBIDDEN, self.close)
            return None
        return self.inserted

    def response(self, exchange: Exchange, status: int) -> None:
        self.events.append(("response", exchange.target, status))

    def done(self, exchange: Exchange) -> None:
        size = (exchange.request_bytes, exchange.response_bytes)
        self.events.append(("done", exchange.target, exchange.status, exchange.cut, *size))

    def malformed(self, reason: Malformed, detail: str) -> bytes:
        self.events.append(("malformed", reason))
        return BAD_REQUEST

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        self.events.append(("bad_response", exchange.target, reason))
        return self.bad_gateway

    # the adapter

    def client(self, *pieces: bytes) -> bytes:
        """Feed client bytes; what the server was sent for them."""
        before = len(self.to_server)
        for piece in pieces:
            self.to_server += self.inspector.from_client(piece)
            self._attend()
        return self.to_server[before:]

    def server(self, *pieces: bytes) -> bytes:
        """Feed server bytes; what the client was sent for them."""
        before = len(self.to_client)
        for piece in pieces:
            self.to_client += self.inspector.from_server(piece)
            self._attend()
        return self.to_client[before:]

    def client_eof(self) -> None:
        self.to_server += self.inspector.client_eof()
        self._attend()

    def server_eof(self) -> None:
        self.to_client += self.inspector.server_eof()
        self._attend()

    def _attend(self) -> None:
        if self.inspector.attention:
            self.to_client += self.inspector.take_client()
            self.to_server += self.inspector.take_server()

    # what tests ask

    @property
    def flaws(self) -> list[Malformed]:
        return [event[-1] for event in self.events if event[0] in ("malformed", "bad_response")]  # type: ignore[misc]

    @property
    def open_count(self) -> int:
        """Requests asked about and not yet done: 0 at the end of every life."""
        names = [event[0] for event in self.events]
        return names.count("request") - names.count("done")

    def state(self) -> tuple[object, ...]:
        inspector = self.inspector
        return (
            self.to_server,
            self.to_client,
            self.events,
            inspector.close_after,
            inspector.abort,
            inspector.raw,
            inspector.idle,
            inspector.paused,
            inspector.progress,
        )


def request(
    line: bytes = b"GET /orders HTTP/1.1", *fields: bytes, host: bytes | None = b"orders:8080", body: bytes = b""
) -> bytes:
    """A request from its line and field lines; a Host line is put first unless ``host`` is None."""
    lines = [line, *([b"Host: " + host] if host is not None else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def response(line: bytes = b"HTTP/1.1 200 OK", *fields: bytes, body: bytes | None = b"") -> bytes:
    """A response from its status line and field lines; a content-length is put last unless ``body`` is None."""
    lines = [line, *fields, *([b"Content-Length: %d" % len(body)] if body is not None else [])]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))
