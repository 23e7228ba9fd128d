"""What the replicas of a control plane tell each other of documents: how many of their sidecars enforce each. Adapter.

A sidecar is connected to one replica, and each knows only its own. So where there are several each writes its counts as
an annotation of the lease, and the one that leads adds them up before it writes statuses. Counts of a version that is
not the one judged here, and of a pod that is gone, count for nothing. One replica alone writes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from k8s.client.connection import Connection
from k8s.client.errors import KubernetesError, NotFoundError
from k8s.client.resources import LEASES
from k8s.controller.offering import JudgedVersions
from k8s.objects.pods import Pod
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding

PREFIX: Final = "ringfence.io/replica-"
ROOM_CHARACTERS: Final = 240_000
"""Of what all replicas say: all annotations of an object together are at most 256 KiB. It is enough for 3,000 documents
of each of three."""
_DIGEST_CHARACTERS: Final = 16
_ENDS_CHARACTERS: Final = 512
"""Beside the counts: brackets, and the name of the pod, which may have 253."""
_TURN_SECONDS: Final = 2.0
_WHAT_IT_IS: Final = ("app.kubernetes.io/name", "app.kubernetes.io/component")
"""Labels that all control planes of a namespace share, as the chart has them."""

Counts = Mapping[str, int]
"""Sidecars that enforce a version of a document, by the digest of both."""


def digest_of(name: str, version: str) -> str:
    """What replicas call a version of a document: there is no room for names."""
    return hashlib.sha256(f"{name}\0{version}".encode()).hexdigest()[:_DIGEST_CHARACTERS]


class Standings(Protocol):
    """As much of a host as this needs."""

    def standings(self) -> Mapping[str, DocumentStanding]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """This one. ``pod``: its name, empty outside a cluster; ``namespace`` and ``lease``: where replicas meet."""

    pod: str
    namespace: str
    lease: str

    @property
    def annotation(self) -> str:
        return PREFIX + hashlib.sha256(self.pod.encode()).hexdigest()[:16]


def others(replica: Replica, find: Callable[[str, str], Pod | None], pods: Mapping[Any, Pod]) -> frozenset[str]:
    """The names of the other control planes that go on, of whatever revision and version: they share the lease, and
    each has sidecars of its own."""
    own = find(replica.namespace, replica.pod) if replica.pod else None
    if own is None or own.owner is None:
        return frozenset()
    labels = {name: own.labels[name] for name in _WHAT_IT_IS if name in own.labels}
    return frozenset(
        pod.name
        for pod in pods.values()
        if pod.namespace == own.namespace
        and pod.name != own.name
        and pod.owner is not None
        and not (pod.ended or pod.deleting)
        and labels
        and labels.items() <= pod.labels.items()
    )


def read_counts(text: str) -> tuple[str, dict[str, int]]:
    """The pod that says it, and its counts. Raises ValueError."""
    said = json.loads(text)
    pod, documents = said.get("pod"), said.get("documents")
    if not isinstance(pod, str) or not isinstance(documents, dict):
        raise ValueError("no counts of a replica")
    found = {}
    for digest, count in documents.items():
        if type(count) is not int:
            raise ValueError("no counts of a replica")
        found[digest] = max(count, 0)
    return pod, found


def _understood(text: str) -> Iterator[tuple[str, dict[str, int]]]:
    """What a replica says; nothing where it cannot be read."""
    with suppress(ValueError, AttributeError, RecursionError):
        yield read_counts(text)


class PeerCounts:
    """``standings`` are the host's, with what the other replicas say. ``living``: their pods, now."""

    def __init__(
        self,
        connection: Connection,
        replica: Replica,
        host: Standings,
        judged: JudgedVersions,
        living: Callable[[], frozenset[str]],
        *,
        changed: Callable[[], None],
        log: Logger,
    ) -> None:
        self._connection = connection
        self._replica = replica
        self._host = host
        self._judged = judged
        self._living = living
        self._changed = changed
        self._log = log
        self._told = ""
        self._peers: dict[str, dict[str, int]] = {}
        self._lost = False
        self._left_out = 0

    def standings(self) -> Mapping[str, DocumentStanding]:
        """Of each document, over all replicas."""
        own = self._host.standings()
        living = self._living()
        peers = [counts for pod, counts in self._peers.items() if pod in living]
        return {name: self._with(name, standing, peers) for name, standing in own.items()} if peers else own

    def _with(self, name: str, standing: DocumentStanding, peers: list[dict[str, int]]) -> DocumentStanding:
        digest = digest_of(name, self._judged.version_of(name))
        more = sum(counts.get(digest, 0) for counts in peers)
        if not more:
            return standing
        enforcing = min(standing.enforcing + more, standing.workloads)
        # Of those that are connected elsewhere this replica only knows that they are not connected here.
        return replace(standing, enforcing=enforcing, waiting=standing.waiting[: standing.workloads - enforcing])

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        while True:
            if self._living():
                try:
                    await self._turn()
                    self._lost = False
                except KubernetesError as error:
                    if not self._lost:
                        self._log.warning("other replicas are not heard", error=str(error))
                    self._lost = True
            await asyncio.sleep(_TURN_SECONDS)

    async def _turn(self) -> None:
        replica = self._replica
        told = self._own()
        if told != self._told:
            change = {"metadata": {"annotations": {replica.annotation: told}}}
            try:
                lease = await self._connection.patch(LEASES, replica.lease, change, replica.namespace)
            except NotFoundError:
                return  # nobody leads yet
            self._told = told
        else:
            lease = await self._connection.get(LEASES, replica.lease, replica.namespace)
        annotations: dict[str, str] = (lease.get("metadata") or {}).get("annotations") or {}
        if annotations.get(replica.annotation) != told:
            self._told = ""  # somebody took it away: it is told again
        peers = self._read(annotations)
        if peers != self._peers:
            self._peers = peers
            self._changed()
        await self._sweep(annotations)

    def _own(self) -> str:
        """What this one says: of as many documents as there is room for beside what the others say."""
        room = ROOM_CHARACTERS // (len(self._living()) + 1)
        counts: dict[str, int] = {}
        left_out = 0
        for name, standing in sorted(self._host.standings().items()):
            if not standing.enforcing:
                continue
            room -= _DIGEST_CHARACTERS + len(f'"":{standing.enforcing},')
            if room < _ENDS_CHARACTERS:
                left_out += 1
            else:
                counts[digest_of(name, self._judged.version_of(name))] = standing.enforcing
        if left_out and not self._left_out:
            self._log.warning("no room to tell other replicas of all documents", left_out=left_out)
        self._left_out = left_out
        return json.dumps({"pod": self._replica.pod, "documents": counts}, separators=(",", ":"), sort_keys=True)

    def _read(self, annotations: Mapping[str, str]) -> dict[str, dict[str, int]]:
        return {
            pod: counts
            for key, text in annotations.items()
            if key.startswith(PREFIX) and key != self._replica.annotation
            for pod, counts in _understood(text)
        }

    async def _sweep(self, annotations: Mapping[str, str]) -> None:
        """Take away what pods said that are gone."""
        living = self._living()
        others = (key for key in annotations if key.startswith(PREFIX) and key != self._replica.annotation)
        gone = {key: None for key in others if not any(pod in living for pod, _ in _understood(annotations[key]))}
        if gone:
            change = {"metadata": {"annotations": gone}}
            await self._connection.patch(LEASES, self._replica.lease, change, self._replica.namespace)
