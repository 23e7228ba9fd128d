"""What a pod of the mesh still waits for, as its own status and its events tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from k8s.objects.lenient import Json, at, integer, objects, text
from k8s.objects.names import REDIRECT_CONTAINER, SIDECAR_CONTAINER, TRUST_CONFIG_MAP

_SHOWN_CHARACTERS: Final = 240
_TELLING: Final = frozenset({"FailedMount", "FailedScheduling", "FailedCreatePodSandBox", "Failed", "BackOff"})


def pod_waits_for(pod: Json, events: Iterable[Json] = ()) -> list[str]:
    """Nothing where the sidecar runs: then it tells by itself. ``events``: of this pod."""
    for condition in objects(pod, "status", "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "status") == "False":
            return [f"a node: {_shown(text(condition, 'message')) or 'it is not scheduled'}"]
    statuses = {text(one, "name"): one for one in objects(pod, "status", "initContainerStatuses")}
    redirect, sidecar = statuses.get(REDIRECT_CONTAINER), statuses.get(SIDECAR_CONTAINER)
    if redirect is not None and (code := integer(redirect, "state", "terminated", "exitCode")):
        return [f"the redirect: it ended with {code} ({REDIRECT_CONTAINER}, see its log)"]
    if sidecar is not None and at(sidecar, "state", "running") is not None:
        return []
    told = [_event(one) for one in events if text(one, "reason") in _TELLING]
    if told:
        return [told[-1]]
    for name, one in statuses.items():
        reason = text(one, "state", "waiting", "reason")
        if reason not in ("", "PodInitializing"):
            return [f"container {name}: {reason} {_shown(text(one, 'state', 'waiting', 'message'))}".rstrip()]
    return ["the kubelet: its containers have not started"]


def _event(event: Json) -> str:
    message = _shown(text(event, "message"))
    if TRUST_CONFIG_MAP in message and "not found" in message:
        return f"the ConfigMap {TRUST_CONFIG_MAP}, which the control plane keeps in its namespace"
    return f"{text(event, 'reason')}: {message}"


def _shown(message: str) -> str:
    return " ".join(message[:_SHOWN_CHARACTERS].split())
