"""Client bytes, the long way: heads that come in pieces or in a row, bodies, refusals, holds."""

from __future__ import annotations

from typing import Final

from sidecar.http1.body import body_for
from sidecar.http1.ending import head_end
from sidecar.http1.exchange import Exchange
from sidecar.http1.lines import origin_form, read_request_line, starts_like_method
from sidecar.http1.outstanding import BODY, DEAD, HEAD, HOLD, OUTSTANDING_LIMIT, RAW, SWALLOW, Outstanding
from sidecar.http1.reasons import Malformed, MalformedError, shown
from sidecar.http1.verdicts import RequestFields

SWALLOW_LIMIT_BYTES: Final = 64 * 1024
"""A refused request's body up to this is read and dropped, and the connection lives on."""
HELD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""What a paused machine takes, for bytes that were under way; more and it closes."""

_NOTHING: Final = RequestFields(
    block=b"", forward=b"", http11=True, host=b"", length=0, keep_alive=False, expect_continue=False, upgrade=()
)
"""Stands for the fields of bytes that were no request."""


class RequestSide(Outstanding):
    """Frames, judges and forwards requests."""

    __slots__ = ()

    def refuse(self, exchange: Exchange, response: bytes, close: bool = False) -> None:
        """Say what a refused request is answered; only from within `Judge.request`, which then returns None.

        ``response`` is whole, with a content-length and without a connection field. It leaves in its turn. The
        connection closes after it if ``close``, or if more of the request's body may come than is worth swallowing.
        """
        exchange.local = response
        exchange.local_close = close

    def wait(self) -> None:
        """The request has no verdict yet: it is taken back, held with all that follows it, and judged anew by
        `Inspector.go_on`. Only from within `Judge.request`, which then returns None; `Judge.done` is not called."""
        self._waits = True

    def _client_slow(self, data: bytes) -> bytes:
        """`Inspector.from_client` for whatever is not one whole and usual request."""
        self.client_bytes += len(data)
        if self._client_step == DEAD:
            return b""
        if self._client_step == RAW:
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
                if step == BODY:
                    pos = self._read_request_body(data, pos, out)
                elif step == SWALLOW:
                    pos = self._read_request_body(data, pos, [])
                elif step == HOLD or (step == HEAD and len(self._later) + 1 >= OUTSTANDING_LIMIT):
                    self._hold(data[pos:])
                    return
                elif step == HEAD:
                    if data.startswith(b"\r\n", pos) and not self._blank:
                        self._blank = True
                        pos += 2
                        continue
                    end = self._request_head_end(data, pos, pos)
                    if end < 0:
                        self._partial += data[pos:]
                        return
                    self._blank = False
                    self._open_request(data[pos:end], out)
                    if self._waits:
                        self._hold(data[pos:])
                        return
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
            reason = Malformed.BAD_METHOD if lead[:1].isalpha() else Malformed.BAD_REQUEST_LINE
            raise MalformedError(reason, f"a request does not begin with {shown(lead[:1])}")
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
        if length:
            exchange.request_open = True
            self._body = body_for(length, self._heads)
            self._client_step = BODY
        self._push(exchange)
        inserted = self._judge_request(exchange)
        if inserted is None:
            if self._waits:
                self._take_back(exchange)
            else:
                self._refused(exchange)
            return
        if exchange.withheld and length:
            self._body.withhold(exchange.withheld)
        out.append(b"%b %b %b\r\n%b%b" % (method, target, version, inserted, exchange.fields.forward))
        if not length:
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
        last = not fields.keep_alive or (exchange.status != 0 and not self._response_keeps)
        if last:
            self._client_step = DEAD
        elif fields.upgrade and not exchange.status and exchange.local is None:
            self._client_step = HOLD
        else:
            self._client_step = HEAD
        if not exchange.response_open:
            self._finish()
            if last:
                self._shut(abort=False)

    def _take_back(self, exchange: Exchange) -> None:
        """As if the newest request had not come yet."""
        if self._current is exchange:
            self._current = None
        else:
            self._later.pop()
        self._newest = None
        self._client_step = HEAD

    def _refused(self, exchange: Exchange) -> None:
        """Queue the refusal, and decide what becomes of the request's body and of the connection."""
        if exchange.local is None:
            self._shut(abort=True)
            return
        fields = exchange.fields
        length = fields.length
        unknown = length != 0 and (length < 0 or length > SWALLOW_LIMIT_BYTES or fields.expect_continue)
        close = exchange.local_close or unknown or not fields.keep_alive or not fields.http11 or self._draining
        self._answer(exchange, exchange.local, close=close)
        if close:
            exchange.request_open = False
            self._client_step = DEAD
        elif exchange.request_open:
            self._client_step = SWALLOW
        self._flush(self._client_out)

    def _malformed_request(self, error: MalformedError) -> None:
        """Answer 400 in its turn, and read no more of the client."""
        response = self._judge.malformed(error.reason, error.detail)
        self._partial.clear()
        self._client_step = DEAD
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
        self._answer(newest, response, close=True)
        self._flush(self._client_out)

    def _hold(self, data: bytes) -> None:
        """Keep what cannot be read before the server has answered."""
        if len(self._held) + len(data) > HELD_LIMIT_BYTES:
            detail = f"above {HELD_LIMIT_BYTES} bytes while paused"
            self._held.clear()
            self._malformed_request(MalformedError(Malformed.HELD_TOO_MUCH, detail))
            return
        self._held += data
        self.paused = self.attention = True

    def _check_client_end(self) -> None:
        """The client sends no more, and nothing of it is held back."""
        if self._partial or self._client_step in (BODY, SWALLOW):
            self._shut(abort=True)
        elif self._current is None:
            self._shut(abort=False)
