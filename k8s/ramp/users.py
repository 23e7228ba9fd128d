"""Containers that could become the sidecar's user, whose connections are led past the redirect. Pure.

The kernel tells the sidecar's own connections by its user and group, which are drawn for each pod. A process that may
become any user (root with CAP_SETUID, which container runtimes give by default), or may change the rules (NET_ADMIN),
evades egress policy; it wins no identity by it, and no callee believes it. Programs with the setuid bit are not looked
for: what is in an image cannot be seen here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from k8s.objects.lenient import Json, integer, mapping, objects, text, texts
from k8s.objects.names import OWN_PORTS, REDIRECT_CONTAINER, SIDECAR_CONTAINER
from k8s.ramp.finding import Code, Finding, kubectl
from k8s.ramp.openings import TEMPLATED
from k8s.ramp.snapshot import Cluster, PodView

_DANGEROUS: Final = ("ALL", "NET_ADMIN", "SETUID", "SYS_ADMIN", "SYS_PTRACE", "BPF")


def user_findings(cluster: Cluster) -> Iterator[Finding]:
    for view in cluster.owners(cluster.members).values():
        for listed in ("initContainers", "containers"):
            for container in objects(view.spec, listed):
                name = text(container, "name")
                if name in (SIDECAR_CONTAINER, REDIRECT_CONTAINER) and view.is_injected:
                    continue
                if why := could_be_sidecar(view.spec, container):
                    yield _finding(view, listed, name, why)
                yield from _ports(view, container)


def could_be_sidecar(spec: Json, container: Json) -> str:
    """Why a container could become the sidecar's user; empty if it cannot."""
    own, pod = mapping(container, "securityContext"), mapping(spec, "securityContext")
    user = integer(own, "runAsUser")
    user = integer(pod, "runAsUser") if user is None else user
    non_root = own.get("runAsNonRoot", pod.get("runAsNonRoot")) is True
    added = {one.upper().removeprefix("CAP_") for one in texts(own, "capabilities", "add")}
    dropped = {one.upper().removeprefix("CAP_") for one in texts(own, "capabilities", "drop")}
    if own.get("privileged") is True:
        return "is privileged"
    if gained := [one for one in _DANGEROUS if one in added]:
        return f"has the capability {', '.join(gained)}"
    may_be_root = user == 0 or (user is None and not non_root)
    if may_be_root and not dropped & {"ALL", "SETUID"}:
        as_whom = "runs as root" if user == 0 else "may run as root (its image decides)"
        return f"{as_whom} and keeps CAP_SETUID, which runtimes give"
    return ""


def _finding(view: PodView, listed: str, name: str, why: str) -> Finding:
    if "root" in why:
        mend = "run it as another user than root, or drop the capability SETUID"
        wanted: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["SETUID"]}}
    else:
        mend = "take that from it, or keep it out of the mesh and call it a destination outside"
        wanted = {}
    return Finding(
        code=Code.SIDECAR_USER,
        subject=view.owner,
        what=f"container {name} {why}, and so could call past the sidecar",
        mend=mend,
        commands=_commands(view, listed, name, wanted),
    )


def _commands(view: PodView, listed: str, name: str, wanted: dict[str, Any]) -> tuple[str, ...]:
    if not wanted or view.owner_kind not in TEMPLATED:
        return ()
    patch = {"spec": {"template": {"spec": {listed: [{"name": name, "securityContext": wanted}]}}}}
    said = json.dumps(patch, separators=(",", ":"))
    return (kubectl("patch", view.owner_kind.lower(), "-n", view.namespace, view.owner_name, "-p", said),)


def _ports(view: PodView, container: Json) -> Iterator[Finding]:
    taken = sorted(
        {number for port in objects(container, "ports") if (number := integer(port, "containerPort")) in OWN_PORTS}
    )
    if taken:
        yield Finding(
            code=Code.OWN_PORT,
            subject=view.owner,
            what=f"container {text(container, 'name')} listens on {', '.join(map(str, taken))}, the sidecar's",
            mend="give the app another port; the injector refuses the pod as it is",
        )
