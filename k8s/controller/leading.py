"""One replica alone does what must be single: the one that holds a Lease. Adapter.

Whether another's lease has ended is told by this replica's own monotonic clock: it has ended when nobody renewed it for
its whole duration since it was last seen to change. So clocks that differ between machines never make two leaders. A
leader that cannot renew stops before anybody else can begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from k8s.client.connection import Connection
from k8s.client.errors import ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import LEASES
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """``holder``: unique among all replicas that ever are. A leader that has not renewed for ``give_up_seconds`` stops;
    that must be well below ``duration_seconds``."""

    namespace: str
    name: str
    holder: str
    duration_seconds: float = 15.0
    give_up_seconds: float = 10.0
    renew_seconds: float = 3.0


class Leadership:
    """``leading`` says whether this replica is the one; ``changed`` is called when that changes."""

    def __init__(
        self,
        connection: Connection,
        settings: LeaseSettings,
        *,
        clock: Clock,
        log: Logger,
        random: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._log = log
        self._random = random
        self._changed = changed
        self._told = False
        self._missed = 0
        self._renewed_at = float("-inf")
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = float("-inf")

    @property
    def leading(self) -> bool:
        return self._clock.monotonic() - self._renewed_at < self._settings.give_up_seconds

    async def run(self) -> None:
        """Try to hold the lease until cancelled; then let go of it, so that another need not wait."""
        try:
            while True:
                try:
                    async with asyncio.timeout(self._settings.renew_seconds):
                        await self._turn()
                    self._missed = 0
                except (KubernetesError, TimeoutError) as error:
                    self._missed += 1
                    if self._missed in (1, 5) or self._missed % 100 == 0:
                        told = str(error) or "no answer in time"
                        self._log.warning("lease not looked after", error=told, attempt=self._missed)
                self._tell()
                await asyncio.sleep(self._settings.renew_seconds * (0.8 + 0.4 * self._random()))
                self._tell()
        finally:
            if self.leading:
                self._renewed_at = float("-inf")
                with suppress(KubernetesError, TimeoutError):
                    async with asyncio.timeout(2.0):
                        await self._release()

    async def _turn(self) -> None:
        settings = self._settings
        asked_at = self._clock.monotonic()
        try:
            lease = await self._connection.get(LEASES, settings.name, settings.namespace)
        except NotFoundError:
            with suppress(ConflictError):
                body = {"metadata": {"name": settings.name}, "spec": self._spec({}, taken=True)}
                await self._connection.create(LEASES, body, settings.namespace)
                self._renewed_at = asked_at
            return
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, asked_at
        ours = holder == settings.holder
        duration = max(float(spec.get("leaseDurationSeconds") or 0), 1.0)
        if not ours and holder and asked_at - self._seen_at < duration:
            self._renewed_at = float("-inf")
            return
        lease["spec"] = self._spec(spec, taken=not ours)
        with suppress(ConflictError):  # somebody was faster, as the next turn sees
            await self._connection.replace(LEASES, settings.name, lease, settings.namespace)
            self._renewed_at = asked_at

    def _spec(self, before: dict[str, Any], *, taken: bool) -> dict[str, Any]:
        moment = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            **before,
            "holderIdentity": self._settings.holder,
            "leaseDurationSeconds": int(self._settings.duration_seconds),
            "renewTime": moment,
        }
        if taken:
            spec |= {"acquireTime": moment, "leaseTransitions": int(before.get("leaseTransitions") or 0) + 1}
        return spec

    async def _release(self) -> None:
        settings = self._settings
        lease = await self._connection.get(LEASES, settings.name, settings.namespace)
        if (lease.get("spec") or {}).get("holderIdentity") == settings.holder:
            lease["spec"] = {**lease["spec"], "holderIdentity": ""}
            await self._connection.replace(LEASES, settings.name, lease, settings.namespace)

    def _tell(self) -> None:
        leading = self.leading
        if leading != self._told:
            self._told = leading
            self._log.info("leading" if leading else "no longer leading", lease=self._settings.name)
            self._changed()
