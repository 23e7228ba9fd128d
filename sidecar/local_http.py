"""A very small HTTP/1.1 server for the sidecar's own pages: one request a connection, then it closes.

It faces scrapers and probes, and whoever else can reach the port, so everything is bounded: connections, the sizes of
head and body, and the time from connect to the last byte of the answer. One request a connection leaves no framing to
get wrong: only a POST that is served may have a body, of a length told beforehand, and whatever follows is never read
as a request. An answer may go on as a feed, until either side closes. Not on the data path.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

from ringfence.kit.log import Logger
from ringfence.kit.remote import remote_host

HEAD_LIMIT_BYTES: Final = 4_096
BODY_LIMIT_BYTES: Final = 1_024
_LINE_END: Final = "\r\n"
_HEAD_END: Final = b"\r\n\r\n"
# The standard library's would cost the process a tenth of a megabyte.
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")


class Feed(Protocol):
    """What goes on being sent behind a page's body, by ``write``, until either side closes."""

    def started(self, write: Callable[[bytes], None]) -> None: ...

    def full(self) -> None:
        """The reader is slow: write no more until ``room``."""

    def room(self) -> None: ...

    def gone(self) -> None:
        """The connection is over; called once."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: status, media type and body, and what follows it, if anything does."""

    status: int
    media_type: str
    body: bytes
    feed: Feed | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as a page may care for it."""

    query: str
    """Behind the "?", undecoded."""
    body: bytes


class BadRequestError(Exception):
    """The request cannot be served as it is: status 400, with this line."""


class HangUpError(Exception):
    """The connection is to end without an answer."""


Route = Callable[[], Page]
"""Makes the answer for one path; it runs in the event loop and must not block."""

Answering = Callable[[Asked], Page | Awaitable[Page]]
"""A route that reads its request, and may have to wait for its answer; raises BadRequestError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbs:
    """A path that is more than a page to look at; ``seconds``: how much longer than others it may take to answer."""

    get: Answering | None = None
    post: Answering | None = None
    seconds: float = 0.0

    @property
    def allow(self) -> str:
        return ", ".join(("GET, HEAD",) * (self.get is not None) + ("POST",) * (self.post is not None))


def json_page(value: object, status: int = 200) -> Page:
    """``value`` as JSON."""
    body = json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"
    return Page(status, "application/json", body)


class LocalHttp:
    """The connections of one listener: what they may ask, how many there may be, how long each may take."""

    def __init__(
        self,
        routes: Mapping[str, Route | Verbs],
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
        self._open: dict[Connection, None] = {}  # in the order of their coming

    def protocol(self) -> Connection:
        """A protocol for one accepted connection."""
        return Connection(self)

    def enter(self, connection: Connection, transport: asyncio.BaseTransport) -> bool:
        """Take a connection in; False: it is one too many, or its peer may not ask here.

        When all places are taken, one goes of the source that has the most: the oldest that has not asked yet, or else
        the oldest. Whoever holds connections open, or does not take the answers that he asked for, must not keep a
        probe out, since the kubelet kills what it cannot ask. Who has the most himself takes no place of others.
        """
        if self._admits is not None and not self._admits(transport):
            return False
        connection.source = remote_host(transport)
        if len(self._open) >= self._connection_limit:
            gone = self._one_too_many(connection.source)
            if gone is None:
                return False
            gone.abort()
            self.leave(gone)
        self._open[connection] = None
        return True

    def _one_too_many(self, comer: str) -> Connection | None:
        counted = Counter([comer, *(one.source for one in self._open)])  # the first of equals is the comer
        crowded, _ = counted.most_common(1)[0]
        theirs = [one for one in self._open if one.source == crowded]
        idle = next((one for one in theirs if not one.has_asked), None)
        return idle if idle is not None or crowded == comer else theirs[0]

    def leave(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def close(self) -> None:
        """End every connection at once."""
        for connection in tuple(self._open):
            connection.abort()

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def asked(self) -> int:
        """Of these, those whose request is there."""
        return sum(one.has_asked for one in self._open)


class Connection(asyncio.Protocol):
    """One connection: read a head, answer, close."""

    def __init__(self, server: LocalHttp) -> None:
        self._server = server
        self.source = ""
        """The address that it comes from; empty where there is none, as on a Unix socket."""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._head = bytearray()
        self._post: tuple[Answering, Asked, int] | None = None  # waits for that many bytes of body
        self._feed: Feed | None = None
        self._later: asyncio.Task[None] | None = None  # waits for an answer
        self._answered = False

    @property
    def has_asked(self) -> bool:
        """Whether its request is there, or as much of it as says where it goes."""
        return self._answered or self._post is not None

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
        if self._post is not None:
            self._body(data)
            return
        self._head += data[: HEAD_LIMIT_BYTES + 1]
        end = self._head.find(_HEAD_END, 0, HEAD_LIMIT_BYTES)
        if end >= 0:
            self._answer(bytes(self._head[:end]), bytes(self._head[end + 4 :]) + data[HEAD_LIMIT_BYTES + 1 :])
        elif len(self._head) >= HEAD_LIMIT_BYTES:
            self._send(plain_page(431, f"head above {HEAD_LIMIT_BYTES} bytes"), with_body=True)

    def eof_received(self) -> bool:
        # A client that half-closes after its request still gets the answer; one that wants a feed stays.
        if not self._answered or self._feed is not None:
            self.abort()
        return self._answered and self._feed is None

    def pause_writing(self) -> None:
        if self._feed is not None:
            self._feed.full()

    def resume_writing(self) -> None:
        if self._feed is not None:
            self._feed.room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        if self._later is not None:
            self._later.cancel()
        self._server.leave(self)
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.gone()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, head: bytes, rest: bytes) -> None:
        request_line, *lines = head.split(b"\r\n")
        parts = request_line.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1].startswith(b"/"):
            self._send(plain_page(400, "not an HTTP/1.1 request"), with_body=True)
            return
        method, target, _ = parts
        path, _, query = target.decode("latin-1").partition("?")
        route = self._server.routes.get(path)
        allow = route.allow if isinstance(route, Verbs) else "GET, HEAD"
        if method.decode("latin-1") not in allow.split(", "):
            self._send(plain_page(405, f"this page serves {allow}"), with_body=True, allow=allow)
            return
        if method == b"POST" and isinstance(route, Verbs) and route.post is not None:
            self._posted(route.post, query, lines, rest)
            return
        if any(name in (b"content-length", b"transfer-encoding") for name in map(_field_name, lines)):
            self._send(plain_page(400, "a request here has no body"), with_body=True)
            return
        self._give(self._page(path, route, query), with_body=method == b"GET")

    def _posted(self, post: Answering, query: str, lines: list[bytes], rest: bytes) -> None:
        fields = [(_field_name(line), line.partition(b":")[2].strip()) for line in lines]
        lengths = [value for name, value in fields if name == b"content-length"] or [b"0"]
        if any(name == b"transfer-encoding" for name, _ in fields) or len(lengths) > 1:
            self._send(plain_page(400, "a body here has one content-length and no transfer-encoding"), with_body=True)
        elif _LENGTH.fullmatch(lengths[0]) is None:
            self._send(plain_page(400, "content-length is no number"), with_body=True)
        elif int(lengths[0]) > BODY_LIMIT_BYTES:
            self._send(plain_page(413, f"body above {BODY_LIMIT_BYTES} bytes"), with_body=True)
        else:
            self._post = (post, Asked(query, b""), int(lengths[0]))
            self._body(rest)

    def _body(self, data: bytes) -> None:
        assert self._post is not None
        post, asked, length = self._post
        asked = Asked(asked.query, (asked.body + data[:length])[:length])
        self._post = (post, asked, length)
        if len(asked.body) == length:
            self._give(self._made(lambda: post(asked)), with_body=True)

    def _page(self, path: str, route: Route | Verbs | None, query: str) -> Page | Awaitable[Page]:
        if route is None:
            return plain_page(404, f"no such page; there are: {' '.join(sorted(self._top_pages()))}")
        if isinstance(route, Verbs):
            get = route.get
            assert get is not None  # else it would not be allowed
            self._allow(route.seconds)
            return self._made(lambda: get(Asked(query, b"")))
        return self._made(route)

    def _top_pages(self) -> list[str]:
        """Not those below them: what a pod declares is nobody's business."""
        return [path for path in self._server.routes if path.count("/") == 1]

    def _allow(self, seconds: float) -> None:
        """So much more time."""
        if seconds and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = asyncio.get_running_loop().call_later(self._server.deadline_seconds + seconds, self.abort)

    def _made(self, make: Callable[[], Page | Awaitable[Page]]) -> Page | Awaitable[Page]:
        try:
            return make()
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> Page:
        if isinstance(error, BadRequestError):
            return plain_page(400, str(error))
        # The page's fault ends this request, not the server.
        path = self._head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")
        self._server.log.error("page failed", path=path, error=f"{type(error).__name__}: {error}")
        return plain_page(500, "the page failed; the log says why")

    def _give(self, page: Page | Awaitable[Page], *, with_body: bool) -> None:
        """Send a page, now or when it is there; the deadline of the connection goes on."""
        if isinstance(page, Page):
            self._send(page, with_body=with_body)
            return
        self._answered = True  # nothing more is read

        async def later() -> None:
            try:
                found = await page
            except HangUpError:
                self.abort()
                return
            except Exception as error:
                found = self._failed(error)
            self._send(found, with_body=with_body)

        self._later = asyncio.get_running_loop().create_task(later(), name="page")

    def _send(self, page: Page, *, with_body: bool, allow: str = "") -> None:
        self._answered = True
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {page.status} {_PHRASES.get(page.status, '-')}\r\n"
            f"content-type: {page.media_type}\r\n"
            f"{f'content-length: {len(page.body)}{_LINE_END}' if page.feed is None else ''}"
            f"{f'allow: {allow}{_LINE_END}' if allow else ''}"
            "cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + (page.body if with_body else b""))
        if page.feed is None or not with_body:
            self._transport.close()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._feed = page.feed
        self._feed.started(self._transport.write)


def _field_name(line: bytes) -> bytes:
    return line.partition(b":")[0].strip().lower()


def plain_page(status: int, text: str) -> Page:
    """One line of text."""
    return Page(status, "text/plain; charset=utf-8", text.encode() + b"\n")
