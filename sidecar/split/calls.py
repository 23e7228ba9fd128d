"""The calls of one connection of the app, and how one ends before its time. Sans-IO; where each goes: `placing`.

While all that was sent is still here and nothing of a response has gone out, it is sent again, elsewhere, where
its endpoint has provably not begun with it (it said so, or was never sent it), or the judge lets it be repeated.
Everything else that an endpoint leaves unfinished ends in the call's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ringfence.routing.bounds import ATTEMPTS
from ringfence.routing.model import RetryOn
from sidecar.balance import Member, Outcome
from sidecar.http2 import frames as h2
from sidecar.http2.answer import Answer
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError
from sidecar.http2.reading import LARGEST_ID
from sidecar.http2.reasons import Malformed, reason_of
from sidecar.http2.streams import DRAIN_PING
from sidecar.split.call import Call
from sidecar.split.chooser import Chooser
from sidecar.split.judge import SplitJudge, Unprocessed
from sidecar.split.placing import REST_SECONDS, Placing

if TYPE_CHECKING:
    from sidecar.split.leg import Leg

ATTEMPTS_LIMIT: Final = ATTEMPTS[1]
"""How often a call is sent again, whatever the judge says."""


class Calls(Placing):
    """What all ends of one app connection share; `Splitter` is its face for the adapter."""

    __slots__ = ("client_ended", "close_after", "draining", "turning_away")

    def __init__(
        self,
        judge: SplitJudge,
        chooser: Chooser,
        monotonic: Callable[[], float],
        make_leg: Callable[[Member, int], Leg],
    ) -> None:
        super().__init__(judge, chooser, monotonic, make_leg)
        self.draining = False
        self.turning_away = False
        """Requests from now on are ignored: the client knows that they were not processed."""
        self.client_ended = False
        self.close_after = False

    # --- legs that are lost ---

    def leg_lost(self, leg: Leg, cause: object, *, again: bool = True) -> None:
        """See `Splitter.leg_lost`. ``cause`` None: the endpoint closed it."""
        if leg.closed:
            return
        self._shut_leg(leg)
        self._resting[leg.member] = self.monotonic() + REST_SECONDS
        if cause is not None:
            self.last_cause = cause
        if again and not leg.ready:
            self.chooser.unreachable(leg.member, self.monotonic() - leg.began_at)
        for call in list(leg.streams.values()):
            if again and self.repeat(call, (RetryOn.RESET_BEFORE_RESPONSE,), Outcome.FAILED):
                continue
            self.client.released(call, leg.drop(call.up))
            leg.release(call, Outcome.FAILED if again else Outcome.UNKNOWN)
            if call.response_open:
                self.lose(call, cause)
        for call in [call for call in self.waiting if call.wants is leg]:
            call.avoid |= {leg.member}
            if not again and not self._may_wait(call):
                self.lose(call, cause)
        self._place_waiting(leg)

    def break_leg(self, leg: Leg, error: PeerError) -> None:
        """The endpoint broke HTTP/2: that costs its streams, and no other's."""
        if leg.closed:
            return
        self.judge.broken(False, reason_of(error), error.detail)
        leg.put(h2.goaway(0, error.code, error.detail.encode()))
        self.leg_lost(leg, None)

    # --- early ends ---

    def unprocessed(self, call: Call, why: Unprocessed) -> None:
        """The endpoint has not begun with ``call``: try another."""
        leg = call.leg
        assert leg is not None
        outcome = Outcome.UNKNOWN if why is Unprocessed.GOAWAY else Outcome.FAILED
        again = call.repeatable and call.attempts < ATTEMPTS_LIMIT
        if again and self.judge.sends_again(call, why, call.attempts):
            self._send_again(call, leg, outcome)
            return
        held = leg.drop(call.up)
        leg.release(call, outcome)
        self.client.released(call, held)
        self.lose(call, None)

    def repeat(self, call: Call, after: Sequence[RetryOn], outcome: Outcome, code: int | None = None) -> bool:
        """Send ``call``, which its endpoint may have begun with, to another, if there is one and the judge lets it;
        False if not, and nothing has changed then. ``code``: to reset its stream with, where the endpoint has not."""
        leg = call.leg
        if leg is None or not call.up.stream_id or not call.repeatable or not call.response_open:
            return False
        if call.attempts >= ATTEMPTS_LIMIT or self.close_after:
            return False
        if self.chooser.choose(self.monotonic(), call.avoid | {leg.member}) is None:
            return False
        if not self.judge.repeats(call, after, call.attempts):
            return False
        if code is not None:
            leg.put(h2.rst_stream(call.up.stream_id, code))
            leg.remember_late(call.up.stream_id, passes=False)
        self._send_again(call, leg, outcome)
        return True

    def _send_again(self, call: Call, leg: Leg, outcome: Outcome) -> None:
        up = call.up
        held = leg.drop(up)
        leg.release(call, outcome)
        call.attempts += 1
        call.avoid |= {leg.member}
        up.again(call.kept or [], call.kept_bytes - held, ending=not call.request_open)
        self.place(call)

    def lose(self, call: Call, cause: object) -> None:
        """No endpoint will answer ``call``, or go on answering it."""
        judge = self.judge
        if cause is not None or call.leg is None:
            answer: Answer | None = judge.unreachable(call, cause)
        else:
            reason = Malformed.TRUNCATED if call.status else Malformed.NO_RESPONSE
            answer = judge.bad_response(call, reason, "the endpoint went away before its response was complete")
        call.cut = True
        self.client.tell(call, answer, h2.INTERNAL_ERROR)
        self.finish(call)

    def refused(self, call: Call) -> None:
        """The judge has refused a new request: no endpoint hears of it."""
        self.client.tell(call, call.local, h2.INTERNAL_ERROR)
        self.finish(call)

    def end(self, call: Call, answer: Answer | None, *, client_code: int, leg_code: int) -> None:
        """End a living call on both sides."""
        call.cut = True
        self.client.tell(call, answer, client_code)
        if call.leg is not None:
            call.leg.cancel(call, leg_code)
        self.finish(call)

    def finish(self, call: Call) -> None:
        """The call is over for the client."""
        client = self.client
        del client.streams[call.stream_id]
        if call.kept_bytes:
            client.forget_kept(call)
        if not call.down.done:
            dropped = client.drop(call.down)
            if call.leg is not None:
                call.leg.consumed(dropped)
        if call.waiting_since is not None:
            del self.waiting[call]
        if call.up.pending is not None:
            client.let_go(call)
        self.judge.done(call)
        if not client.streams and (self.turning_away or self.client_ended):
            self.shut()

    def spend_reset(self) -> bool:
        """The client has cost a stream its life; False if it did so too often, and all is over."""
        try:
            self.client.guard.spend("reset")
        except FloodError as error:
            self.break_client(error)
        return not self.close_after

    # --- the connection ---

    def tell_window(self, window_bytes: int) -> None:
        for leg in self.living_legs():
            leg.tell_window(window_bytes)

    def living_legs(self) -> list[Leg]:
        return [*self.legs.values(), *self.leaving]

    def drain(self) -> None:
        """See `Splitter.drain`."""
        client = self.client
        if self.draining or self.close_after:
            return
        if not client.greeted:
            self.shut()
            return
        self.draining = True
        client.goaway(LARGEST_ID, h2.NO_ERROR)
        client.put(h2.ping(DRAIN_PING))

    def drain_seen(self) -> None:
        """The client has read the first GOAWAY of a drain."""
        if self.draining and not self.turning_away:
            self.turning_away = True
            self.client.goaway(self.client.last_id, h2.NO_ERROR)
            if not self.client.streams:
                self.shut()

    def break_client(self, error: PeerError) -> None:
        """The client broke the connection."""
        if self.close_after:
            return
        self.judge.broken(True, reason_of(error), error.detail)
        if self.client.began:  # it does speak HTTP/2
            self.client.goaway(self.client.last_id, error.code, error.detail.encode())
        self.shut()

    def shut(self) -> None:
        """Read no more of any side; what is outstanding is cut off."""
        if self.close_after:
            return
        client = self.client
        self.close_after = client.closed = True
        client.drop_input()
        left = list(client.streams.values())
        client.streams.clear()
        self.waiting.clear()
        for call in left:
            call.cut = True
            client.forget_kept(call)
            if call.leg is not None:
                call.leg.cancel(call, h2.CANCEL)
            self.judge.done(call)
        for leg in self.living_legs():
            self.close_leg(leg)
