"""The steps by which a namespace comes into the mesh, becomes strict, and leaves it again. Pure.

Order is what keeps calls alive. In: first plaintext and unknown callers are let through (permissive, observed), then
pods get sidecars. Strict: only when nobody is seen who would break. Out: first let through, then pods lose their
sidecars, and what let through goes last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from k8s.client.resources import DAEMON_SETS, DEPLOYMENTS, NAMESPACES, STATEFUL_SETS, Resource
from k8s.objects.lenient import Json, labels, text
from k8s.objects.names import DISABLED, ENABLED, INJECT, MODE, REVISION
from k8s.ramp.finding import Code, Finding, kubectl
from k8s.ramp.injected import current_images, is_of_another_revision, newer
from k8s.ramp.reading import POSTURES
from k8s.ramp.snapshot import Cluster, PodView, name_of, namespace_of

POSTURE_NAME: Final = "ringfence-ramp"
_RESTARTED: Final = "kubectl.kubernetes.io/restartedAt"
_WORKLOADS: Final[Mapping[str, Resource]] = {
    "Deployment": DEPLOYMENTS,
    "StatefulSet": STATEFUL_SETS,
    "DaemonSet": DAEMON_SETS,
}
# What breaks a pod even while it is only observed.
BLOCKERS: Final = frozenset(
    {
        Code.CLUSTER_VERSION,
        Code.FEATURE_GATE,
        Code.NODE,
        Code.OWN_PORT,
        Code.POLICY_BLOCKS_MESH,
        Code.POLICY_BLOCKS_CONTROL,
    }
)


class Goal(StrEnum):
    """Where a namespace is, or is to be."""

    OUT = "out"
    OBSERVE = "observe"
    STRICT = "strict"


class Do(StrEnum):
    """What a step does: change an object, make one, take one away, wait for a rollout, see that pods have sidecars or
    none, or wait until each sidecar enforces what was said."""

    PATCH = "patch"
    APPLY = "apply"
    DELETE = "delete"
    WAIT = "wait"
    VERIFY = "verify"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. ``command``: what does the same by hand; ``inject``: what ``VERIFY`` expects of the namespace's pods;
    ``observed``: what ``SETTLE`` expects of their sidecars."""

    do: Do
    what: str
    command: str
    resource: Resource
    name: str
    namespace: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    inject: bool = True
    observed: bool = True

    def document(self) -> dict[str, str]:
        return {"do": str(self.do), "what": self.what, "command": self.command}


def goal_reached(cluster: Cluster, namespace: str, now: str) -> Goal:
    """Where the namespace is. ``now``: RFC 3339 in UTC."""
    if namespace not in cluster.labelled:
        return Goal.OUT
    one = _namespace(cluster, namespace)
    permissive = labels(one, "metadata", "annotations").get(MODE) == "permissive"
    observed = any(namespace_of(posture) == namespace and _lasts(posture, now) for posture in cluster.kind("Posture"))
    return Goal.OBSERVE if permissive or observed else Goal.STRICT


def _lasts(posture: Json, now: str) -> bool:
    return text(posture, "spec", "scope") == "namespace" and text(posture, "spec", "until") > now


def _namespace(cluster: Cluster, name: str) -> Json:
    return next((one for one in cluster.kind("Namespace") if name_of(one) == name), {})


def blockers(findings: Sequence[Finding]) -> list[Finding]:
    """What must be mended before any pod gets a sidecar."""
    return [
        one
        for one in findings
        if (one.code in BLOCKERS and one.weight == "finding")
        or (one.code is Code.SIDECAR_USER and "the sidecar's" in one.what)
    ]


def into_observe(cluster: Cluster, namespace: str, until: str, now: str) -> list[Step]:
    """Let all through, then bring the pods in."""
    outside = [one for one in _workloads(cluster, namespace) if not one.is_injected and cluster.is_member(one)]
    return [
        *let_through(namespace, until),
        _label(namespace, ENABLED, "label the namespace, so that new pods get a sidecar"),
        *(step for view in outside for step in _restart(view, now)),
        _verify(namespace, inject=True),
    ]


def let_through(namespace: str, until: str) -> list[Step]:
    """Plaintext comes in, and what no rule permits passes, until a moment."""
    spec = {"scope": "namespace", "posture": "observe", "until": until}
    return [
        _annotate(namespace, "permissive", "let plaintext in, as callers without an identity"),
        Step(
            do=Do.APPLY,
            what=f"observe all services of the namespace until {until}: what no rule permits passes, and is told",
            command=f"kubectl apply -f - <<< {json.dumps(_posture(namespace, spec))!r}",
            resource=POSTURES,
            name=POSTURE_NAME,
            namespace=namespace,
            body={"spec": spec},
        ),
        _settle(namespace, observed=True),
    ]


def into_strict(namespace: str) -> list[Step]:
    """No plaintext any more, and default deny."""
    return [
        _annotate(namespace, "strict", "refuse plaintext"),
        _no_posture(namespace, "end the observing: what no rule permits is refused"),
        _settle(namespace, observed=False),
        _verify(namespace, inject=True),
    ]


def out_of_mesh(cluster: Cluster, namespace: str, now: str) -> list[Step]:
    """Take the sidecars off. All namespaces must have been let through (``let_through``) before."""
    inside = [one for one in _workloads(cluster, namespace) if one.is_injected]
    return [
        _label(namespace, None, "take the label off, so that new pods get no sidecar"),
        *(step for view in inside for step in _restart(view, now)),
        _verify(namespace, inject=False),
    ]


def into_revision(cluster: Cluster, namespace: str, revision: str, now: str) -> list[Step]:
    """Have the pods injected by another revision of the control plane, or by what the same one puts in now. One that
    another revision injected is behind whatever its image: its sidecar talks to that one."""
    images = current_images(cluster)
    behind = [
        one
        for one in _workloads(cluster, namespace)
        if one.is_injected and (newer(cluster, one, images, revision) or is_of_another_revision(one, revision))
    ]
    held = cluster.namespace_labels.get(namespace, {}).get(REVISION, "")
    labelled = [] if held == revision else [_revision(namespace, revision or None)]
    return [*labelled, *(step for view in behind for step in _restart(view, now)), _verify(namespace, inject=True)]


def forgotten(cluster: Cluster, namespace: str) -> list[Step]:
    """Take away what let through, once no pod has a sidecar; where some keep theirs it ends by itself, or their calls
    would end now."""
    if by_hand(cluster, namespace, inject=False):
        return []
    return [
        _no_posture(namespace, "remove the posture"),
        _annotate(namespace, None, "remove the mode"),
    ]


def by_hand(cluster: Cluster, namespace: str, *, inject: bool) -> list[str]:
    """Pods that no rollout replaces."""
    wrong = [
        view
        for view in cluster.pods_of.get(namespace, ())
        if not view.is_template
        and view.owner_kind not in _WORKLOADS
        and view.is_injected is not inject
        and (not inject or cluster.is_member(view))
    ]
    said = "without a sidecar" if inject else "with a sidecar"
    return [
        f"{view.owner} is no Deployment, StatefulSet or DaemonSet: it stays {said} until it is made anew"
        for view in wrong
    ]


def kept_strict(cluster: Cluster, namespace: str) -> list[str]:
    """Services and workloads that let no plaintext in whatever their namespace says, so that callers whose sidecars
    went first would be refused."""
    found = [
        f"Service {namespace}/{name}"
        for name, one in sorted(cluster.services_of.get(namespace, {}).items())
        if labels(one, "metadata", "annotations").get(MODE) == "strict"
        and any(view.is_injected for view in cluster.backing(one))
    ]
    found += [
        view.owner
        for view in cluster.owners(cluster.pods_of.get(namespace, ())).values()
        if view.is_injected and view.annotations.get(MODE) == "strict"
    ]
    return [f"{one} refuses plaintext by an annotation of its own (take {MODE} off it first)" for one in found]


def _workloads(cluster: Cluster, namespace: str) -> Iterator[PodView]:
    """One pod of each that a rollout can replace."""
    views = [one for one in cluster.pods_of.get(namespace, ()) if not one.is_template and not one.host_network]
    # Of a half-finished rollout the pod that is wrong counts, whichever is asked for.
    for inject in (True, False):
        yield from (
            one
            for one in cluster.owners(view for view in views if view.is_injected is inject).values()
            if one.owner_kind in _WORKLOADS and one.labels.get(INJECT) != DISABLED
        )


def _restart(view: PodView, now: str) -> Iterator[Step]:
    resource, named = _WORKLOADS[view.owner_kind], f"{view.owner_kind.lower()}/{view.owner_name}"
    yield Step(
        do=Do.PATCH,
        what=f"restart {named}",
        command=kubectl("rollout", "restart", "-n", view.namespace, named),
        resource=resource,
        name=view.owner_name,
        namespace=view.namespace,
        body={"spec": {"template": {"metadata": {"annotations": {_RESTARTED: now}}}}},
    )
    yield Step(
        do=Do.WAIT,
        what=f"wait until {named} has rolled out",
        command=kubectl("rollout", "status", "-n", view.namespace, named),
        resource=resource,
        name=view.owner_name,
        namespace=view.namespace,
    )


def _label(namespace: str, value: str | None, what: str) -> Step:
    said = f"{INJECT}={value}" if value is not None else f"{INJECT}-"
    return Step(
        do=Do.PATCH,
        what=what,
        command=kubectl("label", "--overwrite", "namespace", namespace, said),
        resource=NAMESPACES,
        name=namespace,
        body={"metadata": {"labels": {INJECT: value}}},
    )


def _revision(namespace: str, value: str | None) -> Step:
    said = f"{REVISION}={value}" if value is not None else f"{REVISION}-"
    return Step(
        do=Do.PATCH,
        what=f"have revision {value} inject new pods" if value is not None else "have the default revision inject",
        command=kubectl("label", "--overwrite", "namespace", namespace, said),
        resource=NAMESPACES,
        name=namespace,
        body={"metadata": {"labels": {REVISION: value}}},
    )


def _annotate(namespace: str, value: str | None, what: str) -> Step:
    said = f"{MODE}={value}" if value is not None else f"{MODE}-"
    return Step(
        do=Do.PATCH,
        what=what,
        command=kubectl("annotate", "--overwrite", "namespace", namespace, said),
        resource=NAMESPACES,
        name=namespace,
        body={"metadata": {"annotations": {MODE: value}}},
    )


def _posture(namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": POSTURE_NAME, "namespace": namespace}
    return {"apiVersion": POSTURES.api_version, "kind": POSTURES.kind, "metadata": metadata, "spec": dict(spec)}


def _no_posture(namespace: str, what: str) -> Step:
    return Step(
        do=Do.DELETE,
        what=what,
        command=kubectl("delete", "--ignore-not-found", "posture.ringfence.io", "-n", namespace, POSTURE_NAME),
        resource=POSTURES,
        name=POSTURE_NAME,
        namespace=namespace,
    )


def _settle(namespace: str, *, observed: bool) -> Step:
    what = "wait until each sidecar lets through" if observed else "wait until each sidecar enforces"
    return Step(
        do=Do.SETTLE,
        what=what,
        command=f"ringfence k8s status -n {namespace}",
        resource=NAMESPACES,
        name=namespace,
        namespace=namespace,
        observed=observed,
    )


def _verify(namespace: str, *, inject: bool) -> Step:
    what = "see that each pod has its sidecar" if inject else "see that no pod has a sidecar"
    return Step(
        do=Do.VERIFY,
        what=what,
        command=f"ringfence k8s check -n {namespace}" if inject else f"ringfence k8s status -n {namespace}",
        resource=NAMESPACES,
        name=namespace,
        namespace=namespace,
        inject=inject,
    )
