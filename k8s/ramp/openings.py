"""The smallest rule that lets somebody in: who calls, by identity where the caller is in the mesh. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k8s.objects.lenient import Json, integer, labels, objects, text
from k8s.objects.names import MODE
from k8s.ramp.finding import Code, Document, Finding, is_kept, kubectl, made_document
from k8s.ramp.snapshot import Cluster, PodView, name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """That somebody calls pods of the mesh. ``caller``: a pod of the caller's, None where it is none of the cluster.
    ``words``: of the rule's ``to``, without ports."""

    code: Code
    subject: str
    who: str
    callee: PodView
    ports: tuple[int, ...]
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


def finding_of(cluster: Cluster, opening: Opening) -> Finding | None:
    """What is to be done for an opening; None where the cluster keeps it already."""
    callee = opening.callee
    known = opening.caller is not None and cluster.is_member(opening.caller)
    document = _document(cluster, opening, known)
    permissive = known or is_permissive(cluster, callee)
    if permissive and is_kept(document, cluster.kind("Allowlist")):
        return None
    where = f"{callee.namespace}/{cluster.mesh_name(callee)}"
    ports = ", ".join(map(str, opening.ports))
    if known:
        commands: tuple[str, ...] = ()
        mend = "apply the allowlist: the caller is in the mesh, so by its identity"
    else:
        mend = "apply the allowlist for callers without an identity"
        commands = () if permissive else (_permissive_command(cluster, callee),)
        mend += "" if permissive else " and let plaintext in by the annotation, or bring the caller into the mesh"
    return Finding(
        code=opening.code,
        subject=opening.subject,
        what=f"{opening.who} calls {where} at port {ports}, which 'strict' and default deny refuse",
        mend=mend,
        commands=commands,
        documents=(document,),
    )


def _document(cluster: Cluster, opening: Opening, known: bool) -> Document:
    callee, name = opening.callee, cluster.mesh_name(opening.callee)
    caller: Any = {"unauthenticated": True}
    if known and opening.caller is not None:
        caller = f"{opening.caller.namespace}/{cluster.mesh_name(opening.caller)}"
    rule = {"name": opening.rule, "from": [caller], "to": {"ports": list(opening.ports), **opening.words}}
    return made_document("Allowlist", callee.namespace, f"{name}-{opening.rule}", {"service": name, "rules": [rule]})


def is_permissive(cluster: Cluster, view: PodView) -> bool:
    """Whether plaintext reaches the app: by annotation of the pod, its Service or its namespace; the nearest wins."""
    service = cluster.service(view.namespace, cluster.mesh_name(view))
    namespace = next((one for one in cluster.kind("Namespace") if name_of(one) == view.namespace), None)
    said = (
        view.annotations.get(MODE),
        labels(service, "metadata", "annotations").get(MODE),
        labels(namespace, "metadata", "annotations").get(MODE),
    )
    return next((one for one in said if one), "strict") == "permissive"


def _permissive_command(cluster: Cluster, view: PodView) -> str:
    service = cluster.service(view.namespace, cluster.mesh_name(view))
    if service is not None:
        return kubectl(
            "annotate", "--overwrite", "service", "-n", view.namespace, name_of(service), f"{MODE}=permissive"
        )
    patch = {"spec": {"template": {"metadata": {"annotations": {MODE: "permissive"}}}}}
    said = json.dumps(patch, separators=(",", ":"))
    return kubectl("patch", view.owner_kind.lower(), "-n", view.namespace, view.owner_name, "--type=merge", "-p", said)


def speaks_http(port: Json) -> bool:
    """Whether HTTP words may stand in a rule for this port of a Service."""
    said = text(port, "appProtocol").lower() or text(port, "name").lower().partition("-")[0]
    if text(port, "protocol") not in ("", "TCP"):
        return False
    return said not in ("tcp", "https", "tls", "postgres", "mysql", "redis", "mongo", "kafka", "amqp")


def members_behind(cluster: Cluster, service: Json) -> list[PodView]:
    """The pods of the mesh behind a Service."""
    return [one for one in cluster.backing(service) if cluster.is_member(one)]
