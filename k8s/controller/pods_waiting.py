"""For what a pod of the mesh still waits, as far as a control plane can tell. Pure.

A control plane knows who proved who it is, who is connected to it, and what came back. Where others of its replicas
live, a sidecar that is not here may be there: then only the kubelet's word counts, that it never was ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from k8s.objects.names import CONTROL_PORT, JOIN_PORT, REDIRECT_CONTAINER, SIDECAR_CONTAINER
from k8s.objects.pods import Pod, SidecarProgress
from ringfence.attestation import EVIDENCE_WORDS, EvidenceFault
from ringfence.platform import SidecarStanding

_WORDS_LIMIT_CHARACTERS: Final = 300
_MENDS: Final[Mapping[EvidenceFault, str]] = {
    EvidenceFault.REJECTED: "look whether the API server takes tokens of the audience ringfence, and whether the pod's "
    "service account still is the one that it began with",
    EvidenceFault.MISMATCH: "replace the pod",
    EvidenceFault.UNMESHED: "replace the pod",
    EvidenceFault.GONE: "replace the pod",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """``reason``: a word as events have it; ``message``: what is missing, and the mend, the same as long as it is."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What this control plane knows of a pod. ``standing``: None where the reading in force has no such workload;
    ``asked``: whether it showed evidence here, and ``refusal``: why that was refused when it did so last; ``alone``:
    whether no other replica lives; ``service``: the control plane's, as pods name it."""

    standing: SidecarStanding | None
    asked: bool
    refusal: EvidenceFault | None = None
    alone: bool = True
    service: str


def waits_for(pod: Pod, known: Known) -> Waiting | None:
    """None where it waits for nothing, or for what the kubelet tells by itself."""
    standing = known.standing
    if standing is not None and standing.connected:
        return _connected(pod, standing)
    if pod.redirect_failure:
        return Waiting(
            reason="RedirectFailed",
            message=f"connections are not led to the sidecar: {REDIRECT_CONTAINER} ended with {pod.redirect_failure} "
            f"({_log_of(pod, REDIRECT_CONTAINER)})",
        )
    if pod.sidecar is SidecarProgress.NOT_BEGUN:
        return None
    if pod.sidecar is SidecarProgress.STARTED and not known.alone:
        return None
    if known.refusal is not None and pod.sidecar is not SidecarProgress.STARTED:
        mend = _MENDS.get(known.refusal, _log_of(pod, SIDECAR_CONTAINER))
        return Waiting(
            reason="IdentityRefused",
            message=f"no identity: the token that it shows {EVIDENCE_WORDS[known.refusal]} ({mend})",
        )
    if known.alone and not known.asked and pod.sidecar is SidecarProgress.BEGUN:
        return Waiting(
            reason="WaitingForIdentity",
            message=f"its sidecar has not asked for an identity: it may not reach port {JOIN_PORT} of {known.service} "
            f"(look for NetworkPolicies that shut it; {_log_of(pod, SIDECAR_CONTAINER)})",
        )
    if standing is None:
        return Waiting(
            reason="WaitingForSnapshot",
            message="there is no snapshot for it: it is no workload of the mesh as the control plane reads it "
            "(look into the control plane's log for pods that are left out)",
        )
    return Waiting(
        reason="WaitingForControlPlane",
        message=f"its sidecar is not connected to the control plane, port {CONTROL_PORT} of {known.service}: no change "
        "of policy reaches it, and its identity is not renewed "
        f"(look for NetworkPolicies that shut it; {_log_of(pod, SIDECAR_CONTAINER)})",
    )


def _connected(pod: Pod, standing: SidecarStanding) -> Waiting | None:
    if standing.refused:
        return Waiting(
            reason="SnapshotRefused",
            message=f"its sidecar cannot enforce the policy in force and keeps what it had: {_words(standing.refused)} "
            "(take the last change back, or replace the pod by one of the control plane's version)",
        )
    if standing.overdue:
        return Waiting(
            reason="SnapshotUnacknowledged",
            message="its sidecar has not said whether it enforces the policy in force "
            f"(look whether its node is short of processors; {_log_of(pod, SIDECAR_CONTAINER)})",
        )
    if standing.unready and not pod.ready:
        return Waiting(
            reason="NotServing",
            message=f"callers are told that it cannot serve: {_words(standing.unready)} "
            "(look whether the app listens on the ports that the pod declares)",
        )
    return None


def _log_of(pod: Pod, container: str) -> str:
    return f"see kubectl logs -n {pod.namespace} {pod.name} -c {container}"


def _words(said: str) -> str:
    """A sidecar's own words: whoever has the pod chooses them, and people read them on a terminal."""
    line = " ".join(said[:_WORDS_LIMIT_CHARACTERS].split())
    return "".join(one if one.isprintable() else "?" for one in line)
