"""The smallest rule that lets somebody in: who calls, by identity where the caller is in the mesh. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k8s.objects.lenient import Json, integer, labels, objects, text
from k8s.objects.names import MODE
from k8s.objects.selectors import has_labels
from k8s.ramp.finding import Code, Document, Finding, is_kept, kubectl, made_document
from k8s.ramp.snapshot import Cluster, PodView, name_of
from k8s.translate.protocols import protocol_of
from ringfence.snapshot import Protocol

TEMPLATED: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"})
"""Kinds whose pod template stands at ``spec.template``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """That somebody calls pods of the mesh at ``port``. ``caller``: a pod of the caller's, None where it is none of the
    cluster. ``words``: of the rule's ``to`` where the port speaks HTTP, without the port."""

    code: Code
    subject: str
    who: str
    callee: PodView
    port: int
    caller: PodView | None
    words: Mapping[str, Any]
    rule: str


def target_port(port: Json, backing: Sequence[PodView]) -> int | None:
    """The port that the pods listen on behind a port of their Service; None where no pod tells what a name means."""
    target = port.get("targetPort")
    if isinstance(target, int) and not isinstance(target, bool):
        return target
    if isinstance(target, str) and target:
        return next((number for one in backing if (number := one.port_number(target)) is not None), None)
    return integer(port, "port")


def service_port(service: Json, wanted: object) -> Json | None:
    """The port of a Service by its name or number."""
    for port in objects(service, "spec", "ports"):
        if wanted is None or wanted in (port.get("port"), port.get("name")):
            return port
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    """Where the mesh has a port of a pod: ``name`` of the service that documents speak of, with the Service if it is
    one. ``declared``: whether anything tells that the pod listens there; what nothing tells of is none of the mesh."""

    name: str
    service: Json | None
    protocol: Protocol = Protocol.AUTO
    declared: bool = True


def _door(cluster: Cluster, view: PodView, number: int) -> _Door:
    for name, service in sorted(cluster.services_of.get(view.namespace, {}).items()):
        selector = labels(service, "spec", "selector")
        if not selector or not has_labels(selector, view.labels):
            continue
        for port in objects(service, "spec", "ports"):
            if text(port, "protocol") in ("", "TCP") and target_port(port, [view]) == number:
                said = protocol_of(integer(port, "port") or 0, text(port, "name"), text(port, "appProtocol"))
                return _Door(name=name, service=service, protocol=said)
    name = cluster.mesh_name(view)
    service_of_name = cluster.service(view.namespace, name)
    for port in view.ports:
        if text(port, "protocol") in ("", "TCP") and integer(port, "containerPort") == number:
            return _Door(name=name, service=service_of_name, protocol=protocol_of(number, text(port, "name")))
    return _Door(name=name, service=service_of_name, declared=False)


def finding_of(cluster: Cluster, opening: Opening) -> Finding | None:
    """What is to be done for an opening; None where the cluster keeps it already."""
    callee, door = opening.callee, _door(cluster, opening.callee, opening.port)
    known = opening.caller is not None and cluster.is_member(opening.caller)
    document = _document(cluster, opening, door, known)
    permissive = known or _is_permissive(cluster, callee, door)
    if door.declared and permissive and is_kept(document, cluster.kind("Allowlist")):
        return None
    commands: tuple[str, ...] = ()
    mend = ""
    if not door.declared:
        mend = f"declare the port by a containerPort {opening.port}, or it is none of the mesh; then "
        commands += _declaring_commands(callee, opening.port)
    if known:
        mend += "apply the allowlist: the caller is in the mesh, so by its identity"
    else:
        mend += "apply the allowlist for callers without an identity"
        mend += "" if permissive else " and let plaintext in by the annotation, or bring the caller into the mesh"
        commands += () if permissive else (_permissive_command(callee, door),)
    where = f"{callee.namespace}/{door.name}"
    return Finding(
        code=opening.code,
        subject=opening.subject,
        what=f"{opening.who} calls {where} at port {opening.port}, which 'strict' and default deny refuse",
        mend=mend,
        commands=commands,
        documents=(document,),
    )


def _document(cluster: Cluster, opening: Opening, door: _Door, known: bool) -> Document:
    caller: Any = {"unauthenticated": True}
    if known and opening.caller is not None:
        caller = f"{opening.caller.namespace}/{cluster.mesh_name(opening.caller)}"
    # Of bytes that are read as nothing a rule can only speak by their port.
    words = {} if door.protocol is Protocol.TCP else opening.words
    rule = {"name": opening.rule, "from": [caller], "to": {"ports": [opening.port], **words}}
    return made_document(
        "Allowlist", opening.callee.namespace, f"{door.name}-{opening.rule}", {"service": door.name, "rules": [rule]}
    )


def _is_permissive(cluster: Cluster, view: PodView, door: _Door) -> bool:
    """Whether plaintext reaches the app: by annotation of the pod, its Service or its namespace; the nearest wins."""
    service = door.service
    namespace = next((one for one in cluster.kind("Namespace") if name_of(one) == view.namespace), None)
    said = (
        view.annotations.get(MODE),
        labels(service, "metadata", "annotations").get(MODE),
        labels(namespace, "metadata", "annotations").get(MODE),
    )
    return next((one for one in said if one), "strict") == "permissive"


def _declaring_commands(view: PodView, number: int) -> tuple[str, ...]:
    """None where nobody but the author knows which container it is, or there is no template to change."""
    if len(view.containers) != 1 or view.owner_kind not in TEMPLATED:
        return ()
    container = {"name": text(view.containers[0], "name"), "ports": [{"containerPort": number}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    return (_patch_command(view, patch),)


def _permissive_command(view: PodView, door: _Door) -> str:
    if door.service is not None:
        return kubectl(
            "annotate", "--overwrite", "service", "-n", view.namespace, name_of(door.service), f"{MODE}=permissive"
        )
    return _patch_command(view, {"spec": {"template": {"metadata": {"annotations": {MODE: "permissive"}}}}})


def _patch_command(view: PodView, patch: Mapping[str, Any]) -> str:
    said = json.dumps(patch, separators=(",", ":"))
    return kubectl("patch", view.owner_kind.lower(), "-n", view.namespace, view.owner_name, "-p", said)


def members_behind(cluster: Cluster, service: Json) -> list[PodView]:
    """The pods of the mesh behind a Service."""
    return [one for one in cluster.backing(service) if cluster.is_member(one)]
