"""The pods of the control plane, and how their own admin API is asked: by the commands of ``ringfence`` in them."""

from __future__ import annotations

import json
from typing import Any, Final

from k8s.client.resources import PODS
from k8s.daytwo.cluster import Cluster, ClusterError, Place
from k8s.objects.lenient import Json, objects, text, texts
from k8s.objects.names import SYSTEM_NAMESPACE

_COMMAND: Final = "controlplane"
_SETTINGS: Final = ("--admin-socket", "--state")


async def control_planes(cluster: Cluster, namespace: str = SYSTEM_NAMESPACE) -> list[tuple[Place, list[str]]]:
    """Each pod of the control plane that runs, and by which words its admin socket is named. Raises ClusterError."""
    found = []
    for pod in await cluster.objects(PODS, namespace):
        container = next((one for one in objects(pod, "spec", "containers") if _is_plane(one)), None)
        if container is not None and text(pod, "status", "phase") in ("Running", ""):
            place = Place(namespace=namespace, pod=text(pod, "metadata", "name"), container=text(container, "name"))
            found.append((place, socket_words(container)))
    return found


def _is_plane(container: Json) -> bool:
    return _COMMAND in [*texts(container, "command"), *texts(container, "args")]


def socket_words(container: Json) -> list[str]:
    """``--admin-socket`` or ``--state`` as the container's own command has it; nothing where it has neither."""
    words = [*texts(container, "command"), *texts(container, "args")]
    for setting in _SETTINGS:
        for number, word in enumerate(words):
            if word == setting and number + 1 < len(words):
                return [setting, words[number + 1]]
            if word.startswith(f"{setting}="):
                return [setting, word.partition("=")[2]]
    return []


async def ask_plane(cluster: Cluster, place: Place, argv: list[str]) -> dict[str, Any]:
    """The JSON object that a command in a control plane prints. Raises ClusterError."""
    answer = await cluster.run(place, argv)
    if answer.status not in (0, 1) or not answer.stdout.strip():
        said = answer.stderr.strip().splitlines() or ["it says no more"]
        raise ClusterError(f"{place}: {said[-1]}")
    try:
        document = json.loads(answer.stdout)
    except ValueError as error:
        raise ClusterError(f"{place}: the control plane's answer is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise ClusterError(f"{place}: the control plane's answer is no object")
    return document


async def plane_statuses(cluster: Cluster, namespace: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What each control plane tells of the mesh, and why others tell nothing."""
    try:
        planes = await control_planes(cluster, namespace)
    except ClusterError as error:
        return [], [f"the control plane could not be looked for: {error}"]
    if not planes:
        return [], [f"no control plane runs in {namespace} (look at its pods and events)"]
    told, silent = [], []
    for place, words in planes:
        try:
            told.append(await ask_plane(cluster, place, ["ringfence", "status", "--json", *words]))
        except ClusterError as error:
            silent.append(str(error))
    return told, silent
