"""The calls of one connection of the app: where each goes, and how one ends before its time. Sans-IO.

A call waits while no endpoint can take it: for the leg that was chosen, as long as that has its time to open, else for
any. While all that was sent is still here and nothing of a response has gone out, it is sent again, elsewhere, where
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

if TYPE_CHECKING:
    from sidecar.split.client_end import ClientEnd
    from sidecar.split.leg import Leg
    from sidecar.split.sender import Sender

ATTEMPTS_LIMIT: Final = ATTEMPTS[1]
"""How often a call is sent again, whatever the judge says."""
REST_SECONDS: Final = 1.0
"""For an endpoint that could not be had or went away, while there are others."""
_CHOICES: Final = 8


class Calls:
    """State that all ends of one app connection share; `Splitter` is its face for the adapter."""

    __slots__ = (
        "_make_leg",
        "_resting",
        "chooser",
        "client",
        "client_ended",
        "close_after",
        "draining",
        "judge",
        "last_cause",
        "leaving",
        "legs",
        "monotonic",
        "to_close",
        "to_open",
        "touched",
        "turning_away",
        "waiting",
    )

    client: ClientEnd

    def __init__(
        self,
        judge: SplitJudge,
        chooser: Chooser,
        monotonic: Callable[[], float],
        make_leg: Callable[[Member, int], Leg],
    ) -> None:
        self.judge = judge
        self.chooser = chooser
        self.monotonic = monotonic
        self._make_leg = make_leg
        self._resting: dict[Member, float] = {}
        self.legs: dict[Member, Leg] = {}
        """Those that take requests, or will."""
        self.leaving: set[Leg] = set()
        """Those that take no new ones, and still have some."""
        self.waiting: dict[Call, None] = {}
        self.last_cause: object = None
        self.touched: list[Sender] = []
        self.to_open: list[Leg] = []
        self.to_close: list[Leg] = []
        self.draining = False
        self.turning_away = False
        """Requests from now on are ignored: the client knows that they were not processed."""
        self.client_ended = False
        self.close_after = False

    def touch(self, end: Sender) -> None:
        end.touched = True
        self.touched.append(end)

    # --- where a call goes ---

    def place(self, call: Call) -> None:
        """Send ``call`` to the endpoint that is chosen for it, or have it wait."""
        avoid = call.avoid
        # A new request was given its time by the judge just now.
        now = (call.waiting_since is None and not call.attempts and call.started) or self.monotonic()
        for _ in range(_CHOICES):
            member = self.chooser.choose(now, avoid)
            if member is None:
                break
            leg = self.legs.get(member)
            if leg is None and not self._rests(member):
                leg = self._open(member)
            if leg is not None:
                if leg.takes:
                    self._begin(call, leg, now)
                    return
                if not leg.ready and not leg.late_to_open:
                    self._wait(call, leg)
                    return
            avoid |= {member}
        if self._may_wait(call):
            self._wait(call, None)
            return
        member = self.chooser.choose(now, call.avoid)
        if member is not None and member not in self.legs:
            self._wait(call, self._open(member))
        else:
            self.lose(call, self.last_cause)

    def _begin(self, call: Call, leg: Leg, now: float) -> None:
        if call.waiting_since is not None:
            call.waiting_since = call.wants = None
            del self.waiting[call]
        call.begun = now
        self.chooser.begun(leg.member)
        leg.begin(call)

    def _wait(self, call: Call, leg: Leg | None) -> None:
        call.wants = leg
        if call.waiting_since is None:
            call.waiting_since = self.monotonic()
            self.waiting[call] = None

    def _may_wait(self, call: Call) -> bool:
        """Whether any leg may yet take ``call``."""
        return any(member not in call.avoid for member in self.legs)

    def _place_waiting(self, wanted: Leg) -> None:
        """``wanted`` cannot be waited for any more: nor can, perhaps, any other."""
        for call in list(self.waiting):
            if call.wants is wanted or (call.wants is None and not self._may_wait(call)):
                call.wants = None
                self.place(call)

    def freed(self, leg: Leg) -> None:
        """``leg`` takes requests, and some wait."""
        for call in list(self.waiting):
            if not leg.takes:
                return
            if call.wants in (leg, None) and leg.member not in call.avoid:
                self._begin(call, leg, self.monotonic())

    # --- legs ---

    def _open(self, member: Member) -> Leg:
        leg = self.legs[member] = self._make_leg(member, self.client.peer_window_bytes)
        self.to_open.append(leg)
        return leg

    def _rests(self, member: Member) -> bool:
        return member in self._resting and self.monotonic() < self._resting[member]

    def leg_ready(self, leg: Leg) -> None:
        self._resting.pop(leg.member, None)
        self.freed(leg)

    def leg_late(self, leg: Leg) -> None:
        """Calls go elsewhere, if they can, rather than wait for ``leg`` to open."""
        if not leg.ready and not leg.closed:
            leg.late_to_open = True
            self._place_waiting(leg)

    def leave(self, leg: Leg) -> None:
        """``leg`` takes no new requests, and closes when it has none left."""
        if leg.leaving or leg.closed:
            return
        leg.leaving = True
        self.leaving.add(leg)
        if self.legs.get(leg.member) is leg:
            del self.legs[leg.member]
            self._resting[leg.member] = self.monotonic() + REST_SECONDS
        if not leg.streams:
            self.close_leg(leg)
        self._place_waiting(leg)

    def keep(self) -> None:
        """The endpoints have changed: legs to those that are gone take no new requests."""
        for member in [member for member in self._resting if member.gone]:
            del self._resting[member]
        for leg in [leg for member, leg in self.legs.items() if member.gone]:
            self.leave(leg)
        for call in [call for call in self.waiting if call.wants is None]:
            self.place(call)  # an endpoint that is new may take it

    def close_leg(self, leg: Leg) -> None:
        """Nothing of the app's is on ``leg``: say goodbye."""
        if leg.closed:
            return
        leg.put(h2.goaway(0, h2.NO_ERROR))
        self._shut_leg(leg)
        for call in list(leg.streams.values()):  # answered, but for requests that the endpoint did not read to the end
            self.client.released(call, leg.drop(call.up))
            leg.release(call, Outcome.UNKNOWN)

    def _shut_leg(self, leg: Leg) -> None:
        leg.closed = True
        leg.drop_input()
        self.to_close.append(leg)
        self.leaving.discard(leg)
        if self.legs.get(leg.member) is leg:
            del self.legs[leg.member]

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
