"""What cannot be in the mesh, with the mend; and what can, but with less protection than it may think. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8s.inject.accounts import Account
from k8s.objects import names
from k8s.objects.fields import JsonObject, child, flag, integer, objects, optional_integer, text
from ringfence.policy.problems import shown

LEAVE_OUT: Final = f"label the pod {names.INJECT}: {names.DISABLED}"
_OWN_NAMES: Final = frozenset({names.SIDECAR_CONTAINER, names.REDIRECT_CONTAINER})
_OWN_VOLUMES: Final = frozenset({names.STATE_VOLUME, names.TOKEN_VOLUME, names.TRUST_VOLUME})
_OS_LABEL: Final = "kubernetes.io/os"
# With one of these a container can take the rules away, mark its packets, or read the sidecar's memory.
_STRONG: Final = frozenset({"ALL", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "BPF", "SYS_MODULE"})
_WARNINGS: Final = 8


def refusal(spec: JsonObject, account: Account) -> str | None:
    """Why a pod cannot have a sidecar that runs as ``account``, one line; None if it can. ``spec``: without what an
    injector put there. Raises MalformedObjectError."""
    return next(_reasons(spec, account), None)


def warnings(spec: JsonObject) -> list[str]:
    """What protects less than it seems to, a line each; Kubernetes shows them to whoever made the pod."""
    told = list(_doubts(spec))
    more = len(told) - _WARNINGS
    return told if more <= 0 else [*told[:_WARNINGS], f"and {more} more warnings"]


def _reasons(spec: JsonObject, account: Account) -> Iterator[str]:
    if flag(spec, "hostNetwork", "spec"):
        yield f"spec.hostNetwork: on the node's network there is nothing of the pod's own to guard ({LEAVE_OUT})"
    if _on_windows(spec):
        yield f"spec.os.name: the sidecar is a Linux program, and this is a pod for Windows ({LEAVE_OUT})"
    containers = list(_containers(spec))
    if not any(path.startswith("spec.containers") for path, _ in containers):
        yield "spec.containers: a pod without containers (add one)"
    for path, container in containers:
        yield from _of_container(path, container)
    for path, volume in objects(spec, "volumes", "spec"):
        if text(volume, "name", path) in _OWN_VOLUMES:
            yield f"{path}.name: {text(volume, 'name', path)} is a volume of the sidecar's (rename it)"
    yield from _users(spec, containers, account)
    yield from _shared_processes(spec, containers)


def _on_windows(spec: JsonObject) -> bool:
    selected = child(spec, "nodeSelector", "spec").get(_OS_LABEL)
    return selected == "windows" or text(child(spec, "os", "spec"), "name", "spec.os") == "windows"


def _containers(spec: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    yield from objects(spec, "initContainers", "spec")
    yield from objects(spec, "containers", "spec")


def _of_container(path: str, container: JsonObject) -> Iterator[str]:
    name = text(container, "name", path)
    if name in _OWN_NAMES:
        yield f"{path}.name: {name} is what the mesh's own container is called (rename it)"
    for where, mount in objects(container, "volumeMounts", path):
        volume = text(mount, "name", where)
        if volume in _OWN_VOLUMES:
            yield f"{where}.name: {volume} is a volume of the sidecar's, with its token or its keys (leave it out)"
    for where, port in objects(container, "ports", path):
        number = integer(port, "containerPort", where)
        if number in names.OWN_PORTS:
            yield f"{where}.containerPort: {number} is a port of the sidecar's own (let the app listen on another)"


def _users(spec: JsonObject, containers: list[tuple[str, JsonObject]], account: Account) -> Iterator[str]:
    """Where the account is the same for every pod. A container with the sidecar's user or group would pass for the
    sidecar where its connections are let go."""
    places = [("spec", spec), *containers]
    for path, one in places:
        security = child(one, "securityContext", path)
        for key, own in (("runAsUser", account.user), ("runAsGroup", account.group)):
            if optional_integer(security, key, f"{path}.securityContext") == own:
                yield f"{path}.securityContext.{key}: {own} is the sidecar's own (run as another)"


def _shared_processes(spec: JsonObject, containers: list[tuple[str, JsonObject]]) -> Iterator[str]:
    """Where processes see each other, those of another plain user can neither read nor trace the sidecar; root's could
    become its user, and then take its key out of its memory. A plain user is root after a program with the setuid bit,
    which an image may hold, unless the kernel is told to give nobody more than he had."""
    if not (flag(spec, "shareProcessNamespace", "spec") or flag(spec, "hostPID", "spec")):
        return
    pod = child(spec, "securityContext", "spec")
    for path, container in containers:
        own = child(container, "securityContext", path)
        where = f"{path}.securityContext"
        user = optional_integer(own, "runAsUser", where)
        user = optional_integer(pod, "runAsUser", "spec.securityContext") if user is None else user
        plain = bool(user) or flag(own if own.get("runAsNonRoot") is not None else pod, "runAsNonRoot", where)
        if not plain or _may_gain(own, where):
            key = "shareProcessNamespace" if flag(spec, "shareProcessNamespace", "spec") else "hostPID"
            yield (
                f"spec.{key}: as root, {shown(text(container, 'name', path))} could read the sidecar's memory "
                "(run every container with runAsNonRoot: true and allowPrivilegeEscalation: false, "
                "or leave processes apart)"
            )


def _may_gain(security: JsonObject, where: str) -> bool:
    """Whether it may become another user than it is, and then trace his processes."""
    if flag(security, "privileged", where):
        return True
    if security.get("allowPrivilegeEscalation") is not None:
        return flag(security, "allowPrivilegeEscalation", where)
    added, dropped = (_capabilities(security, where, key) for key in ("add", "drop"))
    return not dropped & {"ALL", "SETUID"} or bool(added & {*_STRONG, "SETUID"})


def _doubts(spec: JsonObject) -> Iterator[str]:
    for path, container in _containers(spec):
        security = child(container, "securityContext", path)
        where = f"{path}.securityContext"
        name = shown(text(container, "name", path))
        if flag(security, "privileged", where):
            yield f"{where}.privileged: {name} can leave the mesh as it likes (run it without)"
        strong = sorted(_STRONG & _capabilities(security, where, "add"))
        if strong:
            yield f"{where}.capabilities: by {', '.join(strong)} {name} can leave the mesh as it likes (drop it)"
    policy = text(spec, "dnsPolicy", "spec")
    if policy in ("None", "Default"):
        yield f"spec.dnsPolicy: by {policy} the sidecar may not find the control plane's name (use ClusterFirst)"


def _capabilities(security: JsonObject, where: str, key: str) -> frozenset[str]:
    """Those that are added or dropped, without their prefix."""
    listed = child(security, "capabilities", where).get(key)
    return frozenset(str(one).upper().removeprefix("CAP_") for one in (listed if isinstance(listed, list) else ()))
