"""A very small HTTP/1.1 server for the sidecar's own pages: one GET or HEAD a connection, then it closes.

It faces scrapers and probes, and whoever else can reach the port, so everything is bounded: connections, the head's
size, and the time from connect to the last byte of the answer. One request a connection leaves no framing to get
wrong: a body is refused, and whatever follows the head is never read as a request. Not on the data path.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

from ringfence.kit.log import Logger

HEAD_LIMIT_BYTES: Final = 4_096
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: status, media type and body."""

    status: int
    media_type: str
    body: bytes


Route = Callable[[], Page]
"""Makes the answer for one path; it runs in the event loop and must not block."""


def json_page(value: object, status: int = 200) -> Page:
    """``value`` as JSON."""
    body = json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"
    return Page(status, "application/json", body)


class LocalHttp:
    """The connections of one listener: what they may ask, how many there may be, how long each may take."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        log: Logger,
        connection_limit: int = 64,
        deadline_seconds: float = 10.0,
        admits: Callable[[asyncio.BaseTransport], bool] | None = None,
    ) -> None:
        self.routes = dict(routes)
        self.log = log
        self.deadline_seconds = deadline_seconds
        self._connection_limit = connection_limit
        self._admits = admits
        self._open: set[Connection] = set()

    def protocol(self) -> Connection:
        """A protocol for one accepted connection."""
        return Connection(self)

    def enter(self, connection: Connection, transport: asyncio.BaseTransport) -> bool:
        """Take a connection in; False: it is one too many, or its peer may not ask here."""
        if len(self._open) >= self._connection_limit or (self._admits is not None and not self._admits(transport)):
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        self._open.discard(connection)

    def close(self) -> None:
        """End every connection at once."""
        for connection in tuple(self._open):
            connection.abort()

    @property
    def connections(self) -> int:
        return len(self._open)


class Connection(asyncio.Protocol):
    """One connection: read a head, answer, close."""

    def __init__(self, server: LocalHttp) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._head = bytearray()
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        if not self._server.enter(self, transport):
            transport.abort()
            return
        self._transport = transport
        # One deadline for all of it: a peer that reads slowly is no better than one that writes slowly.
        self._deadline = asyncio.get_running_loop().call_later(self._server.deadline_seconds, self.abort)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._answered:
            return
        self._head += data[: HEAD_LIMIT_BYTES + 1]
        end = self._head.find(_HEAD_END, 0, HEAD_LIMIT_BYTES)
        if end >= 0:
            self._answer(bytes(self._head[:end]))
        elif len(self._head) >= HEAD_LIMIT_BYTES:
            self._send(_plain(431, f"head above {HEAD_LIMIT_BYTES} bytes"), with_body=True)

    def eof_received(self) -> bool:
        # A client that half-closes after its request still gets the answer.
        if not self._answered:
            self.abort()
        return self._answered

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self._server.leave(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, head: bytes) -> None:
        request_line, *lines = head.split(b"\r\n")
        parts = request_line.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1].startswith(b"/"):
            self._send(_plain(400, "not an HTTP/1.1 request"), with_body=True)
            return
        method, target, _ = parts
        if method not in (b"GET", b"HEAD"):
            self._send(_plain(405, "only GET and HEAD are served"), with_body=True)
            return
        if any(name in (b"content-length", b"transfer-encoding") for name in map(_field_name, lines)):
            self._send(_plain(400, "a request here has no body"), with_body=True)
            return
        self._send(self._page(target), with_body=method == b"GET")

    def _page(self, target: bytes) -> Page:
        path = target.partition(b"?")[0].decode("latin-1")
        route = self._server.routes.get(path)
        if route is None:
            return _plain(404, f"no such page; there are: {' '.join(sorted(self._server.routes))}")
        try:
            return route()
        except Exception as error:  # the page's fault ends this request, not the server
            self._server.log.error("page failed", path=path, error=f"{type(error).__name__}: {error}")
            return _plain(500, "the page failed; the log says why")

    def _send(self, page: Page, *, with_body: bool) -> None:
        self._answered = True
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\n"
            f"content-type: {page.media_type}\r\ncontent-length: {len(page.body)}\r\n"
            f"{'allow: GET, HEAD' + chr(13) + chr(10) if page.status == 405 else ''}"
            "cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + (page.body if with_body else b""))
        self._transport.close()


def _field_name(line: bytes) -> bytes:
    return line.partition(b":")[0].strip().lower()


def _plain(status: int, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode() + b"\n")
