"""Tells owners of Services and pods what they should know of them, as events on these objects. Adapter.

Told by the replica that leads, of each object once in ten minutes while it holds: its figures change with each pod that
comes, and an event lives for an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from k8s.controller.events import Subject, Told
from k8s.controller.settling import Settler
from k8s.controller.watching import ClusterCopies
from ringfence.kit.clock import Clock
from ringfence.platform import Notice

AGAIN_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 60.0


class Notices(Protocol):
    """As much of a host as this needs."""

    def notices(self) -> Sequence[Notice]: ...


class NoticeTeller:
    """``tell`` writes an event, and says whether there is room for it; ``leading``: whether this replica is to
    write."""

    def __init__(
        self,
        copies: ClusterCopies,
        host: Notices,
        leading: Callable[[], bool],
        tell: Callable[[Told], bool],
        *,
        clock: Clock,
    ) -> None:
        self._copies = copies
        self._host = host
        self._leading = leading
        self._tell = tell
        self._clock = clock
        self._told: dict[tuple[str, str, str], float] = {}

    async def run(self, settler: Settler) -> None:
        """Tell whatever is new, until cancelled."""
        while True:
            await settler.settled()
            if self._leading():
                self.round()
            if self._told:
                asyncio.get_running_loop().call_later(_LOOK_SECONDS, settler.stir)

    def round(self) -> None:
        """Tell what holds now and was not told lately."""
        now = self._clock.monotonic()
        held: dict[tuple[str, str, str], float] = {}
        for notice in self._host.notices():
            key = (notice.service, notice.instance, notice.reason)
            at = self._told.get(key, float("-inf"))
            subject = self._subject(notice)
            if now - at >= AGAIN_SECONDS and subject is not None:
                told = self._tell(Told(subject=subject, reason=notice.reason, message=notice.message))
                at = now if told else at
            held[key] = at
        self._told = held

    def _subject(self, notice: Notice) -> Subject | None:
        """The pod or the Service; None for pods of no Service together, of which the log tells."""
        namespace, _, name = notice.service.partition("/")
        if notice.instance:
            pod = self._copies.pod(namespace, notice.instance)
            uid = pod.uid if pod is not None else ""
            return Subject(api_version="v1", kind="Pod", namespace=namespace, name=notice.instance, uid=uid)
        service = self._copies.services.objects.get((namespace, name))
        if service is None:
            return None
        return Subject(api_version="v1", kind="Service", namespace=namespace, name=name, uid=service.uid)
