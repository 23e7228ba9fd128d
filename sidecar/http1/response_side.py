"""Server bytes, the long way: interim and split heads, bodies of every framing, upgrades, early and missing
responses."""

from __future__ import annotations

from typing import Final

from sidecar.http1.body import body_for
from sidecar.http1.ending import head_end, with_close
from sidecar.http1.exchange import Exchange
from sidecar.http1.framing import CHUNKED
from sidecar.http1.outstanding import BODY, DEAD, HEAD, HOLD, OUTSTANDING_LIMIT, RAW
from sidecar.http1.reasons import Malformed, MalformedError, shown
from sidecar.http1.request_side import RequestSide
from sidecar.http1.websocket import FrameEdges

INTERIM_LIMIT: Final = 32
"""1xx responses to one request."""


class ResponseSide(RequestSide):
    """Frames responses by the requests they answer, and forwards them."""

    __slots__ = ()

    def _server_slow(self, data: bytes) -> bytes:
        """`Inspector.from_server` for whatever is not one whole and usual response."""
        self.server_bytes += len(data)
        if self._server_step == DEAD:
            return b""
        if self._server_step == RAW:
            if self._current is not None:
                self._current.response_bytes += len(data)
            if self._frames is not None:
                self._frames.passes(data)
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
            if step == DEAD:
                return
            if exchange is None or not exchange.response_open:
                raise MalformedError(Malformed.UNEXPECTED_RESPONSE, f"unasked: {shown(data[pos : pos + 256])}")
            if step == BODY:
                end = self._response_body.take(data, pos, out)
                exchange.response_bytes += end - pos
                if self._response_body.ended:
                    self._response_ended(exchange, out)
                pos = end
            elif step == RAW:
                exchange.response_bytes += size - pos
                out.append(data[pos:])
                if self._frames is not None:
                    self._frames.passes(data[pos:])
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
            self._interim += 1
            if status == 101:
                self._upgrade(exchange, fields.upgrade)
            elif self._interim > INTERIM_LIMIT:
                raise MalformedError(Malformed.TOO_MANY_INTERIM, f"more than {INTERIM_LIMIT} interim responses")
            elif not exchange.fields.http11:
                return  # such a client takes any response for the final one (RFC 9110 section 15.2)
            out.append(fields.forward)
            return
        length = 0 if exchange.method == b"HEAD" else fields.length
        if length == CHUNKED and not exchange.fields.http11:
            raise MalformedError(Malformed.TRANSFER_ENCODING_IN_HTTP10, "chunked response to an HTTP/1.0 request")
        exchange.status = status
        exchange.refusal = fields.refusal
        self._response_keeps = fields.keep_alive
        forward = fields.forward
        if self._is_last(exchange):
            self._response_keeps = False
            forward = with_close(forward)
        if self._client_step == HOLD and exchange is self._newest:
            self._client_step = HEAD
        self._interim = 0
        self._judge_response(exchange, status)
        out.append(forward)
        if length:
            self._response_body = body_for(length, self._heads)
            self._server_step = BODY
        else:
            self._response_ended(exchange, out)

    def _is_last(self, exchange: Exchange) -> bool:
        """Whether no request may follow the one that is being answered.

        So it is when draining; and when the answer comes before the request has ended, for the server may then leave
        the rest of the body unread and take it for a request that nobody has judged. Where it had been asked for a
        100 and gave none, not even the body may follow: whether it is one, client and server need not agree.
        """
        if exchange.request_open:
            if exchange.fields.expect_continue and not self._interim:
                exchange.request_open = False
                self._client_step = DEAD
            return True
        if self._draining and not self._later and self._client_step == HEAD and not self._partial:
            self._client_step = DEAD
            return True
        return False

    def _upgrade(self, exchange: Exchange, chosen: tuple[bytes, ...]) -> None:
        offered = exchange.fields.upgrade
        if exchange.request_open or not chosen or not set(chosen).issubset(offered):
            raise MalformedError(Malformed.UNEXPECTED_UPGRADE, f"101 to {list(chosen)}, offered {list(offered)}")
        exchange.status = 101
        self._judge_response(exchange, 101)
        self._client_step = self._server_step = RAW
        self.raw = self.attention = True
        self._frames = FrameEdges() if chosen == (b"websocket",) else None
        exchange.request_bytes += len(self._held)
        self._server_out.append(bytes(self._held))
        self._held.clear()
        self.paused = False

    def _response_ended(self, exchange: Exchange, out: list[bytes]) -> None:
        exchange.response_open = False
        self._server_step = HEAD
        if exchange.request_open:
            return  # the rest of its body still passes
        self._finish()
        if self._response_keeps and exchange.fields.keep_alive:
            self._flush(out)
        else:
            self._shut(abort=False)

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
        self._answer(exchange, response, close=True)
        exchange.request_open = False
        self._flush(out)

    def _resume(self) -> None:
        """Go on with held client bytes, once the queue is half empty or the server has declined to upgrade."""
        if self._held and not self._waits and self._client_step != HOLD and len(self._later) < OUTSTANDING_LIMIT // 2:
            held = bytes(self._held)
            self._held.clear()
            self.paused = False
            self.attention = True
            if self._client_step != DEAD:
                self._read_client(held, self._server_out)
        if self.client_ended and not self._held and not self.raw:
            self._check_client_end()
