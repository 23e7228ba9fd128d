"""Asks control planes and sidecars who would break at strict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from k8s.client.resources import PODS
from k8s.daytwo.cluster import Cluster, ClusterError, Ran
from k8s.daytwo.finding_pods import has_sidecar, sidecar_of
from k8s.daytwo.inside import run_in_each
from k8s.daytwo.planes import ask_plane, control_planes
from k8s.objects.lenient import Json, at, objects, text
from k8s.ramp.breaking import Breaking, from_flows, from_noted, united

_SIDECARS_ASKED: Final = 500
_NOTED_ASKED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``unknown``: whom nobody could ask; while there are some, an empty list means nothing. ``asked``: how many
    control planes and sidecars answered."""

    breaking: tuple[Breaking, ...]
    unknown: tuple[str, ...]
    asked: int


async def who_would_break(
    cluster: Cluster, namespace: str, since: str, system_namespace: str, permissive: Sequence[str]
) -> Seen:
    """``since``: a span as ``policy flows`` takes it. ``permissive``: services that stay open to plaintext."""
    found: list[Breaking] = []
    unknown: list[str] = []
    asked = 0
    for place, words in await control_planes(cluster, system_namespace):
        try:
            argv = ["ringfence", "policy", "flows", "--since", since, "--json", *words]
            told = await ask_plane(cluster, place, argv)
        except ClusterError as error:
            unknown.append(str(error))
            continue
        asked += 1
        if told.get("truncated"):
            unknown.append(f"{place} has more flows than it tells (ask for a shorter time)")
        found += from_flows(objects(told, "flows"), namespace, permissive)
    if not asked:
        unknown.append(f"no control plane in {system_namespace} tells of callers")
    pods = [
        one
        for one in await cluster.objects(PODS, namespace)
        if has_sidecar(one) and text(one, "status", "phase") == "Running"
    ]
    if len(pods) > _SIDECARS_ASKED:
        unknown.append(f"{len(pods) - _SIDECARS_ASKED} sidecars were not asked")
    argv = ["ringfence", "policy", "why", "--since", since, "--limit", str(_NOTED_ASKED), "--json"]
    known = {(one.caller, one.called) for one in found}
    for place, answer in await run_in_each(cluster, [sidecar_of(one) for one in pods[:_SIDECARS_ASKED]], argv):
        calls = None if isinstance(answer, ClusterError) else _calls(answer)
        if calls is None:
            unknown.append(f"{place}: {answer if isinstance(answer, ClusterError) else _last(answer)}")
            continue
        asked += 1
        found += [one for one in from_noted(calls) if (one.caller, one.called) not in known]
    return Seen(breaking=tuple(united(found)), unknown=tuple(unknown), asked=asked)


def _calls(answer: Ran) -> list[Json] | None:
    """The calls that a sidecar noted; None where it did not tell, however its command ended."""
    try:
        told = json.loads(answer.stdout) if answer.status in (0, 1) else None  # 1: it noted none
    except ValueError:
        return None
    return objects(told, "calls") if isinstance(at(told, "calls"), list) and not at(told, "silent") else None


def _last(answer: Ran) -> str:
    return (answer.stderr.strip().splitlines() or ["it says no more"])[-1]
