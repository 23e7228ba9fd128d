"""What a route asks of HTTP/1.x: requests counted, bounded in time, sent again, and moved to another endpoint. Adapter.

Theory of operation. With one endpoint and no route (``Target.plain``) a request passes by all of this. Else ``begin``
and ``ended_one`` frame it. What is sent of a request that may be sent again is held until the first byte of its
response: then it is either let go, or, after an answer of 5xx that a route retries, sent to another endpoint, and the
app sees none of the first one. One timer a connection serves all deadlines: it is armed for the earliest, looks when it
fires at what is outstanding then, and is armed anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from ringfence.routing.model import Retries, RetryOn
from sidecar import refusal
from sidecar.balance import Member, Outcome
from sidecar.http1 import Exchange, Inspector
from sidecar.http2.frames import CANCEL
from sidecar.openers import Carrier
from sidecar.outbound_relay import OutboundRelay
from sidecar.target import Target

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 section 9.2.2
# For an app that takes a request and never answers: longer than any long poll, shorter than for ever.
RESPONSE_HEAD_SECONDS: Final = 300.0
_STATUS_LINE_BYTES: Final = 12  # "HTTP/1.1 503"


class RoutedHttpRelay(OutboundRelay):
    """The part of an HTTP/1.x relay that follows a route."""

    inspector: Inspector
    _in_hand: int  # requests that were counted and have not ended

    def follow(self) -> None:
        """Second half of ``__init__``."""
        self._asked = False
        self._leaving = False  # no request after those outstanding goes by this stream
        self._moved = False  # the next stream may go to another endpoint
        self._repeatable = False  # the request outstanding may be sent again although an app may have seen it
        self._first = b""  # of a response, too short to tell its status
        self._outcome = Outcome.UNKNOWN  # of requests without a response
        self._tried_at = 0.0
        self._head_seconds = 0.0  # from the last try to its response's head
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._late_of: Exchange | None = None  # whose request's end is watched for, and from when it is waited for
        self._late_from = 0.0
        self._late_open = False
        self._silent: tuple[Exchange, float] | None = None  # without a response since then, seen by ``sweep``

    # -- a request ----------------------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> bool:
        """A request on a connection that is not plain; False if the circuit is open."""
        target = self._target
        balancer = target.balancer
        if not balancer.circuit.try_request():
            target.circuit_opened("requests")
            return False
        self._in_hand += 1
        balancer.begun(self._member)
        settings = target.table.settings(exchange.method, exchange.target)
        retries = settings.retries
        self._tried_at = exchange.started
        self._repeatable = (
            self._in_hand == 1
            and retries.idempotent
            and retries.attempts > 0
            and exchange.method in IDEMPOTENT
            and not exchange.fields.upgrade
        )
        if self.replied:
            self._resend, self._resend_bytes = ([], 0) if self._repeatable else (None, 0)
        if (
            settings.request_seconds is not None
            or settings.response_head_seconds is not None
            or retries.per_try_seconds
        ):
            self._arm(exchange, exchange.started)
        return True

    def ended_one(self, exchange: Exchange) -> None:
        """A request has ended, of which ``begin`` may have counted any."""
        if isinstance(exchange.decision, Deny):
            return  # by an open circuit
        self._tried = ()
        self._in_hand -= 1
        self._target.balancer.circuit.requests -= 1
        now = self._openers.monotonic()
        outcome = self._outcome_of(exchange)
        seconds = self._head_seconds if exchange.status else now - self._tried_at
        self._target.ended(self._member, seconds, outcome, now)

    def _outcome_of(self, exchange: Exchange) -> Outcome:
        if not exchange.status:
            return self._outcome
        if exchange.refusal is not None:
            told = refusal.parse_refusal(exchange.refusal)
            return self._blame(told.reason) if told is not None else Outcome.UNKNOWN
        return Outcome.ERROR if exchange.status >= 500 else Outcome.ANSWERED

    def answered(self) -> None:
        """The head of a response came to a request that was counted."""
        self._head_seconds = self._openers.monotonic() - self._tried_at

    # -- another try --------------------------------------------------------------------------------------------------

    def retries(self) -> Retries:
        asked = self.inspector.outstanding()
        target = self._target
        return target.table.settings(asked[0].method, asked[0].target).retries if asked else target.route.retries

    @property
    def resendable(self) -> bool:
        return self._repeatable or not self.replied

    def _connected(self) -> None:
        self.replied = True
        if not self._repeatable:
            self._resend = None

    def _lead_to(self, member: Member, outcome: Outcome, now: float) -> None:
        before, in_hand = self._member, self._in_hand
        super()._lead_to(member, Outcome.UNKNOWN if in_hand else outcome, now)
        for _ in range(in_hand):
            self._target.ended(before, now - self._tried_at, outcome, now)
            self._target.balancer.begun(member)
        self._tried_at = now
        self._first = b""
        asked = self.inspector.outstanding()
        if asked and self._timer is not None:
            self._arm(asked[0], now)

    def _tried_out(self, outcome: Outcome) -> None:
        if not self._in_hand:
            super()._tried_out(outcome)  # else it is told with the requests

    def goes_elsewhere(self, data: bytes) -> bool:
        """The first bytes of a response to what is held: whether they are kept from the app, to try again or because
        they are too few to tell."""
        data = self._first + data
        if self._repeatable:
            if len(data) < _STATUS_LINE_BYTES:
                self._first = data
                return True
            status = data[9:_STATUS_LINE_BYTES]
            if status[:1] == b"5":
                wanted = self.retries().on
                told = next((one for one in _told_by(status, data) if one[0] in wanted), None)
                if told is not None and self._try_again(*told):
                    return True
        self._resend = None
        return False

    def take_first(self, data: bytes) -> bytes:
        """With what was kept of the response so far."""
        if not self._first:
            return data
        first, self._first = self._first, b""
        return first + data

    def lost_before_response(self) -> bool:
        """The stream ended before the response began: whether the request has gone elsewhere."""
        if self.stream is None or self._resend is None or not self._repeatable or self._first:
            return False
        return self._try_again(RetryOn.RESET_BEFORE_RESPONSE, Outcome.FAILED)

    # -- moving -------------------------------------------------------------------------------------------------------

    def move_from(self, carrier: Carrier) -> None:
        """``carrier`` takes no more streams: leave it now, or when the requests outstanding have ended."""
        self._leaving = True
        self.leave_if_idle()

    def leave_if_idle(self, *, gone: bool = False) -> None:
        """Let the stream go between two requests; the next one opens another. ``gone``: it was reset."""
        stream, inspector = self.stream, self.inspector
        if stream is None or not inspector.idle or inspector.close_after or inspector.raw or self.ended:
            return
        held, self._held_bytes = self._held_bytes, 0
        if held:
            stream.credit(held)
        self.stream, self._link, self._resend = None, None, None
        self._tried = ()
        self._asked = self._leaving = False
        self._moved = True
        if gone:
            stream.drop(CANCEL)
        else:
            stream.close()
        if self.transport is not None and not inspector.paused and not self._app_ended:
            self.transport.resume_reading()

    def ask(self) -> None:
        """The first bytes of a request are there, and no stream."""
        if self._asked:
            return
        self._asked = True
        target = self._target
        balancer = target.balancer
        if self.shut_out and balancer.circuit.crowded:
            self.refused(DenyReason.CIRCUIT_OPEN, "as many connections are open as the route permits")
            return
        if self._moved or not self._member.usable:
            self._moved = False
            now = self._openers.monotonic()
            member = balancer.choose(now)
            if member is not None and member is not self._member:
                self._lead_to(member, Outcome.UNKNOWN, now)
        self.open_stream()
        if self.stream is not None:
            self.stream_opened()
            self.on_writable()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _arm(self, exchange: Exchange, now: float) -> None:
        """Have the timer fire at the earliest deadline of ``exchange``, if nothing earlier is due."""
        settings = self._target.table.settings(exchange.method, exchange.target)
        at = float("inf")
        if settings.request_seconds is not None:
            at = exchange.started + settings.request_seconds
        if not exchange.status:
            if settings.response_head_seconds is not None:
                since = self._late_from if self._late_of is exchange else self._tried_at
                at = min(at, since + settings.response_head_seconds)
            if settings.retries.per_try_seconds is not None:
                at = min(at, self._tried_at + settings.retries.per_try_seconds)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at != float("inf"):
            self._timer_at = at
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._late)

    def _late(self) -> None:
        self._timer = None
        inspector = self.inspector
        asked = inspector.outstanding()
        if self.ended or not asked or inspector.raw or inspector.close_after:
            return
        exchange, now = asked[0], self._openers.monotonic()
        settings = self._target.table.settings(exchange.method, exchange.target)
        whole, head, one_try = (
            settings.request_seconds,
            settings.response_head_seconds,
            settings.retries.per_try_seconds,
        )
        if whole is not None and now >= exchange.started + whole:
            self._expired("request", f"the response did not end in {whole:g} s")
        elif exchange.status:
            self._arm(exchange, now)
        elif self.stream is None:
            self._tried_at = now  # connecting has a time of its own, and a try begins after it
            self._arm(exchange, now)
        elif one_try is not None and now >= self._tried_at + one_try:
            if not self.lost_before_response():
                self._expired("try", f"no response in {one_try:g} s, and no other try")
            else:
                self._target.timed_out("try")
                self._arm(exchange, now)
        elif head is not None and now >= self._waited_from(exchange, now) + head:
            self._expired("response_head", f"no response in {head:g} s")
        else:
            self._arm(exchange, now)

    def _waited_from(self, exchange: Exchange, now: float) -> float:
        """Since when the response is due: not before the request's end, which is known to within one deadline."""
        if self._late_of is not exchange:
            self._late_of = exchange
            self._late_from = now if exchange.fields.length else self._tried_at
        elif exchange.request_open or self._late_open:
            self._late_from = now
        self._late_open = exchange.request_open
        return max(self._late_from, self._tried_at)

    def _expired(self, kind: str, detail: str) -> None:
        self._target.timed_out(kind)
        self.refused(DenyReason.REQUEST_TIMEOUT, detail)

    def sweep(self, now: float) -> None:
        super().sweep(now)
        inspector = self.inspector
        if self._leaving:
            self.leave_if_idle()
        if self.ended or inspector.progress != "response":
            self._silent = None
            return
        asked = inspector.outstanding()
        if not asked or asked[0].status or asked[0].local is not None:
            self._silent = None
        elif self._silent is None or self._silent[0] is not asked[0]:
            self._silent = (asked[0], now)
        elif now - self._silent[1] >= RESPONSE_HEAD_SECONDS:
            settings = self._target.table.settings(asked[0].method, asked[0].target)
            if settings.response_head_seconds is None and settings.request_seconds is None:
                self._expired("response_head", f"no response in {RESPONSE_HEAD_SECONDS:.0f} s")

    @property
    def busy(self) -> bool:
        return not self.inspector.idle

    def still(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _told_by(status: bytes, response: bytes) -> Iterator[tuple[RetryOn, Outcome]]:
    """What a response of 5xx may be retried as: the other sidecar answers so for an app that broke off before its
    response, and that is told by the refusal in it."""
    if refusal.HEADER in response:
        yield RetryOn.RESET_BEFORE_RESPONSE, Outcome.FAILED
    if status in (b"502", b"503", b"504"):
        yield RetryOn.GATEWAY_ERROR, Outcome.ERROR
    yield RetryOn.SERVER_ERROR, Outcome.ERROR


def accept_limit(target: Target) -> bool:
    """Whether the route lets one more connection of the app in; counted either way, until the relay ends."""
    circuit = target.balancer.circuit
    if circuit.try_connection():
        return True
    target.circuit_opened("connections")
    circuit.connections += 1
    return False
