"""The machine on one application connection: every request of it is framed, judged and passed on; so is every response.

Theory of operation. Requests and responses are two streams of bytes; what ties them is the queue of outstanding
exchanges, since how a response is framed depends on its request (HEAD, upgrades), and a response without a request is
an attack. `_current` is the exchange whose response is due, `_later` holds those behind it. Client bytes are in one
of six steps:

    HEAD     a request head is due; the start of one may lie in `_partial`
    BODY     the current request's body passes through
    SWALLOW  the body of a request that was refused is dropped, up to a bound
    HOLD     an upgrade was offered: what follows is HTTP if the server declines and raw if it accepts, so it waits
    RAW      upgraded: bytes pass
    DEAD     nothing more is read: refused for good, or the client said that this was its last request

Server bytes are in HEAD, BODY, RAW or DEAD. Responses made on this side (refusals) wait in the queue for their turn.

The hot path is the first dozen lines of `from_client` and of `from_server`: one chunk that is one whole message with
a field block seen before, on a connection with nothing else in flight. Everything else takes the slow path, which
gives the same bytes and the same calls; tests hold the two to that. `_ready` and `_simple` are the one-look guards of
the two.

The adapter writes what a call returns, and then, if `attention` is set, looks at the rest: `take_client`, `take_server`
(bytes to send after what the call returned), `paused`, `raw`, `close_after`, `abort`.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.body import CountedBody
from sidecar.http1.exchange import Exchange
from sidecar.http1.head import HEAD_LIMIT_BYTES
from sidecar.http1.outstanding import BODY, DEAD, SWALLOW
from sidecar.http1.reasons import Malformed, MalformedError
from sidecar.http1.response_side import ResponseSide
from sidecar.http1.websocket import close_frame

_COMMON_LINE: Final = re.compile(rb"(GET|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\x22$-~]{0,16000})").fullmatch
"""What `read_request_line` and `origin_form` would accept unchanged, in one step; HEAD and TRACE need the long way."""
_VERSION: Final = b" HTTP/1.1\r\n"
_VERSION_BYTES: Final = len(_VERSION)


class Inspector(ResponseSide):
    """One application connection, seen from between client and server. See the module's docstring.

    attention     something besides the returned bytes changed; `take_client` clears it
    paused        feed no more client bytes until this is cleared (which sets `attention`)
    raw           upgraded: both directions pass unread from here on
    close_after   write what there is, then close both connections
    abort         with `close_after`: a message was cut off, so end both connections abortively, never as if complete
    client_bytes, server_bytes    received from either
    """

    __slots__ = ()

    # --- bytes ---

    def from_client(self, data: bytes) -> bytes:
        """Take client bytes; returns what the server is to be sent."""
        if self._ready:
            start = data.find(_VERSION)
            end = data.find(b"\r\n\r\n", start) + 4
            line = _COMMON_LINE(data, 0, start)
            if line is not None and 4 <= end <= HEAD_LIMIT_BYTES:
                key = data[start:end]
                fields = self._known_requests(key) or self._heads.lawful_request(key)
                if fields is not None and fields.plain:
                    size = len(data)
                    missing = end + fields.length - size
                    if missing >= 0:
                        method, target = line.groups()
                        exchange = Exchange(method, target, fields, size)
                        if missing:
                            exchange.request_open = True
                            self._body = CountedBody(missing)
                            self._client_step = BODY
                        self._current = self._newest = exchange
                        self._ready = False
                        self.client_bytes += size
                        inserted = self._judge_request(exchange)
                        if inserted is not None:
                            self._simple = not missing
                            if not inserted and exchange.fields.untouched:
                                return data
                            # The judge may have put other fields in the place of those that came.
                            return data[: start + _VERSION_BYTES] + inserted + exchange.fields.forward + data[end:]
                        if self._waits:
                            self._take_back(exchange)
                            self._hold(data)
                        else:
                            self._refused(exchange)
                        self._settle()
                        return b""
        return self._client_slow(data)

    def from_server(self, data: bytes) -> bytes:
        """Take server bytes; returns what the client is to be sent."""
        if self._simple:
            end = data.find(b"\r\n\r\n") + 4
            exchange = self._current
            if 4 <= end <= HEAD_LIMIT_BYTES and exchange is not None:
                head = data[:end]
                fields = self._known_responses(head) or self._heads.lawful_response(head)
                if fields is not None and fields.plain:
                    size = len(data)
                    missing = end + fields.length - size
                    if missing >= 0:
                        exchange.status = fields.status
                        exchange.response_bytes = size
                        self.server_bytes += size
                        self._simple = False
                        self._judge_response(exchange, fields.status)
                        if missing:
                            self._response_keeps = True
                            self._response_body = CountedBody(missing)
                            self._server_step = BODY
                        else:
                            exchange.response_open = False
                            self._current = None
                            self._ready = True
                            self._judge_done(exchange)
                        return data if fields.untouched else fields.forward + data[end:]
        return self._server_slow(data)

    # --- what the adapter looks at ---

    @property
    def idle(self) -> bool:
        """No request is outstanding."""
        return self._current is None

    @property
    def newest(self) -> Exchange | None:
        """The exchange whose request came last, ended or not."""
        return self._newest

    @property
    def progress(self) -> str:
        """For what the connection waits, so that a sweep can set its deadline: ``raw``, ``closed``, ``request_body``
        (of the newest request), ``request_head`` (begun, not complete), ``response`` or ``idle``."""
        if self.close_after:
            return "closed"
        if self.raw:
            return "raw"
        if self._client_step in (BODY, SWALLOW):
            return "request_body"
        if self._partial:
            return "request_head"
        return "idle" if self._current is None else "response"

    def take_client(self) -> bytes:
        """Bytes for the client that were made on this side; to be sent after what the last call returned for it.

        Clears `attention`: the first thing to look at when it is set.
        """
        self.attention = False
        joined = b"".join(self._client_out)
        self._client_out.clear()
        return joined

    def take_server(self) -> bytes:
        """Client bytes that had been held and may now go to the server."""
        joined = b"".join(self._server_out)
        self._server_out.clear()
        return joined

    # --- what the adapter tells ---

    def fail(self, response: bytes) -> None:
        """The server will not answer what it was sent: give ``response`` (as for `refuse`) for the request whose
        response is due, and close. If a part of its response has gone on already, or ``response`` is empty, abort."""
        exchange = self._current
        if exchange is None:
            self._shut(abort=False)
        elif exchange.status or not response:
            self._shut(abort=True)
        else:
            self._client_step = DEAD
            exchange.request_open = False
            exchange.cut = True
            self._answer(exchange, response, close=True)
            self._flush(self._client_out)

    def farewell(self, code: int, reason: str) -> bytes:
        """What tells the client of a WebSocket that it is ended for ``reason``, if that can be told between two frames
        of the server's; the connection is to be ended then."""
        return close_frame(code, reason) if self._frames is not None and self._frames.between else b""

    def drain(self, *, patient: bool = False) -> None:
        """End the connection between exchanges: the last response that is due says ``connection: close``.

        ``patient``: where none is due, the next one says it. A connection that is closed while it is idle may be closed
        upon a request that is under way.
        """
        if self._current is None and not self._waits and not patient:
            self._shut(abort=False)
        elif not self.raw:
            self._draining = True
            self._settle()

    def go_on(self) -> None:
        """What the request that waits needs is known: judge it. Not from within a call of the judge."""
        self._waits = False
        self._resume()
        self._settle()

    def client_eof(self) -> bytes:
        """The client will send no more; returns what the server is still to be sent. Inside a request, that is
        `abort`."""
        self.client_ended = True
        if not self._held and not self.raw:
            self._check_client_end()
            self._settle()
        return b""

    def server_eof(self) -> bytes:
        """The server will send no more; returns what the client is still to be sent.

        Between responses, or where nothing else ends a body, that is a lawful end (`close_after`). A response that
        had not begun is answered in the server's place; one that was cut off is `abort`.
        """
        exchange = self._current
        if self.raw or self._server_step == DEAD:
            return b""
        out: list[bytes] = []
        if exchange is None or not exchange.response_open:
            self._shut(abort=False)
        elif self._server_step == BODY and self._response_body.endless:
            exchange.response_open = False
            self._finish()
            self._shut(abort=False)
        else:
            reason = Malformed.TRUNCATED if self._response_partial else Malformed.NO_RESPONSE
            if exchange.status:
                reason = Malformed.TRUNCATED
            error = MalformedError(reason, "the server closed before its response was complete")
            self._malformed_response(error, out)
        return b"".join(out)

    def cut(self) -> None:
        """The connection is over: every exchange that is still outstanding is done, and `cut` unless it was
        upgraded."""
        self._shut(abort=False)
