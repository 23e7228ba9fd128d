"""App connections that speak HTTP/1.x: every request is judged on the inbound side and timed on both. Adapter.

The relay is the judge that the inspector (``sidecar.http1``) asks in the middle of parsing: on the inbound side it
answers with the identity header to insert or with a refusal; on the outbound side it only watches, and answers for the
mesh when the mesh cannot deliver. No task, future or closure is made for a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ringfence.policy.decide import CallerView, Decision, Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint, Port
from sidecar import refusal
from sidecar.http1 import Exchange, Heads, Inspector, Malformed
from sidecar.http2.frames import CONNECT_ERROR, NO_ERROR
from sidecar.outbound_relay import OutboundRelay
from sidecar.recording import Recorder, RequestSeries, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.tunnel.pool import Pool

if TYPE_CHECKING:
    from sidecar.inbound import Caller

# A target that two readers could take for two things is the path's fault, whichever layer saw it first.
_MALFORMED: Final = {
    Malformed.BAD_TARGET: DenyReason.PATH_AMBIGUOUS,
    Malformed.FRAGMENT_IN_TARGET: DenyReason.PATH_AMBIGUOUS,
}
HEAD_SECONDS: Final = 15.0  # a request's head, from its first byte
BODY_IDLE_SECONDS: Final = 60.0  # between two pieces of a request's body
LINGER_SECONDS: Final = 2.0
_LINGER_LIMIT_BYTES: Final = 1024 * 1024


class HttpRelay(Relay):
    """What both directions have in common: an inspector, deadlines for the client, counting."""

    inspector: Inspector
    _recorder: Recorder
    _own_id: str
    _series: RequestSeries
    _monotonic: Callable[[], float]
    _watched: tuple[str, int, float]

    def inspect(self, heads: Heads, recorder: Recorder, own_id: str) -> None:
        """Second half of ``__init__``, which the two directions inherit from different relays."""
        self._recorder = recorder
        self._own_id = own_id
        self._series = recorder.series(self.facts.direction, self.facts.peer, self.facts.service)
        self._monotonic = recorder.monotonic
        self._watched = ("", 0, 0.0)
        self.inspector = Inspector(self, heads)

    def _attend(self) -> None:
        """Do what the inspector wants beyond the bytes that it returned."""
        raise NotImplementedError

    def _defect(self, error: Exception) -> None:
        self.owner.relay_failed(self, error)
        self.end("reset", "defect", abort=True)

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        if not self.ended:
            self.inspector.cut()
        super().end(reason, detail, abort=abort, code=code)

    def drain(self) -> None:
        """Let the requests in flight end, the last with ``connection: close``, and take no more."""
        self.inspector.drain()
        if self.inspector.attention:
            self._attend()

    def sweep(self, now: float) -> None:
        """Called every few seconds: a client that began a request and does not go on is let go."""
        inspector = self.inspector
        progress, size = inspector.progress, inspector.client_bytes
        before, size_before, since = self._watched
        if progress == "request_head" and progress == before:
            late = now - since > HEAD_SECONDS
        elif progress == "request_body" and progress == before and size == size_before:
            late = now - since > BODY_IDLE_SECONDS
        else:
            self._watched = (progress, size, now)
            return
        if late:
            self.end(DenyReason.CALLER_TIMEOUT, f"{progress} not complete after {now - since:.0f} s")

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        raise NotImplementedError

    def response(self, exchange: Exchange, status: int) -> None:
        raise NotImplementedError

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        raise NotImplementedError

    def done(self, exchange: Exchange) -> None:
        seconds = self._monotonic() - exchange.started
        self.facts.requests += 1
        series = self._series
        decision: Decision | None = exchange.decision  # type: ignore[assignment]
        status = exchange.status or _status_counted(exchange)
        series.count(decision, status).value += 1
        series.durations.observe(seconds)
        if self._recorder.every_request:
            self._recorder.request_done(
                self.facts, decision, method=exchange.method, target=exchange.target, status=status, seconds=seconds
            )

    def malformed(self, reason: Malformed, detail: str) -> bytes:
        kind = _MALFORMED.get(reason, DenyReason.PROTOCOL_ERROR)
        return self._answer(kind, method=b"", target=b"", detail=f"{reason}: {detail}")

    def _answer(
        self, kind: DenyReason, *, method: bytes, target: bytes, detail: str, status: int | None = None
    ) -> bytes:
        """Record a refusal of ours and make the response that tells it."""
        told = Refusal(reason=kind, request_id=new_request_id(), origin=self._own_id)
        self._recorder.request_refused(self.facts, Deny(kind), told, method=method, target=target, detail=detail)
        return refusal.http_response(told, status=status)


class InboundHttpRelay(HttpRelay):
    """Requests from the mesh to the app: judged one by one, with the caller's identity put in."""

    def __init__(
        self,
        owner: RelayOwner,
        facts: RelayFacts,
        caller: Caller,
        port: Port,
        heads: Heads,
        recorder: Recorder,
        own_id: str,
    ) -> None:
        super().__init__(owner, facts)
        self.caller = caller
        self.app_port = port
        self._port = port.port
        self._unread_bytes = 0  # taken by a paused inspector, not yet credited
        self._unavailable: tuple[DenyReason, str] | None = None
        self.inspect(heads, recorder, own_id)

    # -- bytes --------------------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> bool:
        inspector = self.inspector
        try:
            out = inspector.from_client(data)
        except Exception as error:
            self._defect(error)
            return True
        done = True
        if self._unavailable is not None:
            asked = inspector.outstanding()
            if asked:
                self._answer_unavailable(asked[0])
            return True
        if out:
            done = self.to_app(out, len(data))
        if inspector.attention:
            self._attend()
        if inspector.paused and done and not self.ended:
            self._unread_bytes += len(data)
            return False
        return done

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        inspector = self.inspector
        try:
            out = inspector.from_server(data)
        except Exception as error:
            self._defect(error)
            return
        if out and not self.stream.send(out) and self.transport is not None:  # type: ignore[union-attr]
            self.transport.pause_reading()
        if inspector.attention:
            self._attend()
        if self._unread_bytes and not inspector.paused and not self.ended:
            unread, self._unread_bytes = self._unread_bytes, 0
            self.stream.credit(unread)  # type: ignore[union-attr]

    def _attend(self) -> None:
        inspector = self.inspector
        answer = inspector.take_client()
        if answer and self.stream is not None:
            self.stream.send(answer)
        forward = inspector.take_server()
        if forward:
            self.to_app(forward, 0)
        if inspector.abort:
            self.end("reset", "the app's response was cut short", abort=True, code=CONNECT_ERROR)
        elif inspector.close_after and not self.ended:
            self._finish()

    def _finish(self) -> None:
        """The last response is out: end towards the client in order, then let the app go."""
        if self.stream is not None:
            self.stream.end()
        if self.transport is not None:
            self._app_ended = True
            self.transport.close()

    def unavailable(self, reason: DenyReason, detail: str) -> None:
        """The app cannot be had, and the caller has no sidecar that would tell it: answer its request, now or when it
        has come."""
        self._unavailable = (reason, detail)
        self._early.clear()
        asked = self.inspector.outstanding()
        if asked:
            self._answer_unavailable(asked[0])

    def _answer_unavailable(self, exchange: Exchange) -> None:
        assert self._unavailable is not None
        reason, detail = self._unavailable
        self.inspector.fail(self._answer(reason, method=exchange.method, target=exchange.target, detail=detail))
        answer = self.inspector.take_client()
        if answer and self.stream is not None:
            self.stream.send(answer)
            self.stream.end()
        self.end(reason, detail)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def on_end(self) -> None:
        self.inspector.client_eof()
        if self.inspector.attention:
            self._attend()
        if not self.ended:
            super().on_end()

    def app_end(self) -> None:
        out = self.inspector.server_eof()
        if out and self.stream is not None:
            self.stream.send(out)
        if self.inspector.attention:
            self._attend()
        if not self.ended:
            super().app_end()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended and not self._app_ended:
            self._app_ended = True
            self.app_end()
        super().connection_lost(exc)

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        caller = self.caller
        decision = caller.view.request(self._port, exchange.method, exchange.target)
        exchange.started = self._monotonic()
        exchange.decision = decision
        if decision.permitted:
            return caller.identity_line
        self._refuse(exchange, decision)  # type: ignore[arg-type]
        return None

    def _refuse(self, exchange: Exchange, decision: Deny) -> None:
        told = Refusal(reason=decision.reason, request_id=new_request_id(), origin=self._own_id)
        self._recorder.request_refused(self.facts, decision, told, method=exchange.method, target=exchange.target)
        self.inspector.refuse(exchange, refusal.http_response(told), close=False)

    def response(self, exchange: Exchange, status: int) -> None:
        """Counted when it is done."""

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        kind = DenyReason.APP_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        story = f"the app's response: {reason}: {detail}"
        return self._answer(kind, method=exchange.method, target=exchange.target, detail=story, status=502)

    def rejudge(self, view: CallerView) -> Deny | None:
        """The first of the requests in flight that the new policy denies; they were judged by an older one."""
        for exchange in self.inspector.outstanding():
            decision = view.request(self._port, exchange.method, exchange.target)
            if isinstance(decision, Deny) and exchange.local is None:
                return decision
        return None


class OutboundHttpRelay(HttpRelay, OutboundRelay):
    """Requests from the app to the mesh: framed, timed, counted; answered here when the mesh cannot deliver them."""

    def __init__(
        self,
        owner: RelayOwner,
        facts: RelayFacts,
        pool: Pool,
        endpoint: Endpoint,
        heads: Heads,
        recorder: Recorder,
        own_id: str,
    ) -> None:
        OutboundRelay.__init__(self, owner, facts, pool, endpoint)
        self._asked = False
        self._lingering_bytes = -1  # dropped since the last response went out; -1: not yet
        self.inspect(heads, recorder, own_id)

    def open_on_connect(self) -> bool:
        return False

    # -- bytes --------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        inspector = self.inspector
        try:
            out = inspector.from_client(data)
        except Exception as error:
            self._defect(error)
            return
        if out:
            stream = self.stream
            if stream is None:
                self.to_mesh(out)
                self._ask()
            elif not stream.send(out) and self.transport is not None:
                self.transport.pause_reading()
        if inspector.attention:
            self._attend()
        if inspector.paused and self.transport is not None and not self.ended:
            self.transport.pause_reading()
        if self._lingering_bytes >= 0:
            self._lingering_bytes += len(data)
            if self._lingering_bytes > _LINGER_LIMIT_BYTES:
                self.end("closed")

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self.open_stream()
            if self.stream is not None:
                self.stream_opened()
                self.on_writable()

    def on_data(self, data: bytes) -> bool:
        inspector = self.inspector
        was_paused = inspector.paused
        try:
            out = inspector.from_server(data)
        except Exception as error:
            self._defect(error)
            return True
        done = True
        if out:
            done = self.to_app(out, len(data))
        if inspector.attention:
            self._attend()
        if was_paused and not inspector.paused:
            self.on_writable()
        return done

    def on_writable(self) -> None:
        if not self.inspector.paused:
            super().on_writable()

    def _attend(self) -> None:
        inspector = self.inspector
        answer = inspector.take_client()
        if answer:
            self.to_app(answer, 0)
        forward = inspector.take_server()
        if forward and self.stream is not None:
            self.stream.send(forward)
        if inspector.abort:
            self.end("reset", "the response was cut short", abort=True)
        elif inspector.close_after and not self.ended:
            self._linger()

    def _linger(self) -> None:
        """Close towards the app in two steps: what it still sends would otherwise reset the connection, and with it
        destroy the response that is on its way (RFC 9112 section 9.6)."""
        if self._lingering_bytes >= 0:
            return
        transport = self.transport
        if transport is None or self._app_ended or transport.is_closing():
            self.end("closed")
            return
        self._lingering_bytes = 0
        transport.write_eof()
        transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.end, "closed")

    # -- ends ---------------------------------------------------------------------------------------------------------

    def app_end(self) -> None:
        self.inspector.client_eof()
        if self.inspector.attention:
            self._attend()
        if self.ended:
            return
        if self._lingering_bytes >= 0 or (self.stream is None and not self._asked):
            self.end("closed")  # it came, asked nothing, and left; or it has its last answer
        else:
            super().app_end()

    def on_end(self) -> None:
        out = self.inspector.server_eof()
        if out:
            self.to_app(out, 0)
        if self.inspector.attention:
            self._attend()
        if not self.ended and self._lingering_bytes < 0:
            super().on_end()

    def refused(self, reason: str, detail: str) -> None:
        """Answer what the app has asked; what the mesh did to this connection is the answer's reason."""
        if self.ended:
            return
        inspector = self.inspector
        asked = inspector.outstanding()
        if asked and not asked[0].status:
            told = Refusal(
                reason=reason,
                request_id=self.facts.request_id or new_request_id(),
                origin=self.facts.origin or self._own_id,
            )
            self._recorder.request_refused(
                self.facts, None, told, method=asked[0].method, target=asked[0].target, detail=detail
            )
            inspector.fail(refusal.http_response(told))
            answer = inspector.take_client()
            if answer:
                self.to_app(answer, 0)
        elif asked:
            inspector.fail(b"")
        self.end(reason, detail, abort=inspector.abort)

    def on_reset(self, code: int) -> None:
        link = self._link
        if link is not None and link.closed and link.end_reason is not None:
            self.refused(link.end_reason, link.end_detail)
        elif self._lingering_bytes >= 0:
            return  # the app has its answer; the stream was only waiting to go
        elif self.inspector.idle:
            super().on_reset(code)
        else:
            self.refused(DenyReason.UPSTREAM_UNREACHABLE, f"stream reset, code {code}")

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes:
        exchange.started = self._monotonic()
        return b""

    def response(self, exchange: Exchange, status: int) -> None:
        if exchange.refusal is not None:
            told = refusal.parse_refusal(exchange.refusal)
            if told is not None:
                self._recorder.request_refused(self.facts, None, told, method=exchange.method, target=exchange.target)

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        kind = DenyReason.UPSTREAM_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        story = f"{reason}: {detail}"
        return self._answer(kind, method=exchange.method, target=exchange.target, detail=story, status=502)


def _status_counted(exchange: Exchange) -> int:
    """The status the client saw: the server's, or that of the answer made here; 0 if it saw none."""
    if exchange.status:
        return exchange.status
    local = exchange.local
    return int(local[9:12]) if local else 0
