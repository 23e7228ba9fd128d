"""HTTP/1.x from the app to the mesh: framed, timed, counted; answered here when the mesh cannot deliver. Adapter.

The app's connection stays while its requests move: between two of them, when the endpoint drains, is left out, is not
ready or is gone, or when the link has reached its age, the stream is let go and the next request opens another
(``sidecar.routed_relay``).
"""

from __future__ import annotations

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.balance import Member, Outcome
from sidecar.http1 import Exchange, Heads, Malformed
from sidecar.http2.frames import NO_ERROR
from sidecar.openers import Openers
from sidecar.outbound_ending import EndingHttpRelay
from sidecar.recording import Recorder, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import RelayFacts, RelayOwner
from sidecar.routed_relay import RoutedHttpRelay
from sidecar.target import Target


class OutboundHttpRelay(EndingHttpRelay, RoutedHttpRelay):
    """Requests from the app to the mesh: framed, timed, counted; answered here when the mesh cannot deliver them."""

    alpn = b"http/1.1"

    def __init__(
        self,
        owner: RelayOwner,
        facts: RelayFacts,
        openers: Openers,
        target: Target,
        member: Member,
        heads: Heads,
        recorder: Recorder,
        own_id: str,
    ) -> None:
        RoutedHttpRelay.__init__(self, owner, facts, openers, target, member)
        self.follow()
        self.inspect(heads, recorder, own_id)

    def open_on_connect(self) -> bool:
        return False

    # -- bytes --------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        if self._leaving or not self._member.usable:
            self.leave_if_idle()
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
                self.ask()
            elif self._resend is not None:
                self.to_mesh(out)
            elif not stream.send(out) and self.transport is not None:
                self.transport.pause_reading()
        if inspector.attention:
            self._attend()
        if inspector.paused and self.transport is not None and not self.ended:
            self.transport.pause_reading()
        if self._lingering_bytes >= 0:
            self.dropped(len(data))

    def on_data(self, data: bytes) -> bool:
        if self._resend is not None or self._first:
            if self.goes_elsewhere(data):
                return True
            data = self.take_first(data)
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
        if was_paused and not inspector.paused and not self.ended:
            self.resumed()
        if self._leaving:
            self.leave_if_idle()
        return done

    # -- ends ---------------------------------------------------------------------------------------------------------

    @property
    def asks_nothing(self) -> bool:
        return self.stream is None and not self._asked

    def on_end(self) -> None:
        if self.inspector.idle and not self.inspector.close_after:
            self.leave_if_idle()  # a server may close between requests; the app's connection is another
            return
        if self.lost_before_response():
            return
        out = self.inspector.server_eof()
        if out:
            self.to_app(out, 0)
        if self.inspector.attention:
            self._attend()
        if not self.ended and self._lingering_bytes < 0:
            super().on_end()

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        self.still()
        super().end(reason, detail, abort=abort, code=code)

    def refused(self, reason: str, detail: str) -> None:
        """Answer what the app has asked; what the mesh did to this connection is the answer's reason."""
        if self.ended:
            return
        inspector = self.inspector
        asked = inspector.outstanding()
        self._outcome = self._blame(reason)
        if asked and not asked[0].status:
            told = Refusal(
                reason=reason,
                request_id=self.facts.request_id or new_request_id(),
                origin=self.facts.origin or self._own_id,
                retry_after_seconds=self.retry_after_seconds,
                challenge=refusal.challenge_for(reason),
            )
            self._refused_by(told, None, asked[0], detail)
            status = refusal.status_of(reason)
            # What broke lies between the sidecars: the app's request is not to blame.
            not_to_blame = status < 500 and refusal.is_failure(reason)
            inspector.fail(refusal.http_response(told, status=502 if not_to_blame else status))
            answer = inspector.take_client()
            if answer:
                self.to_app(answer, 0)
        elif asked:
            inspector.fail(b"")
        # What was said last on an upgraded connection that policy ends, as a close frame, is to arrive.
        told_otherwise = inspector.raw and not refusal.is_failure(reason)
        self.end(reason, detail, abort=inspector.abort and not told_otherwise)

    def on_reset(self, code: int) -> None:
        if self.taken_back(code) or self.lost_before_response():
            return
        link = self._link
        if self._lingering_bytes >= 0:
            return  # the app has its answer; the stream was only waiting to go
        if self.inspector.idle:
            self.leave_if_idle(gone=True)
        elif link is not None and link.closed:
            self.refused(link.end_reason or DenyReason.UPSTREAM_UNREACHABLE, link.end_detail)
        else:
            self.refused(DenyReason.UPSTREAM_UNREACHABLE, f"stream reset, code {code}")

    def _lead_to(self, member: Member, outcome: Outcome, now: float) -> None:
        before = self.facts.peer
        super()._lead_to(member, outcome, now)
        if self.facts.peer != before:
            self._series = self._recorder.series(self.facts.direction, self.facts.peer, self.facts.service)

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        exchange.started = self._monotonic()
        if self._target.plain or self.begin(exchange):
            return b""
        exchange.decision = Deny(DenyReason.CIRCUIT_OPEN)
        detail = "as many requests are in flight as the route permits"
        self.inspector.refuse(exchange, self._answer(DenyReason.CIRCUIT_OPEN, exchange, detail=detail))
        return None

    def finish(self, exchange: Exchange) -> None:
        self.ended_one(exchange)

    def response(self, exchange: Exchange, status: int) -> None:
        if self._in_hand:
            self.answered()
        if exchange.refusal is not None:
            told = refusal.told_by(exchange.refusal, self.facts.peer)
            if told is not None:
                self._refused_by(told, None, exchange)

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        self._recorder.violation(self.facts, by="server", reason=reason)
        kind = DenyReason.UPSTREAM_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        self._outcome = Outcome.FAILED
        story = f"{reason}: {detail}"
        return self._answer(kind, exchange, detail=story, status=502)
