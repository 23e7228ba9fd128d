"""What the replicas of a control plane tell each other of documents: how many of their sidecars enforce each. Adapter.

A sidecar is connected to one replica, and each knows only its own. So where there are several each writes its counts as
an annotation of the lease, and the one that leads adds them up before it writes statuses. Counts of a version that is
not the one judged here, and of a pod that is gone, count for nothing. One replica alone writes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
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
_LIMIT_CHARACTERS: Final = 200_000
"""Of what one replica says: all annotations of an object together are at most 256 KiB."""
_TURN_SECONDS: Final = 2.0

Counts = Mapping[str, tuple[str, int]]
"""By document: version, and sidecars that enforce it."""


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
    """The names of the other pods of the same workload that go on."""
    own = find(replica.namespace, replica.pod) if replica.pod else None
    if own is None or own.owner is None:
        return frozenset()
    labels = {name: value for name, value in own.labels.items() if name.startswith("app.kubernetes.io/")}
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


def read_counts(text: str) -> tuple[str, dict[str, tuple[str, int]]]:
    """The pod that says it, and its counts. Raises ValueError."""
    said = json.loads(text)
    pod, documents = said.get("pod"), said.get("documents")
    if not isinstance(pod, str) or not isinstance(documents, dict):
        raise ValueError("no counts of a replica")
    found = {}
    for name, one in documents.items():
        if not (isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and type(one[1]) is int):
            raise ValueError("no counts of a replica")
        found[name] = (one[0], max(one[1], 0))
    return pod, found


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
        self._peers: dict[str, dict[str, tuple[str, int]]] = {}
        self._lost = False

    def standings(self) -> Mapping[str, DocumentStanding]:
        """Of each document, over all replicas."""
        own = self._host.standings()
        living = self._living()
        peers = [counts for pod, counts in self._peers.items() if pod in living]
        return {name: self._with(name, standing, peers) for name, standing in own.items()} if peers else own

    def _with(self, name: str, standing: DocumentStanding, peers: list[dict[str, tuple[str, int]]]) -> DocumentStanding:
        version = self._judged.version_of(name)
        more = sum(counts[name][1] for counts in peers if name in counts and counts[name][0] == version)
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
        counts = {
            name: [self._judged.version_of(name), standing.enforcing]
            for name, standing in self._host.standings().items()
            if standing.enforcing
        }
        text = json.dumps({"pod": self._replica.pod, "documents": counts}, separators=(",", ":"), sort_keys=True)
        if len(text) > _LIMIT_CHARACTERS:
            self._log.warning("too many documents to tell other replicas of", documents=len(counts))
            return json.dumps({"pod": self._replica.pod, "documents": {}}, separators=(",", ":"))
        return text

    def _read(self, annotations: Mapping[str, str]) -> dict[str, dict[str, tuple[str, int]]]:
        found = {}
        for key, text in annotations.items():
            if key.startswith(PREFIX) and key != self._replica.annotation:
                try:
                    pod, counts = read_counts(text)
                except (ValueError, AttributeError):
                    continue
                found[pod] = counts
        return found

    async def _sweep(self, annotations: Mapping[str, str]) -> None:
        """Take away what pods said that are gone."""
        living = self._living()
        gone: dict[str, None] = {}
        for key, text in annotations.items():
            if key.startswith(PREFIX) and key != self._replica.annotation:
                try:
                    pod, _ = read_counts(text)
                except (ValueError, AttributeError):
                    pod = ""
                if pod not in living:
                    gone[key] = None
        if gone:
            change = {"metadata": {"annotations": gone}}
            await self._connection.patch(LEASES, self._replica.lease, change, self._replica.namespace)
