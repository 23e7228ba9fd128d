"""What a pod needs of the plugin, by what the API server has of it. Pure.

Whoever wrote the pod may have written its annotations; so each value is read again, and the sidecar's user is that of
the sidecar's container, which nobody can change later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from k8s.cni.request import CniError, Code, PodName
from k8s.inject import parts, values
from k8s.inject.accounts import Account
from k8s.objects import names
from k8s.objects.fields import JsonObject, MalformedObjectError, child, integer, objects, text, texts
from ringfence.policy.problems import shown

_MIRROR = "kubernetes.io/config.mirror"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The rules of a pod; ``arguments``: of ``ringfence``, with which it puts them in place."""

    arguments: tuple[str, ...]


def wanted(pod: JsonObject, name: PodName) -> Wanted | None:
    """None for a pod that is not redirected here. Raises CniError for one that is and cannot be."""
    try:
        return _wanted(pod, name)
    except (MalformedObjectError, ValueError) as error:
        raise CniError(Code.REDIRECT, f"pod {name.namespace}/{name.name}: {error}") from error


def _wanted(pod: JsonObject, name: PodName) -> Wanted | None:
    metadata = child(pod, "metadata")
    annotations = texts(metadata, "annotations", "metadata")
    if (text(metadata, "namespace", "metadata"), text(metadata, "name", "metadata")) != (name.namespace, name.name):
        raise MalformedObjectError("the API server spoke of another pod (try again)")
    uid = text(metadata, "uid", "metadata")
    if name.uid and uid != name.uid and annotations.get(_MIRROR) != name.uid:
        # A pod of the same name came after this one; this network is not its network.
        raise CniError(Code.TRY_AGAIN, f"pod {name.namespace}/{name.name} is another one by now (try again)")
    sidecar = next(
        (
            (path, one)
            for path, one in objects(child(pod, "spec"), "initContainers", "spec")
            if text(one, "name", path) == names.SIDECAR_CONTAINER
        ),
        None,
    )
    if sidecar is None:
        return None
    status = _status(annotations.get(names.STATUS, ""))
    if status.get("redirect") != parts.BY_PLUGIN:
        return None
    if not name.uid:
        # By its name alone it could be another pod's network.
        raise MalformedObjectError("the container runtime does not say its UID (use one that sends K8S_POD_UID)")
    path, container = sidecar
    security = child(container, "securityContext", path)
    user, group = (integer(security, key, f"{path}.securityContext") for key in ("runAsUser", "runAsGroup"))
    if user < 1 or group < 1:
        raise MalformedObjectError(f"{path}.securityContext: no user and group of the sidecar's (inject it anew)")
    exclude = child(status, "exclude", names.STATUS)
    arguments = parts.redirect_arguments(
        Account(user=user, group=group),
        inbound_ports=values.ports(_listed(exclude, "inbound_ports")),
        outbound_ports=values.ports(_listed(exclude, "outbound_ports")),
        outbound_cidrs=values.networks(_listed(exclude, "outbound_cidrs")),
    )
    return Wanted(arguments=tuple(arguments))


def _status(annotation: str) -> JsonObject:
    try:
        said = json.loads(annotation)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise MalformedObjectError(f"annotation {names.STATUS}: {shown(annotation)} says nothing (inject it anew)")
    return said


def _listed(exclude: JsonObject, key: str) -> str:
    """As an annotation would say it, to be read as strictly."""
    found = exclude.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str | int) for one in found):
        raise MalformedObjectError(f"annotation {names.STATUS}: exclude.{key} is no list (inject it anew)")
    return ",".join(map(str, found))
