"""Tells people on their objects what becomes of pods: the one writer of events. Adapter.

Why a pod was refused is told on whoever makes the pod (its ReplicaSet, Job, StatefulSet), as there is no pod; where
nobody does, on the name that it would have had. What a pod waits for is told on the pod. The same again only counts up.
What cannot be told is logged, and forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from k8s.client.connection import Connection
from k8s.client.errors import ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import EVENTS
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger

_QUEUE_LIMIT: Final = 256
_REMEMBERED: Final = 1024
_APART_SECONDS: Final = 5.0
_PACE_SECONDS: Final = 0.1
"""Between writes: whoever reaches the webhook may have something told, and must not make the API server busy by us."""
_MESSAGE_LIMIT_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The object on which an event is told."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """``reason``: a word such as ``InjectionDenied``; ``warning``: whether somebody should look."""

    subject: Subject
    reason: str
    message: str
    warning: bool = True

    def written(self) -> Told:
        """As it can be written: who reaches the webhook may bring halves of characters, of which none is a text."""
        subject = Subject(**{key: _whole(value) for key, value in asdict(self.subject).items()})
        return replace(self, subject=subject, message=_whole(self.message))

    @property
    def event_name(self) -> str:
        """The same for the same thing told again."""
        digest = hashlib.sha256(f"{self.subject}\0{self.reason}\0{self.message}".encode()).hexdigest()[:16]
        return f"{self.subject.name[:200].rstrip('.-')}.{digest}"


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@dataclass(slots=True)
class _Counted:
    count: int = 0
    first: str = ""
    at: float = field(default=float("-inf"))


class EventTeller:
    """``tell`` takes note; ``run`` writes, at most some at once and the same thing not again within seconds."""

    def __init__(self, connection: Connection, *, component: str, instance: str, clock: Clock, log: Logger) -> None:
        self._connection = connection
        self._component = component
        self._instance = instance
        self._clock = clock
        self._log = log
        self._queue: asyncio.Queue[Told] = asyncio.Queue(_QUEUE_LIMIT)
        self._counted: OrderedDict[tuple[str, str], _Counted] = OrderedDict()

    def tell(self, told: Told) -> bool:
        """Never waits; beyond a limit the newest is dropped, and False."""
        try:
            self._queue.put_nowait(told.written())
        except asyncio.QueueFull:
            self._log.warning("event dropped, too many are waiting", reason=told.reason)
            return False
        return True

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            told = await self._queue.get()
            try:
                await self._write(told)
            except KubernetesError as error:
                self._log.warning("event not written", reason=told.reason, error=str(error))
            await asyncio.sleep(_PACE_SECONDS)

    async def _write(self, told: Told) -> None:
        key = (told.subject.namespace, told.event_name)
        counted = self._counted.setdefault(key, _Counted())
        self._counted.move_to_end(key)
        while len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
        now = self._clock.monotonic()
        moment = datetime.fromtimestamp(int(self._clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        counted.count += 1
        if now - counted.at < _APART_SECONDS:
            return
        counted.at = now
        if counted.first:
            change = {"count": counted.count, "lastTimestamp": moment}
            try:
                await self._connection.patch(EVENTS, told.event_name, change, told.subject.namespace)
                return
            except NotFoundError:
                pass  # events are kept for an hour
        counted.first = moment
        try:
            await self._connection.create(EVENTS, self._event(told, counted, moment), told.subject.namespace)
        except ConflictError:  # told in an earlier life, or by another replica
            change = {"lastTimestamp": moment, "message": told.message[:_MESSAGE_LIMIT_CHARACTERS]}
            await self._connection.patch(EVENTS, told.event_name, change, told.subject.namespace)

    def _event(self, told: Told, counted: _Counted, moment: str) -> dict[str, Any]:
        subject = told.subject
        involved = {"apiVersion": subject.api_version, "kind": subject.kind, "name": subject.name}
        involved |= {"namespace": subject.namespace}
        involved |= {"uid": subject.uid} if subject.uid else {}
        return {
            "metadata": {"name": told.event_name, "namespace": subject.namespace},
            "involvedObject": involved,
            "reason": told.reason,
            "message": told.message[:_MESSAGE_LIMIT_CHARACTERS],
            "type": "Warning" if told.warning else "Normal",
            "count": counted.count,
            "firstTimestamp": counted.first,
            "lastTimestamp": moment,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }
