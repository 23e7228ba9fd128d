"""Which limits hold for a caller's connection to a port, and what they say. Adapter of the table to the inbound side.

Policy is judged before a request is asked for here: what is denied uses nothing up. A connection of HTTP has no verdict
of its own, so whoever is permitted nothing has other allowances than the rest. What one limit allows and another does
not is given back, so a refused request uses nothing up, either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.kit.clock import Clock
from ringfence.policy.paths import PathTemplate, judged_path, parse_template
from ringfence.routing.matching import takes_path
from ringfence.routing.model import Per, Rate, RateLimit
from ringfence.snapshot import Port
from ringfence.spiffe import SpiffeId
from sidecar.caller import Caller
from sidecar.limits.gcra import SECOND_NS, Bucket, a_second_of
from sidecar.limits.table import LimitTable
from sidecar.metrics import Count, SidecarMetrics

_READ_BYTES: Final = 256 * 1024  # less than one read of a socket cannot be allowed at once
_MEMORY_LIMIT: Final = 1024
_MEMORY_TARGET_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """One limit on one thing, for one caller: what to ask the table."""

    bucket: Bucket
    key: int
    group: int
    count: Count


class CallerLimits:
    """What holds for one connection of a caller; replaced when the limits change."""

    __slots__ = ("_connections", "_requests", "_requests_of", "_table", "_volumes")

    def __init__(
        self,
        table: LimitTable,
        requests: Sequence[_Asked],
        requests_of: Callable[[bytes, bytes], tuple[int, ...]],
        connections: Sequence[_Asked],
        volumes: Sequence[_Asked],
    ) -> None:
        self._table = table
        self._requests = requests
        self._requests_of = requests_of
        self._connections = connections
        self._volumes = volumes

    @property
    def paces(self) -> bool:
        """Whether bytes are limited."""
        return bool(self._volumes)

    def request(self, method: bytes, target: bytes) -> int:
        """Let a request in: 0, or after how many seconds, rounded up, it may come again."""
        if not self._requests:
            return 0
        return self._ask([self._requests[number] for number in self._requests_of(method, target)])

    def connection(self) -> int:
        """Let a connection in: 0, or after how many seconds, rounded up, it may come again."""
        return self._ask(self._connections)

    def used(self, size: int) -> float:
        """So many bytes have come or gone, or none: for how many seconds to read no more of them."""
        wait = 0
        for asked in self._volumes:
            one = self._table.charge(asked.bucket, asked.key, asked.group, size)
            if one and size:
                asked.count.value += 1
            wait = max(wait, one)
        return wait / SECOND_NS

    def _ask(self, limits: Sequence[_Asked]) -> int:
        for number, asked in enumerate(limits):
            wait = self._table.ask(asked.bucket, asked.key, asked.group)
            if wait:
                for earlier in limits[:number]:
                    self._table.give_back(earlier.bucket, earlier.key, earlier.group)
                asked.count.value += 1
                return -(-wait // SECOND_NS)
        return 0


class Limiter:
    """The limits of the ports in force. Costs nothing until a port has one."""

    def __init__(self, metrics: SidecarMetrics, *, clock: Clock, descriptor: int | None = None) -> None:
        """``descriptor``: of the table that other workers have, too; they have the machine's monotonic clock, too."""
        self._metrics = metrics
        self._descriptor = descriptor
        self._clock = clock
        self._held: LimitTable | None = None
        self._matchers: dict[tuple[RateLimit, ...], _Matcher] = {}

    def enforce(self, ports: Sequence[Port]) -> None:
        """A new snapshot: forget what belongs to limits that are gone. Who used how much stays known."""
        wanted = {port.limits for port in ports if port.limits}
        self._matchers = {limits: self._matchers.get(limits) or _Matcher(limits) for limits in wanted}

    def of(self, service: str, port: Port, caller: Caller) -> CallerLimits | None:
        """What holds for a connection of this caller to a port; None if nothing is limited there."""
        if not port.limits:
            return None
        table = self._table()
        permitted = caller.may_send(port.port)

        def asked(limit: RateLimit, rate: Rate, what: str, burst: int) -> _Asked:
            place = (service, str(port.port), limit.name, what)
            return _Asked(
                Bucket(rate, burst),
                table.key(*place, _sharing(limit.per, caller.spiffe_id, permitted=permitted)),
                table.key(*place),
                self._metrics.limited.at(service, limit.name, limit.per),
            )

        limits = port.limits
        return CallerLimits(
            table,
            [
                asked(limit, limit.requests, "requests", limit.burst or a_second_of(limit.requests))
                for limit in limits
                if limit.requests is not None
            ],
            self._matchers[limits].matching,
            [
                asked(limit, limit.connections, "connections", a_second_of(limit.connections))
                for limit in limits
                if limit.connections is not None
            ],
            [
                asked(limit, limit.bytes, "bytes", a_second_of(limit.bytes, least=_READ_BYTES))
                for limit in limits
                if limit.bytes is not None
            ],
        )

    def _table(self) -> LimitTable:
        if self._held is None:
            if self._descriptor is None:
                self._held = LimitTable.alone(self._now)
            else:
                self._held = LimitTable.shared(self._descriptor, self._now)
        return self._held

    def _now(self) -> int:
        return int(self._clock.monotonic() * SECOND_NS)


def _sharing(per: Per, caller: SpiffeId | None, *, permitted: bool) -> str:
    """The words that all have in common who share one limit; callers without identity share theirs, and so do those
    to whom policy permits nothing on the port, who could use up what those have to whom it does.

    What another ``per`` goes by, such as the subject of a verified token, has its words here.
    """
    if per is Per.CALLER:
        return f"caller {caller or ''}"
    return "route" if permitted else "strangers"


class _Matcher:
    """Which of a port's limits on requests hold for a request, by their place among those; remembered a request."""

    __slots__ = ("_all", "_entries", "_memory")

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        on_requests = [limit for limit in limits if limit.requests is not None]
        self._entries: list[tuple[frozenset[str], list[PathTemplate]]] = [
            (frozenset(limit.methods), [parse_template(text) for text in limit.paths]) for limit in on_requests
        ]
        self._all = tuple(range(len(self._entries)))
        self._memory: dict[tuple[bytes, bytes], tuple[int, ...]] | None = (
            {} if any(methods or paths for methods, paths in self._entries) else None
        )

    def matching(self, method: bytes, target: bytes) -> tuple[int, ...]:
        memory = self._memory
        if memory is None:
            return self._all
        found = memory.get((method, target))
        if found is None:
            found = self._find(method.decode("latin-1"), target)
            if len(target) <= _MEMORY_TARGET_BYTES:
                if len(memory) >= _MEMORY_LIMIT:
                    memory.clear()
                memory[method, target] = found
        return found

    def _find(self, method: str, target: bytes) -> tuple[int, ...]:
        path = judged_path(target)
        segments = path[1:].split(b"/") if path is not None else None
        return tuple(
            number
            for number, (methods, paths) in enumerate(self._entries)
            if (not methods or method in methods)
            and (not paths or segments is None or any(takes_path(one, segments) for one in paths))
        )
