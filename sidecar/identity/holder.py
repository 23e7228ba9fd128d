"""The identity that the process holds: got at the start, renewed while it lives, got anew when it was slept through.

Theory of operation. Two states. *Without* a valid SVID: prove by host key or token until the CA answers; a final no
ends ``run``, since nothing in this process will change it. *With* one: wait until it is due, renew it by itself over
mutual TLS, and keep the old one while that fails, whatever the reason; when it ends unrenewed, we are without.

Lifetimes are counted on the monotonic clock from what the CA said remained, so a wrong wall clock does not upset the
schedule. But that clock stands still while a machine sleeps, so the wall clock may end an identity too; and waits are
cut into slices, because a timer that was set before a sleep comes late by all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId, TrustBundle, X509Svid
from sidecar.identity.acceptance import Accepted, accept, is_worth_telling, skew_words
from sidecar.identity.client import Issuing
from sidecar.identity.errors import IdentityError, IdentityRefused, IdentityUnavailable
from sidecar.identity.proving import Proving
from sidecar.identity.request import draw_request
from sidecar.identity.schedule import call_deadline, renew_after, retry_after

OnChange = Callable[[X509Svid, tuple[TrustBundle, ...]], None]

_SLICE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """An identity with its ends and its due time on both clocks."""

    svid: X509Svid
    bundle: TrustBundle
    ends_monotonic: float
    due_monotonic: float
    due_wall: float

    def left(self, clock: Clock) -> float:
        """Seconds of life that remain, by the more cautious clock; never negative."""
        return max(0.0, min(self.ends_monotonic - clock.monotonic(), self.svid.not_after - clock.now()))

    def until_due(self, clock: Clock) -> float:
        return max(0.0, min(self.due_monotonic - clock.monotonic(), self.due_wall - clock.now()))


class IdentityHolder:
    """Holds the SVID and its bundle; ``run`` keeps them fresh. One task runs it; everything else only reads."""

    def __init__(
        self,
        *,
        spiffe_id: SpiffeId,
        client: Issuing,
        proving: Proving,
        clock: Clock,
        random: Callable[[], float],
        log: Logger,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.spiffe_id = spiffe_id
        self.clock_skew_seconds: float | None = None
        """The CA's clock less this machine's, in seconds, as of the last answer; None before the first."""
        self.renewals = 0
        """Identities got, the first one included."""
        self.failures = 0
        """Attempts that got none."""
        self._client = client
        self._proving = proving
        self._clock = clock
        self._random = random
        self._log = log
        self._wait = wait
        self._held: _Held | None = None
        self._listeners: list[OnChange] = []
        self._first = asyncio.Event()
        self._last_failure: str | None = None

    @property
    def svid(self) -> X509Svid | None:
        """The newest SVID, also after it ended: whoever shows it looks at its ``not_after``."""
        return None if self._held is None else self._held.svid

    @property
    def bundles(self) -> tuple[TrustBundle, ...]:
        """The own trust domain's bundle as the CA gave it with the SVID; empty before the first."""
        return () if self._held is None else (self._held.bundle,)

    @property
    def left_seconds(self) -> float:
        """What the SVID still has; 0 without one."""
        return 0.0 if self._held is None else self._held.left(self._clock)

    @property
    def waiting_for(self) -> str | None:
        """What stands between this process and a valid identity, or None if it has one."""
        if self.left_seconds > 0.0:
            return None
        state = "a first identity" if self._held is None else "a new identity, as the old one has ended"
        return state if self._last_failure is None else f"{state} ({self._last_failure})"

    def on_change(self, callback: OnChange) -> Callable[[], None]:
        """Call ``callback`` with each new SVID and its bundles, from now on; returns what ends that."""
        self._listeners.append(callback)

        def end() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return end

    async def ready(self) -> None:
        """Returns once there has been an identity."""
        await self._first.wait()

    async def run(self) -> None:
        """Get and keep an identity, forever.

        Raises IdentityRefused if there is no valid identity and the CA, or the pin, said no for good.
        """
        attempt = 0
        while True:
            try:
                await self._once()
            except IdentityRefused as error:
                if self.left_seconds <= 0.0:
                    self._last_failure = str(error)
                    raise
                delay = self._failed(error, attempt)
            except IdentityUnavailable as error:
                delay = self._failed(error, attempt)
            else:
                attempt = 0
                await self._until_due()
                continue
            attempt += 1
            await self._wait(delay)

    async def _once(self) -> None:
        """One attempt, by the means that the present state allows."""
        held = self._held
        left = self.left_seconds
        if held is None or left <= 0.0:
            accepted = await self._proving.obtain(call_deadline(float("inf")))
            self._take(accepted, self._proving.how)
            return
        request = draw_request(self.spiffe_id)
        issued = await self._client.renew(held.svid, held.bundle, request.csr, call_deadline(left))
        self._take(accept(issued, request.private_key, self.spiffe_id), "renewal")

    def _take(self, accepted: Accepted, how: str) -> None:
        # Counted from the middle of the call and not from now would be exact; the error is under one call's time.
        now, wall = self._clock.monotonic(), self._clock.now()
        left = accepted.left_seconds
        delay = renew_after(left, self._random)
        self._held = _Held(
            svid=accepted.svid,
            bundle=accepted.bundle,
            ends_monotonic=now + left,
            due_monotonic=now + delay,
            due_wall=wall + delay,
        )
        self.renewals += 1
        self.clock_skew_seconds = accepted.skew_seconds
        self._last_failure = None
        self._log.info(
            "identity issued",
            spiffe_id=str(accepted.svid.spiffe_id),
            serial=accepted.svid.serial,
            proved_by=how,
            seconds_left=round(left, 1),
            renews_in_seconds=round(delay, 1),
        )
        if is_worth_telling(accepted.skew_seconds):
            self._log.warning(
                "clocks differ",
                advice=f"{skew_words(accepted.skew_seconds)} (set the clock)",
                skew_seconds=round(accepted.skew_seconds, 1),
            )
        self._first.set()
        for callback in tuple(self._listeners):
            try:
                callback(accepted.svid, self.bundles)
            except Exception as error:  # a listener's fault must not cost the process its identity
                self._log.error("identity listener failed", error=f"{type(error).__name__}: {error}")

    def _failed(self, error: IdentityError, attempt: int) -> float:
        """Count and log a failure; returns the seconds to wait."""
        self.failures += 1
        self._last_failure = str(error)
        left = self.left_seconds
        delay = retry_after(attempt, left, self._random)
        self._log.warning(
            "identity not renewed" if left > 0.0 else "no identity yet",
            reason=str(error),
            attempt=attempt + 1,
            seconds_left=round(left, 1),
            retry_in_seconds=round(delay, 2),
        )
        return delay

    async def _until_due(self) -> None:
        while self._held is not None and (remaining := self._held.until_due(self._clock)) > 0.0:
            await self._wait(min(remaining, _SLICE_SECONDS))
