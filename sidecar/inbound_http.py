"""HTTP/1.x from the mesh to the app: each request judged, the permitted told who calls. Adapter."""

from __future__ import annotations

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import ForwardedFor, Port
from sidecar import refusal
from sidecar.caller import Caller
from sidecar.direct import DirectEnd
from sidecar.forwarded import appended_line
from sidecar.http1 import Exchange, Heads, Malformed
from sidecar.http1.websocket import POLICY_VIOLATION
from sidecar.http2.frames import CONNECT_ERROR
from sidecar.http_relay import HttpRelay
from sidecar.inbound_waiting import WaitingRelay
from sidecar.limits.limiter import CallerLimits
from sidecar.limits.paced import has_sidecar, mesh_end
from sidecar.recording import Recorder, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import JudgingOwner, RelayFacts, close_connection


class InboundHttpRelay(HttpRelay, WaitingRelay):
    """Requests from the mesh to the app: judged one by one, with the caller's identity put in."""

    limits: CallerLimits | None = None

    def __init__(
        self,
        owner: JudgingOwner,
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
        self._forwarded_for = port.forwarded_for
        self._unread_bytes = 0  # taken by a paused inspector, not yet credited
        self._end_held = False  # the client's half-close waits behind what a paused inspector holds
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
            asked = [exchange for exchange in inspector.outstanding() if exchange.local is None]
            if asked:
                self._answer_unavailable(asked[0])
            elif inspector.attention:
                self._attend()
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
        self._credit_unread()

    def _credit_unread(self) -> None:
        """What a paused inspector took is credited when it goes on."""
        if self._unread_bytes and not self.inspector.paused and not self.ended:
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
        elif self._end_held and not inspector.paused and not self.ended:
            self._end_held = False
            super().on_end()

    def _finish(self) -> None:
        """The last response is out: end towards the client in order, then let the app go."""
        if self.stream is not None:
            self.stream.end()
        if self.transport is not None:
            self._app_ended = True
            close_connection(self.transport)

    def drain(self, *, patient: bool = False) -> None:
        """A sidecar of ours leaves by itself when it has read GOAWAY: an end from here would cross a request of it.
        Others are asked to by ``connection: close``."""
        if not has_sidecar(self.stream):
            super().drain(patient=patient)

    def unavailable(self, reason: DenyReason, detail: str) -> None:
        """The app cannot be had, and the caller has no sidecar that would tell it: answer its request, now or when it
        has come."""
        self._unavailable = (reason, detail)
        self._early.clear()
        asked = self.inspector.outstanding()
        if asked:
            self._answer_unavailable(asked[0])
        elif self._mesh_ended:
            self.end(reason, detail)

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if self._unavailable is not None and self.inspector.progress == "idle":
            self._leave(*self._unavailable)  # the client may come again when the app has

    def _leave(self, reason: DenyReason, detail: str) -> None:
        """There is no app and no request to answer: end in order."""
        if self.stream is not None:
            self.stream.end()
        self.end(reason, detail)

    def _answer_unavailable(self, exchange: Exchange) -> None:
        assert self._unavailable is not None
        reason, detail = self._unavailable
        self.inspector.fail(self._answer(reason, exchange, detail=detail))
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
        if self._unavailable is not None and not self.ended:
            self._leave(*self._unavailable)
            return
        if self.inspector.paused:
            self._end_held = True
        elif not self.ended:
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
        if caller.plain:
            decision = caller.view.request(self._port, exchange.method, exchange.target)
        else:
            decision = caller.request(self.facts, exchange, self._forwarded_for)
            if (waits := caller.take_waits()) is not None:
                self.inspector.wait()
                self._await(waits)
                return None
        exchange.started = self._monotonic()
        exchange.decision = decision
        self._flows.seen(decision, exchange.method, exchange.target, caller.shadow_verdict)  # type: ignore[union-attr]
        if decision.permitted:
            limits = self.limits
            if limits is not None and (seconds := limits.request(exchange.method, exchange.target)):
                exchange.decision = limited = Deny(DenyReason.RATE_LIMITED)
                self._refuse(exchange, limited, seconds)
                return None
            if self._forwarded_for is ForwardedFor.REPLACE:
                lines = caller.told_line
            elif self._forwarded_for is ForwardedFor.APPEND:
                lines = caller.identity_line + appended_line(exchange.fields.block, caller.address)
            else:
                lines = caller.identity_line
            if caller.claims:
                lines += b"".join(b"%b: %b\r\n" % claim for claim in caller.take_claims())
            return lines
        self._refuse(exchange, decision)  # type: ignore[arg-type]
        return None

    def _refuse(self, exchange: Exchange, decision: Deny, retry_after_seconds: int = 0) -> None:
        told = Refusal(
            reason=decision.reason,
            request_id=new_request_id(),
            origin=self._own_id,
            retry_after_seconds=retry_after_seconds,
            challenge=refusal.challenge_of(decision),
        )
        self._refused_by(told, decision, exchange)
        self.inspector.refuse(exchange, refusal.http_response(told), close=False)

    def response(self, exchange: Exchange, status: int) -> None:
        """Counted when it is done."""

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        self._recorder.violation(self.facts, by="server", reason=reason)
        kind = DenyReason.APP_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        story = f"the app's response: {reason}: {detail}"
        return self._answer(kind, exchange, detail=story, status=502)

    def rejudge(self, why: str) -> Deny | None:
        """The first of the requests in flight that is denied now; they were judged by an older policy, or earlier."""
        for exchange in self.inspector.outstanding():
            decision = self.caller.again(self._port, exchange, self._forwarded_for)
            if (waits := self.caller.take_waits()) is not None:
                waits.then(self._look_again)
                continue
            if isinstance(decision, Deny) and exchange.local is None:
                self._tell_websocket(why)
                return decision
        return None

    def _go_on(self) -> None:
        try:
            self.inspector.go_on()
        except Exception as error:
            self._defect(error)
            return
        if self.inspector.attention:
            self._attend()
        self._credit_unread()

    def _tell_websocket(self, reason: str) -> None:
        """The client of an upgraded connection reads no HTTP any more."""
        stream = self.stream
        told = self.inspector.farewell(POLICY_VIOLATION, reason)
        if told and stream is not None:
            stream.send(told)
            if isinstance(mesh_end(stream), DirectEnd):
                stream.end()  # else the reset by which it ends would destroy what was told
