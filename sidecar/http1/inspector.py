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
from collections import deque
from typing import Final

from sidecar.http1.body import Body, CountedBody, body_for
from sidecar.http1.ending import as_answer, head_end, with_close
from sidecar.http1.exchange import Exchange, Judge
from sidecar.http1.head import CHUNKED, Heads, RequestFields
from sidecar.http1.lines import origin_form, read_request_line, starts_like_method
from sidecar.http1.reasons import Malformed, MalformedError, shown

OUTSTANDING_LIMIT: Final = 64
"""Requests in flight on one connection; the machine is paused beyond."""
SWALLOW_LIMIT_BYTES: Final = 64 * 1024
"""A refused request's body up to this is read and dropped, and the connection lives on."""
HELD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""What a paused machine takes, for bytes that were under way; more and it closes."""
INTERIM_LIMIT: Final = 32
"""1xx responses to one request."""

_HEAD: Final = 0
_BODY: Final = 1
_SWALLOW: Final = 2
_HOLD: Final = 3
_RAW: Final = 4
_DEAD: Final = 5


_COMMON_LINE: Final = re.compile(rb"(GET|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\x22$-~]{0,16000})").fullmatch
"""What `read_request_line` and `origin_form` would accept unchanged, in one step; HEAD and TRACE need the slow path."""
_NOTHING: Final = RequestFields(
    block=b"", forward=b"", http11=True, host=b"", length=0, keep_alive=False, expect_continue=False, upgrade=()
)


class Inspector:
    """One application connection, seen from between client and server. See the module's docstring.

    attention     something besides the returned bytes changed since the adapter last cleared this flag
    paused        feed no more client bytes until this is cleared (which sets `attention`)
    raw           upgraded: both directions pass unread from here on
    close_after   write what there is, then close both connections
    abort         with `close_after`: a message was cut off, so end both connections abortively, never as if complete
    client_bytes, server_bytes    received from either
    """

    __slots__ = (
        "_blank",
        "_body",
        "_client_out",
        "_client_step",
        "_current",
        "_draining",
        "_heads",
        "_held",
        "_interim",
        "_judge",
        "_judge_done",
        "_judge_request",
        "_judge_response",
        "_known_requests",
        "_known_responses",
        "_later",
        "_newest",
        "_partial",
        "_ready",
        "_response_body",
        "_response_keeps",
        "_response_partial",
        "_server_out",
        "_server_step",
        "_simple",
        "abort",
        "attention",
        "client_bytes",
        "client_ended",
        "close_after",
        "paused",
        "raw",
        "server_bytes",
    )

    def __init__(self, judge: Judge, heads: Heads) -> None:
        self._judge = judge
        self._judge_request = judge.request
        self._judge_response = judge.response
        self._judge_done = judge.done
        self._heads = heads
        self._known_requests = heads.requests.get
        self._known_responses = heads.responses.get
        self._current: Exchange | None = None
        self._later: deque[Exchange] = deque()
        self._newest: Exchange | None = None
        self._client_step = _HEAD
        self._server_step = _HEAD
        self._ready = True
        self._simple = False
        self._blank = False
        self._partial = bytearray()
        self._response_partial = bytearray()
        self._held = bytearray()
        self._body: Body = CountedBody(0)
        self._response_body: Body = self._body
        self._response_keeps = True
        self._interim = 0
        self._draining = False
        self._client_out: list[bytes] = []
        self._server_out: list[bytes] = []
        self.attention = False
        self.paused = False
        self.raw = False
        self.close_after = False
        self.abort = False
        self.client_ended = False
        self.client_bytes = 0
        self.server_bytes = 0

    # --- what the adapter looks at ---

    @property
    def idle(self) -> bool:
        """No request is outstanding."""
        return self._current is None

    def outstanding(self) -> list[Exchange]:
        """The exchanges that have been judged and have not ended, oldest first."""
        current = self._current
        return [exchange for exchange in (current, *self._later) if exchange is not None and exchange.method]

    @property
    def progress(self) -> str:
        """For what the connection waits, so that a sweep can set its deadline: ``raw``, ``closed``, ``request_body``
        (of the newest request), ``request_head`` (begun, not complete), ``response`` or ``idle``."""
        if self.close_after:
            return "closed"
        if self.raw:
            return "raw"
        if self._client_step in (_BODY, _SWALLOW):
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

    # --- bytes from the client ---

    def from_client(self, data: bytes) -> bytes:
        """Take client bytes; returns what the server is to be sent."""
        if self._ready:
            start = data.find(b" HTTP/1.1\r\n")
            end = data.find(b"\r\n\r\n", start) + 4
            fields = self._known_requests(data[start:end])
            if fields is not None and fields.plain and end + fields.length == len(data):
                line = _COMMON_LINE(data, 0, start)
                if line is not None:
                    method, target = line.groups()
                    exchange = Exchange(method, target, fields, len(data))
                    self._current = self._newest = exchange
                    self._ready = False
                    self.client_bytes += len(data)
                    inserted = self._judge_request(exchange)
                    if inserted is not None:
                        self._simple = True
                        if not inserted and fields.untouched:
                            return data
                        return data[: start + 11] + inserted + fields.forward + data[end:]
                    self._refused(exchange)
                    self._settle()
                    return b""
        return self._client_slow(data)

    def _client_slow(self, data: bytes) -> bytes:
        self.client_bytes += len(data)
        if self._client_step == _DEAD:
            return b""
        if self._client_step == _RAW:
            if self._current is not None:
                self._current.request_bytes += len(data)
            return data
        if self._held:
            self._hold(data)
            return b""
        out: list[bytes] = []
        self._read_client(data, out)
        self._settle()
        return out[0] if len(out) == 1 else b"".join(out)

    def _read_client(self, data: bytes, out: list[bytes]) -> None:
        try:
            if self._partial:
                scanned = len(self._partial)
                self._partial += data
                if self._request_head_end(self._partial, 0, scanned) < 0:
                    return
                data = bytes(self._partial)
                self._partial.clear()
            pos = 0
            size = len(data)
            while pos < size:
                step = self._client_step
                if step == _BODY:
                    pos = self._read_request_body(data, pos, out)
                elif step == _SWALLOW:
                    pos = self._read_request_body(data, pos, [])
                elif step == _HOLD or (step == _HEAD and len(self._later) + 1 >= OUTSTANDING_LIMIT):
                    self._hold(data[pos:])
                    return
                elif step == _HEAD:
                    if data[pos] == 0x0D and data[pos + 1 : pos + 2] == b"\n" and not self._blank:
                        self._blank = True
                        pos += 2
                        continue
                    end = self._request_head_end(data, pos, pos)
                    if end < 0:
                        self._partial += data[pos:]
                        return
                    self._blank = False
                    self._open_request(data[pos:end], out)
                    pos = end
                else:
                    return
        except MalformedError as error:
            self._malformed_request(error)

    def _request_head_end(self, data: bytes | bytearray, pos: int, scanned: int) -> int:
        """As `head_end`. One empty line before a request is dropped (RFC 9112 section 2.2), a second one is not."""
        if not starts_like_method(data[pos]):
            lead = bytes(data[pos : pos + 2])
            if lead == b"\r" and not self._blank:
                return -1
            if lead == b"\r\n" and not self._blank:
                return pos + 2
            raise MalformedError(Malformed.BAD_REQUEST_LINE, f"a request does not begin with {shown(lead)}")
        return head_end(data, pos, scanned)

    def _open_request(self, head: bytes, out: list[bytes]) -> None:
        line_end = head.index(b"\r\n")
        method, target, version = read_request_line(head[:line_end])
        fields = self._heads.judge_request(head[line_end - 9 :])
        target = origin_form(method, target, fields.host)
        length = fields.length
        if length and method == b"TRACE":
            raise MalformedError(Malformed.BODY_ON_TRACE, "TRACE with a body")
        exchange = Exchange(method, target, fields, len(head))
        exchange.request_open = length != 0
        self._push(exchange)
        inserted = self._judge_request(exchange)
        if inserted is None:
            self._refused(exchange)
            return
        out.append(b"%b %b %b\r\n%b%b" % (method, target, version, inserted, fields.forward))
        if length:
            self._body = body_for(length, self._heads)
            self._client_step = _BODY
        else:
            self._request_ended(exchange)

    def _read_request_body(self, data: bytes, pos: int, out: list[bytes]) -> int:
        exchange = self._newest
        assert exchange is not None
        end = self._body.take(data, pos, out)
        exchange.request_bytes += end - pos
        if self._body.ended:
            self._request_ended(exchange)
        return end

    def _request_ended(self, exchange: Exchange) -> None:
        """The newest request is complete: say what may follow it."""
        exchange.request_open = False
        fields = exchange.fields
        if not fields.keep_alive:
            self._client_step = _DEAD
        elif fields.upgrade and not exchange.status and exchange.local is None:
            self._client_step = _HOLD
        else:
            self._client_step = _HEAD
        if not exchange.response_open:
            self._finish()

    def _hold(self, data: bytes) -> None:
        if len(self._held) + len(data) > HELD_LIMIT_BYTES:
            self._malformed_request(
                MalformedError(Malformed.HELD_TOO_MUCH, f"above {HELD_LIMIT_BYTES} bytes while paused")
            )
            self._held.clear()
            return
        self._held += data
        if not self.paused:
            self.paused = self.attention = True

    def _malformed_request(self, error: MalformedError) -> None:
        """Answer 400 in its turn, and read no more of the client."""
        response = self._judge.malformed(error.reason, error.detail)
        self._partial.clear()
        self._client_step = _DEAD
        newest = self._newest
        if newest is None or not newest.request_open:
            newest = Exchange(b"", b"", _NOTHING, 0)
            self._push(newest)
        else:
            newest.request_open = False
            newest.cut = True
            if newest.status or not newest.response_open:
                self._shut(abort=newest.response_open)
                return
        newest.local = as_answer(response, close=True, head_only=newest.method == b"HEAD")
        newest.local_close = True
        self._flush(self._client_out)

    # --- answers made on this side ---

    def refuse(self, exchange: Exchange, response: bytes, close: bool = False) -> None:
        """Say what a refused request is answered; only from within `Judge.request`, which then returns None.

        ``response`` is whole, with a content-length and without a connection field. It leaves in its turn. The
        connection closes after it if ``close``, or if more of the request's body may come than is worth swallowing.
        """
        exchange.local = response
        exchange.local_close = close

    def fail(self, response: bytes) -> None:
        """The server will not answer what it was sent: give ``response`` (as for `refuse`) for the request whose
        response is due, and close. If a part of its response has gone on already, or ``response`` is empty, abort."""
        exchange = self._current
        if exchange is None:
            self._shut(abort=False)
        elif exchange.status or not response:
            self._shut(abort=True)
        else:
            self._client_step = _DEAD
            exchange.request_open = False
            exchange.cut = True
            exchange.local = as_answer(response, close=True, head_only=exchange.method == b"HEAD")
            exchange.local_close = True
            self._flush(self._client_out)

    def drain(self) -> None:
        """End the connection between exchanges: the last response that is due says ``connection: close``."""
        if self._current is None:
            self._shut(abort=False)
        elif not self.raw:
            self._draining = True
            self._settle()

    def _refused(self, exchange: Exchange) -> None:
        """Queue the refusal, and decide what becomes of the request's body and of the connection."""
        if exchange.local is None:
            self._shut(abort=True)
            return
        fields = exchange.fields
        length = fields.length
        unknown = length != 0 and (length < 0 or length > SWALLOW_LIMIT_BYTES or fields.expect_continue)
        close = exchange.local_close or unknown or not fields.keep_alive or not fields.http11 or self._draining
        exchange.local = as_answer(exchange.local, close=close, head_only=exchange.method == b"HEAD")
        exchange.local_close = close
        if close:
            exchange.request_open = False
            self._client_step = _DEAD
        elif exchange.request_open:
            self._body = CountedBody(length)
            self._client_step = _SWALLOW
        self._flush(self._client_out)

    def _flush(self, out: list[bytes]) -> None:
        """Give the answers of this side whose turn has come."""
        while (exchange := self._current) is not None and exchange.local is not None and exchange.response_open:
            out.append(exchange.local)
            exchange.response_open = False
            self.attention = True
            if exchange.request_open:
                return
            self._finish()
            if exchange.local_close:
                self._shut(abort=False)

    # --- bytes from the server ---

    def from_server(self, data: bytes) -> bytes:
        """Take server bytes; returns what the client is to be sent."""
        if self._simple:
            end = data.find(b"\r\n\r\n") + 4
            fields = self._known_responses(data[:end])
            if fields is not None and fields.plain and end + fields.length == len(data):
                exchange = self._current
                if exchange is not None:
                    exchange.status = fields.status
                    exchange.response_bytes = len(data)
                    self.server_bytes += len(data)
                    self._judge_response(exchange, fields.status)
                    exchange.response_open = False
                    self._current = None
                    self._simple = False
                    self._ready = True
                    self._judge_done(exchange)
                    return data if fields.untouched else fields.forward + data[end:]
        return self._server_slow(data)

    def _server_slow(self, data: bytes) -> bytes:
        self.server_bytes += len(data)
        if self._server_step == _DEAD:
            return b""
        if self._server_step == _RAW:
            if self._current is not None:
                self._current.response_bytes += len(data)
            return data
        out: list[bytes] = []
        try:
            self._read_server(data, out)
        except MalformedError as error:
            self._malformed_response(error, out)
        self._resume()
        self._settle()
        return out[0] if len(out) == 1 else b"".join(out)

    def _read_server(self, data: bytes, out: list[bytes]) -> None:
        if self._response_partial:
            scanned = len(self._response_partial)
            self._response_partial += data
            if head_end(self._response_partial, 0, scanned) < 0:
                return
            data = bytes(self._response_partial)
            self._response_partial.clear()
        pos = 0
        size = len(data)
        while pos < size:
            exchange = self._current
            step = self._server_step
            if step == _DEAD:
                return
            if exchange is None or not exchange.response_open:
                raise MalformedError(Malformed.UNEXPECTED_RESPONSE, f"unasked: {shown(data[pos:])}")
            if step == _BODY:
                end = self._response_body.take(data, pos, out)
                exchange.response_bytes += end - pos
                if self._response_body.ended:
                    self._response_ended(exchange, out)
                pos = end
            elif step == _RAW:
                exchange.response_bytes += size - pos
                out.append(data[pos:])
                return
            else:
                end = head_end(data, pos, pos)
                if end < 0:
                    self._response_partial += data[pos:]
                    return
                self._open_response(exchange, data[pos:end], out)
                pos = end

    def _open_response(self, exchange: Exchange, head: bytes, out: list[bytes]) -> None:
        fields = self._heads.judge_response(head)
        status = fields.status
        exchange.response_bytes += len(head)
        if status < 200:
            if status == 101:
                self._upgrade(exchange, fields.upgrade)
            else:
                self._interim += 1
                if self._interim > INTERIM_LIMIT:
                    raise MalformedError(Malformed.TOO_MANY_INTERIM, f"more than {INTERIM_LIMIT} interim responses")
                if not exchange.fields.http11:
                    return  # such a client takes any response for the final one (RFC 9110 section 15.2)
            out.append(fields.forward)
            return
        length = 0 if exchange.method == b"HEAD" else fields.length
        if length == CHUNKED and not exchange.fields.http11:
            raise MalformedError(Malformed.TRANSFER_ENCODING_IN_HTTP10, "chunked response to an HTTP/1.0 request")
        self._interim = 0
        self._response_keeps = fields.keep_alive
        exchange.status = status
        exchange.refusal = fields.refusal
        forward = fields.forward
        if self._draining and not self._later and self._client_step == _HEAD and not self._partial:
            self._client_step = _DEAD
            self._response_keeps = False
            forward = with_close(forward)
        if self._client_step == _HOLD and exchange is self._newest:
            self._client_step = _HEAD
        self._judge_response(exchange, status)
        out.append(forward)
        if length:
            self._response_body = body_for(length, self._heads)
            self._server_step = _BODY
        else:
            self._response_ended(exchange, out)

    def _upgrade(self, exchange: Exchange, chosen: tuple[bytes, ...]) -> None:
        offered = exchange.fields.upgrade
        if exchange.request_open or not chosen or not set(chosen).issubset(offered):
            raise MalformedError(Malformed.UNEXPECTED_UPGRADE, f"101 to {chosen}, offered {offered}")
        exchange.status = 101
        self._judge_response(exchange, 101)
        self._client_step = self._server_step = _RAW
        self.raw = self.attention = True
        exchange.request_bytes += len(self._held)
        self._server_out.append(bytes(self._held))
        self._held.clear()
        self.paused = False

    def _response_ended(self, exchange: Exchange, out: list[bytes]) -> None:
        exchange.response_open = False
        self._server_step = _HEAD
        if not (self._response_keeps and exchange.fields.keep_alive):
            self._finish()
            self._shut(abort=False)
        elif not exchange.request_open:
            self._finish()
            self._flush(out)

    def _malformed_response(self, error: MalformedError, out: list[bytes]) -> None:
        """Answer in the server's place if that is still possible, and close."""
        exchange = self._current
        if exchange is None or not exchange.response_open:
            self._shut(abort=False)
            return
        exchange.cut = True
        response = self._judge.bad_response(exchange, error.reason, error.detail)
        if exchange.status or not response:
            self._shut(abort=True)
            return
        out.append(as_answer(response, close=True, head_only=exchange.method == b"HEAD"))
        exchange.request_open = exchange.response_open = False
        self._finish()
        self._shut(abort=False)

    # --- ends ---

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
        if self.raw or self._server_step == _DEAD:
            return b""
        out: list[bytes] = []
        if exchange is None or not exchange.response_open:
            self._shut(abort=False)
        elif self._server_step == _BODY and self._response_body.endless:
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

    def _check_client_end(self) -> None:
        if self._partial or self._client_step in (_BODY, _SWALLOW):
            self._shut(abort=True)
        elif self._current is None:
            self._shut(abort=False)

    # --- the queue ---

    def _push(self, exchange: Exchange) -> None:
        self._newest = exchange
        if self._current is None:
            self._current = exchange
        else:
            self._later.append(exchange)

    def _finish(self) -> None:
        """The current exchange has ended; the next one's response is due."""
        exchange = self._current
        self._current = self._later.popleft() if self._later else None
        if exchange is not None and exchange.method:
            self._judge_done(exchange)

    def _shut(self, *, abort: bool) -> None:
        if self.close_after:
            return
        self._client_step = self._server_step = _DEAD
        self.close_after = self.attention = True
        self.abort = abort
        self._partial.clear()
        self._response_partial.clear()
        self._held.clear()
        while self._current is not None:
            self._current.cut = self._current.cut or not self.raw
            self._finish()
        self._settle()

    def _resume(self) -> None:
        """Go on with held client bytes, once the queue is half empty or the server has declined to upgrade."""
        if self._held and self._client_step != _HOLD and len(self._later) < OUTSTANDING_LIMIT // 2:
            held = bytes(self._held)
            self._held.clear()
            self.paused = False
            self.attention = True
            if self._client_step != _DEAD:
                self._read_client(held, self._server_out)
        if self.client_ended and not self._held and not self.raw:
            self._check_client_end()

    def _settle(self) -> None:
        """Set the guards of the two fast paths by all that the slow paths know."""
        calm = (
            self._client_step == _HEAD
            and self._server_step == _HEAD
            and not (self._partial or self._response_partial or self._held or self._later)
            and not (self._blank or self._draining or self.client_ended)
        )
        current = self._current
        self._ready = calm and current is None
        self._simple = (
            calm
            and current is not None
            and current.local is None
            and current.fields.plain
            and not current.request_open
            and current.response_open
            and not current.status
            and current.method != b"HEAD"
        )
