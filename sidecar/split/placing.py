"""Where each call of one connection of the app goes, and what becomes of the legs to choose from. Sans-IO.

A call waits while no endpoint can take it: for the leg that was chosen, as long as that has its time to open, else for
any. An endpoint that went away, or could not be had, rests for a moment while there are others.

`calls` adds how a call ends before its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.balance import Member, Outcome
from sidecar.http2 import frames as h2
from sidecar.split.call import Call
from sidecar.split.chooser import Chooser
from sidecar.split.judge import SplitJudge

if TYPE_CHECKING:
    from sidecar.split.client_end import ClientEnd
    from sidecar.split.leg import Leg
    from sidecar.split.sender import Sender

REST_SECONDS: Final = 1.0
"""For an endpoint that could not be had or went away, while there are others."""
_CHOICES: Final = 8


class Placing:
    """The state that all ends of one app connection share. See the module's docstring."""

    __slots__ = (
        "_make_leg",
        "_resting",
        "chooser",
        "client",
        "judge",
        "last_cause",
        "leaving",
        "legs",
        "monotonic",
        "to_close",
        "to_open",
        "touched",
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

    def lose(self, call: Call, cause: object) -> None:
        """No endpoint will answer ``call``, or go on answering it."""
        raise NotImplementedError
