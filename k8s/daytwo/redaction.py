"""What of a cluster's objects and texts may leave it in a support bundle. Pure.

By allowing, not by forbidding: of a pod only the fields named here are kept, so what somebody puts elsewhere stays at
home. What is text (logs, answers of sidecars) has been redacted by its writer; here it is looked through once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from k8s.objects.lenient import Json, labels, mapping, objects, text

REDACTED: Final = "(redacted)"
_OURS: Final = "ringfence.io/"
_SECURITY: Final = (
    "allowPrivilegeEscalation",
    "capabilities",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
)
_SIDECAR_NAMES: Final = frozenset({"ringfence-sidecar", "ringfence-redirect", "ringfence"})
_LAST_WORDS: Final = ("terminated", "message")
# Values of these of our own settings are public; of all other variables only the name is kept.
_SHOWN_VARIABLES: Final = re.compile(r"RINGFENCE_SIDECAR_[A-Z_]{1,64}")
_PATTERNS: Final = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.{0,20000}?(-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL
        ),
        REDACTED,
    ),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*)?"), REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {REDACTED}"),
    (re.compile(r"(://)[^\s/@\"']{1,256}@"), rf"\1{REDACTED}@"),
    (
        re.compile(
            r'(?i)("(?:[a-z0-9_.-]*(?:password|passwd|passphrase|secret|api[_-]?key|private[_-]?key|authorization|cookie)'
            r'[a-z0-9_.-]*|token)"\s*:\s*)"(?:[^"\\]|\\.){1,65536}"'
        ),
        rf'\1"{REDACTED}"',
    ),
    (
        re.compile(r"(?i)\b((?:password|passwd|passphrase|secret|api[_-]?key|token)\s*=\s*)[^\s&\"',;]{1,4096}"),
        rf"\1{REDACTED}",
    ),
)


def redacted_text(said: str) -> str:
    """Without what looks like a key, a token or a password."""
    for pattern, instead in _PATTERNS:
        said = pattern.sub(instead, said)
    return said


def redacted_pod(pod: Json) -> dict[str, Any]:
    """A pod, or a template's owner, without values of variables, arguments and foreign annotations."""
    spec = mapping(pod, "spec")
    shown_spec: dict[str, Any] = {
        listed: [_container(one) for one in objects(spec, listed)] for listed in ("initContainers", "containers")
    }
    for name in ("nodeName", "serviceAccountName", "hostNetwork", "restartPolicy"):
        if name in spec:
            shown_spec[name] = spec[name]
    shown_spec["securityContext"] = _security(mapping(spec, "securityContext"))
    shown_spec["volumes"] = [
        {"name": text(one, "name"), "kind": sorted(key for key in one if key != "name")}
        for one in objects(spec, "volumes")
    ]
    return {
        "kind": text(pod, "kind"),
        "metadata": redacted_metadata(pod),
        "spec": shown_spec,
        "status": _status(mapping(pod, "status")),
    }


def redacted_metadata(one: Json) -> dict[str, Any]:
    metadata = mapping(one, "metadata")
    shown: dict[str, Any] = {
        name: metadata[name]
        for name in (
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
            "ownerReferences",
        )
        if name in metadata
    }
    shown["labels"] = labels(metadata, "labels")
    annotations = labels(metadata, "annotations")
    shown["annotations"] = {name: value for name, value in annotations.items() if name.startswith(_OURS)}
    shown["annotations_left_out"] = sorted(name for name in annotations if not name.startswith(_OURS))
    return shown


def _security(context: Json) -> dict[str, Any]:
    return {name: context[name] for name in _SECURITY if name in context}


def _container(container: Json) -> dict[str, Any]:
    ours = text(container, "name") in _SIDECAR_NAMES
    shown: dict[str, Any] = {
        "name": text(container, "name"),
        "image": redacted_text(text(container, "image")),
        "ports": [dict(one) for one in objects(container, "ports")],
        "resources": dict(mapping(container, "resources")),
        "securityContext": _security(mapping(container, "securityContext")),
        "env": [_variable(one, ours) for one in objects(container, "env")],
    }
    if ours:
        shown["args"] = container.get("args")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            shown[probe] = _probe(mapping(container, probe))
    return shown


def _variable(variable: Json, ours: bool) -> dict[str, str]:
    name = text(variable, "name")
    # What a probe sends may be a token, and who knows the word of a hook may have it run.
    if ours and _SHOWN_VARIABLES.fullmatch(name) and name != "RINGFENCE_SIDECAR_PROBES":
        return {"name": name, "value": text(variable, "value")}
    return {"name": name, "value": REDACTED}


def _probe(probe: Json) -> dict[str, Any]:
    """Which port and path, and no header: those hold tokens."""
    kinds = ("httpGet", "tcpSocket", "grpc")
    shown = {
        kind: {key: mapping(probe, kind).get(key) for key in ("port", "path", "scheme", "service")}
        for kind in kinds
        if kind in probe
    }
    return {**shown, **({"exec": REDACTED} if "exec" in probe else {})}


def _status(status: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: status[name]
        for name in (
            "phase",
            "podIP",
            "podIPs",
            "hostIP",
            "startTime",
            "conditions",
            "qosClass",
            "replicas",
            "readyReplicas",
        )
        if name in status
    }
    for listed in ("initContainerStatuses", "containerStatuses"):
        shown[listed] = [_container_status(one) for one in objects(status, listed)]
    return shown


def _container_status(status: Json) -> dict[str, Any]:
    shown = {name: status.get(name) for name in ("name", "ready", "started", "restartCount", "image")}
    ours = text(status, "name") in _SIDECAR_NAMES
    return {**shown, **{name: _state(mapping(status, name), ours) for name in ("state", "lastState")}}


def _state(state: Json, ours: bool) -> dict[str, Any]:
    """What an app left as its last words may be the end of its log, and is the app's."""
    return {
        kind: {name: value for name, value in mapping(state, kind).items() if ours or (kind, name) != _LAST_WORDS}
        for kind in ("waiting", "running", "terminated")
        if kind in state
    }


def redacted_object(one: Json) -> dict[str, Any]:
    """Of any other kind: all but the annotations of others, and nothing of Secrets and ConfigMaps but their names."""
    if text(one, "kind") in ("Secret", "ConfigMap"):
        keys = sorted(str(key) for part in ("data", "stringData", "binaryData") for key in mapping(one, part))
        return {"kind": text(one, "kind"), "metadata": redacted_metadata(one), "keys": keys}
    rest = {name: value for name, value in one.items() if name != "metadata"}
    return {**rest, "metadata": redacted_metadata(one)}
