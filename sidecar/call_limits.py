"""What bounds the calls of one HTTP/2 connection of the app: their deadlines, and how many may be in flight. Adapter.

A gRPC client says by when it wants its answer (``grpc-timeout``); a route may say so of any request. One timer serves
all calls of the connection: it is armed for the earliest deadline, looks when it fires at what is outstanding then, and
is armed anew. A call without a deadline on a plain target never comes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from sidecar.http2 import Exchange
from sidecar.split import Call
from sidecar.target import Target

_LONGEST_TIMER_SECONDS: Final = 3600.0

Expire = Callable[[Exchange, str, str], bool]
"""End a call that is late: the call, the kind of deadline, what to log. True if it goes on, by another try."""


class CallLimits:
    """``counted``: the calls that take a place in the circuit."""

    __slots__ = ("_expire", "_monotonic", "_outstanding", "_target", "_timer", "_timer_at", "counted")

    def __init__(
        self,
        target: Target,
        *,
        monotonic: Callable[[], float],
        outstanding: Callable[[], Iterable[Exchange]],
        expire: Expire,
    ) -> None:
        self._target = target
        self._monotonic = monotonic
        self._outstanding = outstanding
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.counted: set[Exchange] = set()

    def begin(self, exchange: Exchange) -> bool:
        """A call, its ``started`` set; False if the circuit is open."""
        target = self._target
        if not target.plain:
            if not target.balancer.circuit.try_request():
                target.circuit_opened("requests")
                return False
            self.counted.add(exchange)
        at = self._due(exchange, exchange.started)[0]
        if at != float("inf"):
            self._arm(at)
        return True

    def end(self, exchange: Exchange) -> None:
        """A call has ended, counted or not."""
        if exchange in self.counted:
            self.counted.discard(exchange)
            self._target.balancer.circuit.requests -= 1

    def stop(self) -> None:
        """The connection has ended, and all its calls."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, exchange: Exchange, now: float) -> tuple[float, str]:
        """When a call is late, in monotonic seconds, and which deadline that is."""
        at, kind = float("inf"), ""
        asked = exchange.fields.grpc_timeout_seconds
        if asked is not None:
            at, kind = exchange.started + asked, "deadline"
        if not self._target.plain:
            settings = self._target.table.settings(exchange.method, exchange.target)
            whole, head = settings.request_seconds, settings.response_head_seconds
            if whole is not None and exchange.started + whole < at:
                at, kind = exchange.started + whole, "request"
            if head is not None and not exchange.status and exchange.started + head < at:
                at, kind = exchange.started + head, "response_head"
            one_try = settings.retries.per_try_seconds
            if one_try is not None and not exchange.status:
                since = exchange.started
                if isinstance(exchange, Call):
                    since = exchange.begun if exchange.up.stream_id else now  # a try begins when it is sent
                if since + one_try < at:
                    at, kind = since + one_try, "try"
        return at, kind

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        delay = min(max(0.0, at - self._monotonic()), _LONGEST_TIMER_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._monotonic()
        soonest = float("inf")
        late: list[tuple[Exchange, str]] = []
        for exchange in self._outstanding():
            at, kind = self._due(exchange, now)
            if at <= now:
                late.append((exchange, kind))
            else:
                soonest = min(soonest, at)
        if soonest != float("inf"):
            self._arm(soonest)
        for exchange, kind in late:
            self._target.timed_out(kind)
            if self._expire(exchange, kind, f"not answered in {now - exchange.started:.3g} s"):
                self._arm(self._due(exchange, now)[0])
