"""The balancer of one upstream. Pure.

Theory of operation. Two of the endpoints that are ready and not left out are drawn at random, and the one with less to
do is taken: the fewer calls in hand, and, where their latencies differ by more than noise does, the smaller product of
calls and latency. Equal ones are equally likely. So one slow endpoint gets less without any endpoint getting none, and
many callers who decide alike do not all run to the same one.

Endpoints that fail in a row are left out (``outliers``). When fewer than the panic threshold remain of those that are
ready, the fault is likelier with the caller or the network than with each of them, and all are used again: that is
counted. One that is not ready is used where none is.

With one endpoint there is nothing to choose, and callers need not report its calls (``single``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ringfence.routing.model import Outliers, Route
from ringfence.snapshot import Endpoint
from sidecar.balance.budget import RetryBudget
from sidecar.balance.circuit import Circuit
from sidecar.balance.member import Address, Member, Outcome, address_of
from sidecar.balance.outliers import count_failure, count_success

if TYPE_CHECKING:
    from random import Random

_DEFAULT_OUTLIERS: Final = Outliers()
_DEFAULT_ROUTE: Final = Route(name="")
_ALIKE: Final = 2.0  # latencies of which neither is more than this many times the other


class Balancer:
    """Chooses among the endpoints of one upstream, and keeps what its calls taught.

    A caller that was given a member tells ``begun`` and ``ended`` of each call, ``joined`` and ``left`` of each
    connection that stays with it; both in pairs, whatever happens.
    """

    __slots__ = (
        "_available",
        "_by_address",
        "_ejected",
        "_errors_count",
        "_members",
        "_outliers",
        "_panic_percent",
        "_random",
        "_until",
        "budget",
        "calls",
        "circuit",
        "ejections",
        "panicking",
        "panics",
        "single",
    )

    def __init__(self, *, endpoints: Sequence[Endpoint], route: Route | None, now: float, random: Random) -> None:
        self._random = random
        self._by_address: dict[Address, Member] = {}
        self._members: list[Member] = []
        self._available: list[Member] = []  # to choose from until ``_until``
        self._until = 0.0
        self._ejected = 0
        self.calls = 0  # begun
        self.ejections = 0
        self.panicking = False  # too few are healthy, so all are used
        self.panics = 0  # how often it came to that
        self.single: Member | None = None
        settings = route if route is not None else _DEFAULT_ROUTE
        self.budget = RetryBudget(settings.retries.budget_percent, now)
        self.circuit = Circuit(settings.circuit_breaker)
        self.update(endpoints, route, now)

    def update(self, endpoints: Sequence[Endpoint], route: Route | None, now: float) -> None:
        """The endpoints and settings of a new snapshot; what is known of those that stay is kept."""
        settings = route if route is not None else _DEFAULT_ROUTE
        self._outliers = settings.outliers if settings.outliers is not None else _DEFAULT_OUTLIERS
        self._errors_count = settings.outliers is not None
        self._panic_percent = settings.panic_percent
        self.budget.set_percent(settings.retries.budget_percent)
        self.circuit.limits = settings.circuit_breaker
        held, self._by_address = self._by_address, {}
        for endpoint in endpoints:
            address = address_of(endpoint)
            member = held.pop(address, None) or Member(endpoint)
            member.endpoint = endpoint
            self._by_address[address] = member
        for member in held.values():
            member.gone = True
            member.usable = False
        self._members = list(self._by_address.values())
        self.single = self._members[0] if len(self._members) == 1 else None
        self._look(now)

    def __iter__(self) -> Iterator[Member]:
        """The endpoints of the newest snapshot, for those who show them."""
        return iter(self._members)

    # -- choosing -----------------------------------------------------------------------------------------------------

    def choose(self, now: float, avoid: Collection[Member] = ()) -> Member | None:
        """Whither the next call goes; None if there is no endpoint, or all are to be avoided."""
        single = self.single
        if single is not None:
            return single if single not in avoid else None
        if now >= self._until:
            self._look(now)
        members = self._available
        if avoid:
            members = [member for member in members if member not in avoid] or [
                member for member in self._members if member not in avoid
            ]
        count = len(members)
        if count < 2:
            return members[0] if members else None
        at = int(self._random.random() * count)
        other = int(self._random.random() * (count - 1))
        return self._lighter(members[at], members[other if other < at else other + 1], now)

    def _lighter(self, one: Member, other: Member, now: float) -> Member:
        """The first of two that are equal: it was drawn at random."""
        work, other_work = one.load + 1, other.load + 1
        latency, other_latency = one.latency(now), other.latency(now)
        if latency > _ALIKE * other_latency or other_latency > _ALIKE * latency:
            return one if work * latency <= other_work * other_latency else other
        return one if work <= other_work else other

    def _look(self, now: float) -> None:
        """Who can be chosen now, and until when that holds."""
        ready = [member for member in self._members if member.endpoint.ready] or self._members
        healthy = [member for member in ready if member.ejected_until <= now]
        ends = [member.ejected_until for member in self._members if member.ejected_until > now]
        self._ejected = len(ends)
        self._until = min(ends, default=float("inf"))
        panicking = len(healthy) * 100 < self._panic_percent * len(ready) or (not healthy and bool(ready))
        if panicking and not self.panicking:
            self.panics += 1
        self.panicking = panicking
        self._available = ready if panicking else healthy
        available = set(self._available)
        for member in self._members:
            member.usable = member in available

    # -- learning -----------------------------------------------------------------------------------------------------

    def begun(self, member: Member) -> None:
        """A call goes there."""
        member.outstanding += 1
        self.calls += 1

    def ended(self, member: Member, seconds: float, outcome: Outcome, now: float) -> bool:
        """A call there is over; True if the endpoint is left out from now on."""
        member.outstanding -= 1
        return self.learned(member, seconds, outcome, now)

    def learned(self, member: Member, seconds: float, outcome: Outcome, now: float) -> bool:
        """What a call or the attempt to connect says of the endpoint; True if it is left out from now on."""
        if outcome is Outcome.UNKNOWN:
            return False
        failed = outcome is Outcome.FAILED
        if failed:
            member.observe_failure(seconds, now)
        else:
            member.observe(seconds, now)
        if not failed and (outcome is Outcome.ANSWERED or not self._errors_count):
            if member.failures or member.ejections:
                count_success(member, self._outliers, now)
            return False
        if self.single is not None or member.gone:
            return False
        if now >= self._until:
            self._look(now)
        if not count_failure(member, self._outliers, now, self._ejected, len(self._members)):
            return False
        self.ejections += 1
        self._look(now)
        return True

    def joined(self, member: Member) -> None:
        """A connection stays there."""
        member.connections += 1

    def left(self, member: Member) -> None:
        """A connection no longer stays there."""
        member.connections -= 1
