"""Does the steps of a plan, one after another; the first that fails ends it, and what was done stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from k8s.client.resources import PODS
from k8s.daytwo.cluster import Cluster, ClusterError, Ran
from k8s.daytwo.finding_pods import has_sidecar, sidecar_of
from k8s.daytwo.inside import run_in_each
from k8s.objects.lenient import Json, at, integer, labels, mapping, objects, text
from k8s.objects.names import DISABLED, INJECT
from k8s.ramp.plan import Do, Step

_POLL_SECONDS: Final = 1.0
_WORKLOAD_OWNERS: Final = frozenset({"ReplicaSet", "StatefulSet", "DaemonSet"})


class Doer:
    """``told`` is called with each line for people. Every wait ends after ``timeout_seconds``."""

    def __init__(
        self,
        cluster: Cluster,
        told: Callable[[str], None],
        *,
        timeout_seconds: float,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._told = told
        self._timeout_seconds = timeout_seconds
        self._poll_seconds = poll_seconds

    async def do(self, steps: Sequence[Step]) -> None:
        """Raises ClusterError, whose text says how far it came."""
        for number, step in enumerate(steps, 1):
            self._told(f"{number}/{len(steps)}  {step.what}")
            try:
                await self._one(step)
            except ClusterError as error:
                raise ClusterError(
                    f"step {number} of {len(steps)} failed ({step.what}): {error}; what was done before stays, and the "
                    "same command goes on from there"
                ) from error

    async def _one(self, step: Step) -> None:
        match step.do:
            case Do.PATCH:
                await self._cluster.patch(step.resource, step.name, step.body, step.namespace)
            case Do.APPLY:
                await self._cluster.apply(step.resource, step.name, step.body, step.namespace)
            case Do.DELETE:
                await self._cluster.delete(step.resource, step.name, step.namespace)
            case Do.WAIT:
                await self._until(lambda: self._rolled_out(step), f"{step.name} did not roll out")
            case Do.SETTLE:
                await self._until(lambda: self._settled(step), "not all sidecars follow")
            case Do.VERIFY:
                await self._until(lambda: self._verified(step), "pods are not as they should be")

    async def _until(self, waits_for: Callable[[], Awaitable[str]], what: str) -> None:
        waiting = "it does not say why"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    if not (waiting := await waits_for()):
                        return
                    await asyncio.sleep(self._poll_seconds)
        except TimeoutError as error:
            raise ClusterError(f"{what} within {self._timeout_seconds:.0f} s: {waiting}") from error

    async def _rolled_out(self, step: Step) -> str:
        return rollout_waits_for(await self._cluster.get(step.resource, step.name, step.namespace))

    async def _settled(self, step: Step) -> str:
        """Which sidecars that run do not say yet that they let through, or that they do not. Asked of each itself,
        since what matters is what it does."""
        pods = [
            one
            for one in await self._cluster.objects(PODS, step.namespace)
            if has_sidecar(one) and text(one, "status", "phase") == "Running" and not _leaves(one)
        ]
        answers = await run_in_each(self._cluster, [sidecar_of(one) for one in pods], ["ringfence", "proxy", "config"])
        behind = [place.pod for place, answer in answers if not _follows(answer, step.observed)]
        return f"{len(behind)} of {len(pods)} wait, such as {', '.join(sorted(behind)[:5])}" if behind else ""

    async def _verified(self, step: Step) -> str:
        """Which pods of the namespace have, or lack, a sidecar against the plan; those that no rollout replaces, or
        that chose for themselves, are not counted."""
        wrong = [
            text(one, "metadata", "name")
            for one in await self._cluster.objects(PODS, step.namespace)
            if _counts(one) and has_sidecar(one) is not step.inject
        ]
        return f"{'no sidecar' if step.inject else 'a sidecar'} in {', '.join(wrong[:5])}" if wrong else ""


def _counts(pod: Json) -> bool:
    owners = {text(one, "kind") for one in objects(pod, "metadata", "ownerReferences")}
    ended = text(pod, "status", "phase") in ("Succeeded", "Failed")
    own = labels(pod, "metadata", "labels").get(INJECT)
    host = mapping(pod, "spec").get("hostNetwork") is True
    return bool(owners & _WORKLOAD_OWNERS) and not ended and not _leaves(pod) and own != DISABLED and not host


def _leaves(pod: Json) -> bool:
    return bool(text(pod, "metadata", "deletionTimestamp"))


def _follows(answer: Ran | ClusterError, observed: bool) -> bool:
    """Whether a sidecar lets calls pass and plaintext in, or no longer observes. What is said of a namespace and what a
    document says come to it apart from each other."""
    if isinstance(answer, ClusterError) or answer.status:
        return False
    try:
        told = json.loads(answer.stdout)
    except ValueError:
        return False
    if not isinstance(told, dict) or bool(at(told, "observe_until")) is not observed:
        return False
    # One of an earlier version tells no ports.
    return not observed or all(text(port, "mode") == "permissive" for port in objects(told, "ports"))


def rollout_waits_for(workload: Json) -> str:
    """What a rollout still waits for; empty when it is done. A workload that replaces no pods by itself is told."""
    generation = integer(workload, "metadata", "generation") or 0
    if (integer(workload, "status", "observedGeneration") or 0) < generation:
        return "its controller has not seen the change"
    if at(workload, "spec", "paused") is True:
        return "its rollout is paused: resume it (kubectl rollout resume)"
    if text(workload, "spec", "updateStrategy", "type") == "OnDelete":
        return "its update strategy is OnDelete: delete its pods one by one"
    daemon = "desiredNumberScheduled" in mapping(workload, "status")
    names = _DAEMON if daemon else _REPLICAS
    status = mapping(workload, "status")
    replicas = integer(workload, "spec", "replicas")
    wanted = integer(status, "desiredNumberScheduled") if daemon else 1 if replicas is None else replicas
    updated, available, all_of = (integer(status, name) or 0 for name in names)
    if updated < (wanted or 0):
        return f"{updated} of {wanted} pods are new"
    if all_of > (wanted or 0):
        return f"{all_of - (wanted or 0)} old pods still end"
    if available < (wanted or 0):
        return f"{available} of {wanted} pods are available"
    if text(status, "updateRevision") != text(status, "currentRevision") and not daemon and replicas:
        return "its last pods are still old"
    return ""


_REPLICAS: Final = ("updatedReplicas", "availableReplicas", "replicas")
_DAEMON: Final = ("updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
