"""HTTP/2 from the mesh to the app: each request judged, the permitted told who calls. Adapter."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import ForwardedFor, Port
from sidecar import refusal
from sidecar.caller import Caller
from sidecar.flows.table import CallerFlows
from sidecar.forwarded import appended_field
from sidecar.http2 import Answer, Exchange, Heads, Inspector, Malformed, literal
from sidecar.http2_relay import Http2Relay, answer_of
from sidecar.inbound_waiting import WaitingRelay
from sidecar.limits.limiter import CallerLimits
from sidecar.recording import Recorder
from sidecar.relay import JudgingOwner, RelayFacts, close_connection
from sidecar.request_relay import JudgedRequest

_UNIMPLEMENTED: Final = 12  # what gRPC says of a method that there is not


class InboundHttp2Relay(Http2Relay, WaitingRelay):
    """Requests from the mesh to the app: judged one by one, with the caller's identity put in."""

    inspector: Inspector
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
        self._replaces = port.forwarded_for is ForwardedFor.REPLACE
        self._appends = port.forwarded_for is ForwardedFor.APPEND
        self._unread_bytes = 0  # taken by a paused inspector, not yet credited
        self._end_held = False  # the client's half-close waits behind a request that waits
        self.inspect(heads, recorder, own_id)
        self._grpc_flows = recorder.flows_of(facts, "grpc")

    # -- bytes --------------------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> bool:
        inspector = self.inspector
        try:
            out = inspector.from_client(data)
        except Exception as error:
            self._defect(error)
            return True
        done = True
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

    def _attend(self) -> None:
        inspector = self.inspector
        answer = inspector.take_client()
        if answer and self.stream is not None:
            self.stream.send(answer)
        forward = inspector.take_server()
        if forward:
            self.to_app(forward, 0)
        if inspector.close_after and not self.ended:
            if self.stream is not None:
                self.stream.end()
            if self.transport is not None:
                self._app_ended = True
                close_connection(self.transport)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def unavailable(self, reason: DenyReason, detail: str) -> None:
        """The app cannot be had, and the caller has no sidecar that would tell it: answer what it asked, and close."""
        self._early.clear()
        self.inspector.fail(self._answer(reason, None, detail=detail))
        answer = self.inspector.take_client()
        if answer and self.stream is not None:
            self.stream.send(answer)
            self.stream.end()
        self.end(reason, detail)

    def on_end(self) -> None:
        if self.inspector.holds:
            self._end_held = True
            return
        out = self.inspector.client_eof()
        if out:
            self.to_app(out, 0)
        self._attend()
        if not self.ended:
            super().on_end()

    def app_end(self) -> None:
        out = self.inspector.server_eof()
        if out and self.stream is not None:
            self.stream.send(out)
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
        self._flows_of(exchange).seen(decision, exchange.method, exchange.target, caller.shadow_verdict)
        if self.name_protocol:
            self._name_protocol(exchange)
        if decision.permitted:
            limits = self.limits
            if limits is not None and (seconds := limits.request(exchange.method, exchange.target)):
                exchange.decision = limited = Deny(DenyReason.RATE_LIMITED)
                self.inspector.refuse(exchange, self._denial(exchange, limited, seconds))
                return None
            if self._replaces:
                fields = caller.told_field
            elif self._appends:
                fields = caller.identity_field + appended_field(exchange.fields.fields, caller.address)
            else:
                fields = caller.identity_field
            if caller.claims:
                fields += b"".join(literal(name, value) for name, value in caller.take_claims())
            return fields
        self.inspector.refuse(exchange, self._denial(exchange, decision))  # type: ignore[arg-type]
        return None

    def _go_on(self) -> None:
        try:
            self.inspector.go_on()
        except Exception as error:
            self._defect(error)
            return
        self._attend()
        if self._unread_bytes and not self.inspector.paused and not self.ended:
            unread, self._unread_bytes = self._unread_bytes, 0
            self.stream.credit(unread)  # type: ignore[union-attr]
        if self._end_held and not self.inspector.holds and not self.ended:
            self._end_held = False
            self.on_end()

    def _flows_of(self, exchange: Exchange) -> CallerFlows:
        flows = self._grpc_flows if exchange.grpc else self._flows
        assert flows is not None
        return flows

    def done(self, exchange: JudgedRequest) -> None:
        super().done(exchange)
        if exchange.grpc_status == _UNIMPLEMENTED:  # type: ignore[attr-defined]
            self._missed(exchange)

    def _missed(self, exchange: JudgedRequest) -> None:
        assert isinstance(exchange, Exchange)
        self._flows_of(exchange).missed(exchange.method, exchange.target)

    def _denial(self, exchange: Exchange, decision: Deny, retry_after_seconds: int = 0) -> Answer:
        told = replace(
            self._telling(decision.reason),
            retry_after_seconds=retry_after_seconds,
            challenge=refusal.challenge_of(decision),
        )
        self._refused_by(told, decision, exchange)
        return answer_of(told)

    def response(self, exchange: Exchange, status: int) -> None:
        """Counted when it is done."""

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> Answer | None:
        self._recorder.violation(self.facts, by="server", reason=reason)
        kind = DenyReason.APP_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        return self._answer(kind, exchange, detail=f"the app's response: {reason}: {detail}", status=502)

    def rejudge(self) -> None:
        """End exactly the requests in flight that are denied now, each in its protocol's words."""
        for exchange in self.inspector.outstanding():
            decision = self.caller.again(self._port, exchange, self._forwarded_for)
            if (waits := self.caller.take_waits()) is not None:
                waits.then(self._look_again)
                continue
            if isinstance(decision, Deny) and exchange.local is None:
                exchange.decision = decision
                self.inspector.revoke(exchange, self._denial(exchange, decision))
        self._attend()
