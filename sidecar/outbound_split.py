"""HTTP/2 from the app to several endpoints of one upstream, request by request. Adapter.

A sibling of ``sidecar.outbound_http2``, which leads to one endpoint: here a splitter (``sidecar.split``) stands in the
inspector's place, and each endpoint in use has a stream of its own (``sidecar.outbound_leg``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ringfence.policy.reasons import DenyReason
from ringfence.routing.model import RetryOn
from sidecar.balance import Member, Outcome
from sidecar.http2 import Answer, Exchange, Heads, Malformed
from sidecar.http2_relay import answer_of
from sidecar.idleness import Idleness
from sidecar.openers import Carrier, Openers
from sidecar.outbound_judge import OutboundHttp2Judge
from sidecar.outbound_leg import LegCarrier, LegLoss
from sidecar.recording import Recorder, new_request_id
from sidecar.refusal import Refusal, parse_refusal
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.request_relay import JudgedRequest
from sidecar.routed_relay import IDEMPOTENT
from sidecar.split import Call, Leg, SplitJudge, Splitter, Unprocessed
from sidecar.target import ENDPOINT_FAULTS, Target
from sidecar.tracing.judge import TracedJudge

PATIENCE_SECONDS: Final = 0.25  # for a leg to open; then the requests that wait for it go to another that is open
WAIT_SECONDS: Final = 10.0  # in which some endpoint must take a request


class BalancedChooser:
    """The balancer of a target, as the splitter asks it."""

    __slots__ = ("_monotonic", "_target", "begun", "choose")

    def __init__(self, target: Target, monotonic: Callable[[], float]) -> None:
        self._target = target
        self._monotonic = monotonic
        self.choose: Callable[[float, Collection[Member]], Member | None] = target.balancer.choose
        self.begun: Callable[[Member], None] = target.balancer.begun

    def ended(self, member: Member, seconds: float, outcome: Outcome) -> None:
        self._target.ended(member, seconds, outcome, self._monotonic())

    def unreachable(self, member: Member, seconds: float) -> None:
        self._target.learned(member, seconds, Outcome.FAILED, self._monotonic())


class OutboundSplitRelay(OutboundHttp2Judge):
    """One connection of the app, and a carrier for each leg. ``facts.peer`` is who was asked last."""

    inspector: Splitter

    def __init__(
        self,
        owner: RelayOwner,
        facts: RelayFacts,
        openers: Openers,
        target: Target,
        heads: Heads,
        recorder: Recorder,
        own_id: str,
    ) -> None:
        Relay.__init__(self, owner, facts)
        self._openers = openers
        self._target = target
        self.shut_out = False  # it came when the route let no more connections in
        self._carriers: dict[Leg, LegCarrier] = {}
        self._idleness = Idleness()
        self._idle_told = False
        self._attending = False
        self._attend_again = False
        self._write_due = False
        self._call_soon = asyncio.get_running_loop().call_soon
        self.record_with(recorder, own_id)
        chooser = BalancedChooser(target, recorder.monotonic)
        judge: SplitJudge = self
        if recorder.tracer is not None:
            judge = TracedJudge(self, recorder.tracer, self.status_counted)
        self.inspector = Splitter(judge, chooser, heads, monotonic=recorder.monotonic)
        self.limit(target)

    # -- bytes --------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        try:
            self.inspector.from_client(data)
        except Exception as error:
            self._defect(error)
            return
        self._attend()

    def leg_bytes(self, leg: Leg, data: bytes) -> None:
        try:
            self.inspector.from_leg(leg, data)
        except Exception as error:
            self._defect(error)
            return
        self._attend()

    def _attend(self) -> None:
        """Write what there is, for whomever; open and close what is wanted and what is not.

        What several legs have for the app in one turn of the event loop leaves in one system call.
        """
        self._attend_again = True
        if self._attending:
            return  # a leg failed while it was opened or written to: that comes next, not deeper
        self._attending = True
        try:
            while self._attend_again and not self.ended:
                self._attend_again = False
                self._attend_once()
        finally:
            self._attending = False

    def _attend_once(self) -> None:
        splitter = self.inspector
        if splitter.client_touched and not self._write_due:
            self._write_due = True
            self._call_soon(self._write_to_app)
        for leg in splitter.legs_to_open():
            if not leg.closed:
                self._open(leg)
        for leg in splitter.touched_legs():
            carrier = self._carriers.get(leg)
            if carrier is not None:
                carrier.flush()
        for leg in splitter.legs_to_close():
            carrier = self._carriers.pop(leg, None)
            if carrier is not None:
                carrier.close()
        if splitter.close_after and not self.ended:
            self.end("closed")

    def _write_to_app(self) -> None:
        self._write_due = False
        out = self.inspector.take_client()
        if out and self.transport is not None and not self.ended:
            self.facts.bytes_to_app += len(out)
            self.transport.write(out)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.inspector.client_full(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.ended:
            self.inspector.client_full(False)
            self._attend()

    # -- legs ---------------------------------------------------------------------------------------------------------

    def _open(self, leg: Leg) -> None:
        carrier = self._carriers[leg] = LegCarrier(self, leg, self._openers, self.facts.port)
        carrier.open()
        if not leg.ready and not leg.closed:
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._leg_late, leg)

    def _leg_late(self, leg: Leg) -> None:
        if not self.ended and not leg.ready:
            self.inspector.leg_late(leg)
            self._attend()

    def leg_may_wait(self) -> bool:
        circuit = self._target.balancer.circuit
        if circuit.try_pending():
            return True
        self._target.circuit_opened("pending")
        return False

    def leg_waited(self) -> None:
        self._target.balancer.circuit.pending -= 1

    def leg_full(self, leg: Leg, full: bool) -> None:
        self.inspector.leg_full(leg, full)
        if not full:
            self._attend()

    def leg_leaves(self, leg: Leg) -> None:
        self.inspector.leg_leaves(leg)
        self._attend()

    def leg_lost(self, leg: Leg, loss: LegLoss | None) -> None:
        self._carriers.pop(leg, None)
        if not self.ended:
            if loss is not None and loss.reason == DenyReason.UPSTREAM_TIMEOUT and not leg.ready:
                self._target.timed_out("connect")
            try:
                self.inspector.leg_lost(leg, loss, again=loss is None or loss.fault)
            except Exception as error:
                self._defect(error)
                return
            self._attend()

    def move_from(self, carrier: Carrier) -> None:
        """Legs on this link take no new requests."""
        for leg, held in list(self._carriers.items()):
            if held.link is carrier:
                self.inspector.leg_leaves(leg)
        self._attend()

    def endpoints_changed(self) -> None:
        """Legs to endpoints that are gone take no new requests."""
        self.inspector.keep()
        self._attend()

    # -- ends ---------------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        for carrier in list(self._carriers.values()):
            carrier.sweep(now)
        if not self.ended:
            detail = f"no endpoint took the request in {WAIT_SECONDS:.0f} s"
            self.inspector.give_up(now - WAIT_SECONDS, LegLoss(reason=DenyReason.UPSTREAM_TIMEOUT, detail=detail))
            self._attend()
        super().sweep(now)
        idle_seconds = self._target.timeouts.idle_seconds
        if idle_seconds is not None and not self.ended:
            moved = self.facts.bytes_from_app + self.facts.bytes_to_app
            seconds = self._idleness.seconds(moved, now, busy=not self.inspector.idle)
            if seconds >= idle_seconds and self._idle_told:
                self.end("closed", f"idle for {seconds:.0f} s")
            elif seconds >= idle_seconds:
                self._idle_told = True
                self._target.timed_out("idle")
                self.drain()  # a request may be under way

    def app_end(self) -> None:
        """What is left are requests whose responses are due. Whether a client that says no more still wants them is the
        endpoints' to decide, as if they stood behind its own connection: most do not think so."""
        splitter = self.inspector
        splitter.client_eof()
        told = [leg for leg in self._carriers if leg.ready]
        for leg in told:
            splitter.leg_leaves(leg)  # nothing that waits, or comes back, can be sent behind the end
        self._attend()
        for leg in told:
            carrier = self._carriers.get(leg)
            if carrier is not None:
                carrier.half_close()

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = 0) -> None:
        if not self.ended:
            splitter = self.inspector
            splitter.cut()
            for leg in splitter.touched_legs():
                carrier = self._carriers.get(leg)
                if carrier is not None:
                    carrier.flush()
            carriers, self._carriers = self._carriers, {}
            for carrier in carriers.values():
                carrier.close()
            self._target.balancer.circuit.connections -= 1
            self._limits.stop()
            out = splitter.take_client()
            if out and self.transport is not None and not abort:
                self.facts.bytes_to_app += len(out)
                self.transport.write(out)
        super().end(reason, detail, abort=abort, code=code)

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        if not self.shut_out or not self._target.balancer.circuit.crowded:
            self.shut_out = False
            return super().request(exchange)
        exchange.started = self._monotonic()
        self._target.circuit_opened("connections")
        self.circuit_open(exchange, "connections are open")
        return None

    def response(self, exchange: Exchange, status: int) -> None:
        self._turn_to(exchange)
        if exchange.refusal is not None and isinstance(exchange, Call):
            told = parse_refusal(exchange.refusal)
            if told is not None:  # by the sidecar there, in the app's place
                exchange.outcome = Outcome.FAILED if told.reason in ENDPOINT_FAULTS else Outcome.UNKNOWN
        super().response(exchange, status)

    def done(self, exchange: JudgedRequest) -> None:
        self._turn_to(exchange)
        super().done(exchange)

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> Answer | None:
        self._turn_to(exchange)
        return super().bad_response(exchange, reason, detail)

    def unreachable(self, exchange: Exchange, cause: object) -> Answer:
        self._turn_to(exchange)
        loss = cause if isinstance(cause, LegLoss) else _NOBODY
        told = Refusal(
            reason=loss.reason,
            request_id=loss.told.request_id if loss.told is not None else new_request_id(),
            origin=loss.told.origin if loss.told is not None else self._own_id,
            retry_after_seconds=loss.told.retry_after_seconds if loss.told is not None else 0,
        )
        self._refused_by(told, None, exchange, loss.detail)
        return answer_of(told)

    def sends_again(self, exchange: Exchange, why: Unprocessed, attempts: int) -> bool:
        """As the route permits, but for its budget: that bounds what may add to an endpoint's load, and here one said
        that it bore none. A GOAWAY may give back hundreds at once."""
        target = self._target
        retries = target.table.settings(exchange.method, exchange.target).retries
        if RetryOn.REFUSED not in retries.on or attempts >= retries.attempts:
            return False
        self._recorder.metrics.retries.at(target.service, why).value += 1
        return True

    def repeats(self, exchange: Exchange, after: Sequence[RetryOn], attempts: int) -> bool:
        """As the route permits, of idempotent methods alone, and out of its budget."""
        target = self._target
        retries = target.table.settings(exchange.method, exchange.target).retries
        if not retries.idempotent or attempts >= retries.attempts or exchange.method not in IDEMPOTENT:
            return False
        told = next((one for one in after if one in retries.on), None)
        if told is None or not target.may_retry(self._monotonic()):
            return False
        target.retried(told)
        return True

    def _expire(self, exchange: Exchange, kind: str, detail: str) -> bool:
        if kind == "try" and not self.ended and self.inspector.try_again(exchange):
            self._attend()
            return True
        return super()._expire(exchange, kind, detail)

    def _turn_to(self, exchange: object) -> None:
        """Tell what follows of the endpoint that has, or last had, this request."""
        leg = exchange.leg if isinstance(exchange, Call) else None
        if leg is not None and leg.peer != self.facts.peer:
            self.facts.peer = leg.peer
            self._series = self._recorder.series(self.facts.direction, leg.peer, self.facts.service)


_NOBODY: Final = LegLoss(reason=DenyReason.UPSTREAM_UNREACHABLE, detail="no endpoint takes requests")
