"""Has it told on pods what they wait for, once they have waited for long: seldom, and never of all at once. Adapter.

Each replica tells of the sidecars that are connected to it. Of those that are connected to none, one tells: the first
of the replicas that live, by name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from k8s.attest.noting import AttestationNotes
from k8s.controller.events import Subject, Told
from k8s.controller.pods_waiting import Known, Waiting, waits_for
from k8s.objects import lenient, names
from k8s.objects.pods import Pod, SidecarProgress
from ringfence.kit.clock import Clock
from ringfence.platform import SidecarStanding, identity_of
from ringfence.spiffe import SpiffeId

_STATUS_LIMIT_CHARACTERS: Final = 4096


class Sidecars(Protocol):
    """As much of a host as this needs."""

    def sidecars(self) -> Mapping[tuple[SpiffeId, str], SidecarStanding]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingPace:
    """In seconds: how often pods are looked at; how long one must wait until it is told, and one that was ready before,
    which comes back by itself after a control plane was away; how far apart two tellings of one pod are, and of the
    same thing. ``at_once``: of how many pods in one look at most."""

    look_seconds: float = 10.0
    patience_seconds: float = 30.0
    return_seconds: float = 75.0
    apart_seconds: float = 30.0
    again_seconds: float = 300.0
    at_once: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingScope:
    """``revision``: of whose pods it is told; ``service``: the control plane's, as pods name it; ``pod``: its own;
    ``others``: the pods of its other replicas, now."""

    trust_domain: str
    revision: str
    service: str
    pod: str
    others: Callable[[], frozenset[str]]


@dataclass(slots=True, kw_only=True)
class _Seen:
    """A pod that waits. ``since`` and ``told_at`` on the monotonic clock."""

    since: float
    told_at: float = float("-inf")
    told: Waiting | None = None

    def due(self, pod: Pod, waiting: Waiting, now: float, pace: TellingPace) -> bool:
        apart = pace.again_seconds if waiting == self.told else pace.apart_seconds
        patience = pace.return_seconds if pod.sidecar is SidecarProgress.STARTED else pace.patience_seconds
        return now - self.since >= patience and now - self.told_at >= apart


class WaitingTeller:
    """``tell`` takes an event, or says that it cannot now."""

    def __init__(
        self,
        pods: Callable[[], Iterable[Pod]],
        host: Sidecars,
        notes: AttestationNotes,
        tell: Callable[[Told], bool],
        scope: TellingScope,
        *,
        clock: Clock,
        pace: TellingPace | None = None,
    ) -> None:
        self._pods = pods
        self._host = host
        self._notes = notes
        self._tell = tell
        self._scope = scope
        self._clock = clock
        self._pace = pace or TellingPace()
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            await asyncio.sleep(self._pace.look_seconds)
            self.look()

    def look(self) -> None:
        """Take note of all that wait now, and tell of those that are due: who was told longest ago, first."""
        now, pace = self._clock.monotonic(), self._pace
        waiting = self._waiting()
        self._seen = {pod.uid: self._seen.get(pod.uid) or _Seen(since=now) for pod, _ in waiting}
        due = [(pod, why) for pod, why in waiting if self._seen[pod.uid].due(pod, why, now, pace)]
        due.sort(key=lambda one: (self._seen[one[0].uid].told_at, self._seen[one[0].uid].since, one[0].uid))
        for pod, why in due[: pace.at_once]:
            if not self._tell(_event(pod, why)):
                return
            seen = self._seen[pod.uid]
            seen.told_at, seen.told = now, why

    def _waiting(self) -> list[tuple[Pod, Waiting]]:
        others = self._scope.others()
        first = not others or self._scope.pod < min(others)
        standings = self._host.sidecars()
        identities: dict[tuple[str, str], SpiffeId] = {}
        found = []
        for pod in self._pods():
            if not pod.meshed or pod.ended or pod.deleting or not pod.uid:
                continue
            account = (pod.namespace, pod.service_account)
            if account not in identities:
                identities[account] = identity_of(*account, self._scope.trust_domain)
            standing = standings.get((identities[account], pod.name))
            if not first and (standing is None or not standing.connected):
                continue
            known = Known(
                standing=standing,
                asked=self._notes.knows(pod.uid),
                refusal=self._notes.refusal(pod.uid),
                alone=not others,
                service=self._scope.service,
            )
            why = waits_for(pod, known)
            if why is not None and _revision(pod) == self._scope.revision:
                found.append((pod, why))
        return found


def _revision(pod: Pod) -> str | None:
    """Of the control plane that its sidecar talks to; None where that cannot be read."""
    said = pod.annotations.get(names.STATUS, "")
    try:
        status = json.loads(said) if len(said) <= _STATUS_LIMIT_CHARACTERS else None
    except (ValueError, RecursionError):
        return None
    return lenient.text(status, "revision") if isinstance(status, dict) else None


def _event(pod: Pod, why: Waiting) -> Told:
    subject = Subject(api_version="v1", kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)
    return Told(subject=subject, reason=why.reason, message=why.message)
