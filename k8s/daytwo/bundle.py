"""Gathers what tells of a fault of the mesh, redacted and bounded; what could not be had is told beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.client import resources as known
from k8s.client.resources import PODS, Resource
from k8s.daytwo.cluster import Cluster, ClusterError, Place, Ran
from k8s.daytwo.finding_pods import has_sidecar, sidecar_of
from k8s.daytwo.inside import run_in_each
from k8s.daytwo.planes import control_planes
from k8s.daytwo.redaction import redacted_object, redacted_pod, redacted_text
from k8s.daytwo.status_command import mesh_status
from k8s.objects.lenient import Json, objects, text
from k8s.objects.names import GROUP, SIGNALS_PORT
from k8s.ramp.check import check
from k8s.ramp.reading import read_cluster
from ringfence import __version__

FILE_LIMIT_BYTES: Final = 2 << 20
TOTAL_LIMIT_BYTES: Final = 64 << 20
_LOG_LINES: Final = "2000"
_PLANE_SIGNALS_PORT: Final = 7400
_SYSTEM_KINDS: Final = (known.DEPLOYMENTS, known.SERVICES, known.EVENTS, known.CONFIG_MAPS, known.NETWORK_POLICIES)
_MESHED_KINDS: Final = (known.SERVICES, known.EVENTS, known.NETWORK_POLICIES)
_CLUSTER_KINDS: Final = (known.MUTATING_WEBHOOKS, known.VALIDATING_WEBHOOKS)
_QUESTIONS: Final = {
    "status": ("ringfence", "proxy", "status", "--json"),
    "config": ("ringfence", "proxy", "config"),
    "certs": ("ringfence", "proxy", "certs", "--json"),
    "connections": ("ringfence", "proxy", "connections", "--json", "--limit", "200"),
    "refusals": ("ringfence", "policy", "why", "--since", "1h", "--limit", "100", "--json"),
}


@dataclass(slots=True, kw_only=True)
class Bundle:
    """``files``: name and redacted text; ``missing``: what could not be had, or was cut."""

    files: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, name: str, said: str) -> None:
        # Cut before it is looked through: a pattern that is cut in two is not found by half, so the end goes with it.
        cut = len(said) > FILE_LIMIT_BYTES
        shown = redacted_text(said[:FILE_LIMIT_BYTES].rpartition("\n")[0] if cut else said)
        if cut:
            self.missing.append(f"{name}: cut at {FILE_LIMIT_BYTES >> 20} MiB")
        if self.size + len(shown) > TOTAL_LIMIT_BYTES:
            self.missing.append(f"{name}: left out, the bundle is full ({TOTAL_LIMIT_BYTES >> 20} MiB)")
            return
        self.size += len(shown)
        self.files[_safe(name)] = shown

    def add_json(self, name: str, value: Any) -> None:
        self.add(name, json.dumps(value, indent=1, default=str) + "\n")


def _safe(name: str) -> str:
    """A path in an archive that leads nowhere else."""
    parts = [re.sub(r"[^A-Za-z0-9._-]", "_", part)[:120].lstrip(".") or "_" for part in name.split("/")]
    return "/".join(parts)


async def gather(cluster: Cluster, namespace: str, system_namespace: str, sidecars: int) -> Bundle:
    """``namespace``: whose pods are looked at, empty for all; ``sidecars``: at most so many are asked."""
    bundle = Bundle()
    await _versions(cluster, bundle)
    await _statuses(cluster, bundle, namespace, system_namespace)
    await _planes(cluster, bundle, system_namespace)
    pods = await _listed(cluster, bundle, PODS, namespace)
    meshed = [one for one in pods if has_sidecar(one)]
    namespaces = sorted({text(one, "metadata", "namespace") for one in meshed} | ({namespace} if namespace else set()))
    for resource in _CLUSTER_KINDS:
        found = await _listed(cluster, bundle, resource, "")
        ours = [one for one in found if GROUP in json.dumps([text(hook, "name") for hook in objects(one, "webhooks")])]
        bundle.add_json(f"cluster/{resource.plural}.json", [redacted_object(one) for one in ours])
    await _kinds(cluster, bundle, _SYSTEM_KINDS, [system_namespace])
    await _kinds(cluster, bundle, _MESHED_KINDS, namespaces)
    await _documents(cluster, bundle, [*namespaces, system_namespace])
    if len(meshed) > sidecars:
        bundle.missing.append(f"{len(meshed) - sidecars} of {len(meshed)} sidecars were not asked (give --sidecars)")
    await _sidecars(cluster, bundle, meshed[:sidecars])
    return bundle


async def _versions(cluster: Cluster, bundle: Bundle) -> None:
    versions = {"ringfence": __version__}
    try:
        versions["kubernetes"] = await cluster.version()
    except ClusterError as error:
        bundle.missing.append(f"version of the API server: {error}")
    nodes = await _listed(cluster, bundle, known.NODES, "")
    kubelets = [{"name": text(one, "metadata", "name"), **_node(one)} for one in nodes]
    bundle.add_json("versions.json", {**versions, "nodes": kubelets})


def _node(node: Json) -> dict[str, str]:
    names = ("kubeletVersion", "kernelVersion", "containerRuntimeVersion", "architecture", "operatingSystem")
    return {name: text(node, "status", "nodeInfo", name) for name in names}


async def _statuses(cluster: Cluster, bundle: Bundle, namespace: str, system_namespace: str) -> None:
    try:
        status = await mesh_status(cluster, namespace, system_namespace)
        bundle.add_json("status.json", [one.document() for one in status.standings])
        bundle.missing += status.silent
    except ClusterError as error:
        bundle.missing.append(f"status: {error}")
    try:
        snapshot, unread = await read_cluster(cluster, (namespace,) if namespace else ())
        bundle.add_json("check.json", [one.document() for one in check(snapshot)])
        bundle.missing += unread
    except ClusterError as error:
        bundle.missing.append(f"check: {error}")


async def _planes(cluster: Cluster, bundle: Bundle, system_namespace: str) -> None:
    try:
        planes = await control_planes(cluster, system_namespace)
    except ClusterError as error:
        bundle.missing.append(f"control plane: {error}")
        return
    if not planes:
        bundle.missing.append(f"control plane: none runs in {system_namespace}")
    for place, words in planes:
        folder = f"controlplane/{place.pod}"
        argv = ["ringfence", "status", "--json", *words]
        for _, answer in await run_in_each(cluster, [place], argv):
            _answered(bundle, f"{folder}/status.json", answer)
        await _log(cluster, bundle, place, folder)
        await _metrics(cluster, bundle, place, _PLANE_SIGNALS_PORT, folder)


async def _kinds(cluster: Cluster, bundle: Bundle, kinds: Sequence[Resource], namespaces: Sequence[str]) -> None:
    for namespace in namespaces:
        for resource in kinds:
            found = await _listed(cluster, bundle, resource, namespace)
            shown = [
                {**redacted_object(one), "spec": None} if resource is known.DEPLOYMENTS else redacted_object(one)
                for one in found
            ]
            bundle.add_json(f"namespaces/{namespace}/{resource.plural}.json", shown)


async def _documents(cluster: Cluster, bundle: Bundle, namespaces: Sequence[str]) -> None:
    """All of our kinds that the cluster serves, with what became of each."""
    for one in await _listed(cluster, bundle, known.CUSTOM_RESOURCE_DEFINITIONS, ""):
        if text(one, "spec", "group") != GROUP:
            continue
        resource = Resource(
            group=GROUP,
            version="v1alpha1",
            plural=text(one, "spec", "names", "plural"),
            kind=text(one, "spec", "names", "kind"),
        )
        found = [item for name in namespaces for item in await _listed(cluster, bundle, resource, name)]
        bundle.add_json(f"documents/{resource.plural}.json", [redacted_object(item) for item in found])


async def _sidecars(cluster: Cluster, bundle: Bundle, pods: Sequence[Json]) -> None:
    places = [sidecar_of(one) for one in pods]
    for one, place in zip(pods, places, strict=True):
        bundle.add_json(f"pods/{place}/pod.json", redacted_pod({"kind": "Pod", **one}))
    for name, argv in _QUESTIONS.items():
        for place, answer in await run_in_each(cluster, places, argv):
            if name != "refusals" or not isinstance(answer, Ran) or answer.status != 1:  # 1: it refused nothing
                _answered(bundle, f"pods/{place}/{name}.json", answer)
    for place in places:
        await _log(cluster, bundle, place, f"pods/{place}")
        await _metrics(cluster, bundle, place, SIGNALS_PORT, f"pods/{place}")


def _answered(bundle: Bundle, name: str, answer: Ran | ClusterError) -> None:
    if isinstance(answer, ClusterError):
        bundle.missing.append(f"{name}: {answer}")
    elif answer.status:
        bundle.missing.append(f"{name}: {(answer.stderr.strip().splitlines() or ['it says no more'])[-1]}")
    else:
        bundle.add(name, answer.stdout)


async def _log(cluster: Cluster, bundle: Bundle, place: Place, folder: str) -> None:
    for previous in (False, True):
        params = {"container": place.container, "tailLines": _LOG_LINES, "timestamps": "true"}
        params |= {"previous": "true"} if previous else {}
        name = f"{folder}/{'log-before.txt' if previous else 'log.txt'}"
        try:
            bundle.add(name, await cluster.text(PODS.path(place.namespace, place.pod, "log"), params, FILE_LIMIT_BYTES))
        except ClusterError as error:
            if not previous:  # most have never been restarted
                bundle.missing.append(f"{name}: {error}")


async def _metrics(cluster: Cluster, bundle: Bundle, place: Place, port: int, folder: str) -> None:
    path = PODS.path(place.namespace, f"{place.pod}:{port}", "proxy") + "/metrics"
    try:
        bundle.add(f"{folder}/metrics.txt", await cluster.text(path, {}, FILE_LIMIT_BYTES))
    except ClusterError as error:
        bundle.missing.append(f"{folder}/metrics.txt: {error}")


async def _listed(cluster: Cluster, bundle: Bundle, resource: Resource, namespace: str) -> list[Json]:
    try:
        return await cluster.objects(resource, namespace)
    except ClusterError as error:
        bundle.missing.append(f"{resource.plural}{f' of {namespace}' if namespace else ''}: {error}")
        return []


def contents(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Each file of the archive; the last tells what is not there."""
    for name, said in sorted(bundle.files.items()):
        yield name, said.encode("utf-8", "replace")
    lines = bundle.missing or ["nothing is missing"]
    yield "missing.txt", redacted_text("\n".join(lines) + "\n").encode("utf-8", "replace")
