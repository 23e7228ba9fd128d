"""The containers and volumes that are put into a pod. Pure.

Every default that the API server would fill in is written out, so that a pod that comes by again is known as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from k8s.inject.accounts import Account
from k8s.inject.settings import InjectSettings
from k8s.inject.wishes import Wishes
from k8s.objects import names

_RUN: Final = "/var/run/ringfence"
_STATE: Final = f"{_RUN}/state"
_TOKEN_FOLDER: Final = f"{_RUN}/token"
_TOKEN_FILE: Final = "token"
_TRUST_FOLDER: Final = f"{_RUN}/trust"
_ENV: Final = "RINGFENCE_SIDECAR_"
_STATE_LIMIT: Final = "32Mi"
_TOKEN_SECONDS: Final = 3_600
_START_SECONDS: Final = 300
_READABLE: Final = 0o644
PROBES: Final = f"{_ENV}PROBES"
BY_PLUGIN: Final = "cni"
"""What the status says of a pod that the node's plugin redirects."""
OWN_VARIABLES: Final = ("RINGFENCE_", "POD_NAMESPACE", "SERVICE_ACCOUNT")
"""Of the sidecar's variables those that begin so are set here, and by nobody else."""


def redirect(settings: InjectSettings, wishes: Wishes, account: Account) -> dict[str, Any]:
    """The init container that puts the rules in place, and has nothing but the two capabilities for it."""
    args = redirect_arguments(
        account,
        inbound_ports=wishes.exclude_inbound_ports,
        outbound_ports=wishes.exclude_outbound_ports,
        outbound_cidrs=wishes.exclude_outbound_cidrs,
    )
    return {
        "name": names.REDIRECT_CONTAINER,
        "image": wishes.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": args,
        "resources": _resources(wishes),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def redirect_arguments(
    account: Account, *, inbound_ports: Sequence[int], outbound_ports: Sequence[int], outbound_cidrs: Sequence[str]
) -> list[str]:
    """Of ``ringfence``, for the rules of a pod whose sidecar runs as ``account``."""
    args = ["redirect", "install", "--sidecar-uid", str(account.user), "--sidecar-gid", str(account.group)]
    args += ["--signals-port", str(names.SIGNALS_PORT)]
    for option, listed in (
        ("--exclude-inbound-port", tuple(port for port in inbound_ports if port != names.SIGNALS_PORT)),
        ("--exclude-outbound-port", outbound_ports),
        ("--exclude-cidr", outbound_cidrs),
    ):
        if listed:
            args += [option, ",".join(map(str, listed))]
    return args


def sidecar(settings: InjectSettings, wishes: Wishes, account: Account, probes: str) -> dict[str, Any]:
    """The native sidecar: it starts before the app's containers, which wait for its startup probe, and ends after
    them."""
    return {
        "name": names.SIDECAR_CONTAINER,
        "image": wishes.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python3", "-P", "-m", "sidecar"],  # `ringfence sidecar`, and 4 MB smaller
        "restartPolicy": "Always",
        "env": _variables(settings, wishes, probes),
        "ports": [
            {"name": "rf-mesh", "containerPort": names.MESH_PORT, "protocol": "TCP"},
            {"name": "rf-signals", "containerPort": names.SIGNALS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(wishes),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": account.group,
            "runAsNonRoot": True,
            "runAsUser": account.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": names.SIGNALS_PORT, "scheme": "HTTP"},
            "failureThreshold": _START_SECONDS,
            "periodSeconds": 1,
            "successThreshold": 1,
            "timeoutSeconds": 3,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": names.STATE_VOLUME, "mountPath": _RUN},
            {"name": names.TOKEN_VOLUME, "mountPath": _TOKEN_FOLDER, "readOnly": True},
            {"name": names.TRUST_VOLUME, "mountPath": _TRUST_FOLDER, "readOnly": True},
        ],
    }


def volumes() -> list[dict[str, Any]]:
    """State in memory alone, evidence of who the pod is, and by what the control plane is known."""
    token = {"audience": names.AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": _TOKEN_FILE}
    return [
        {"name": names.STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": _STATE_LIMIT}},
        {
            "name": names.TOKEN_VOLUME,
            "projected": {"defaultMode": _READABLE, "sources": [{"serviceAccountToken": token}]},
        },
        {
            "name": names.TRUST_VOLUME,
            "configMap": {
                "name": names.TRUST_CONFIG_MAP,
                "defaultMode": _READABLE,
                "items": [{"key": names.TRUST_KEY, "path": names.TRUST_KEY}],
                "optional": False,
            },
        },
    ]


def status(settings: InjectSettings, wishes: Wishes) -> str:
    """What the annotation says that was done; for the node's plugin also what it must leave out."""
    containers = [*([] if settings.cni else [names.REDIRECT_CONTAINER]), names.SIDECAR_CONTAINER]
    said: dict[str, Any] = {
        "containers": containers,
        "image": wishes.image,
        "redirect": BY_PLUGIN if settings.cni else "init",
        "revision": settings.revision,
        "version": settings.version,
    }
    if settings.cni:
        said["exclude"] = {
            "inbound_ports": list(wishes.exclude_inbound_ports),
            "outbound_ports": list(wishes.exclude_outbound_ports),
            "outbound_cidrs": list(wishes.exclude_outbound_cidrs),
        }
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def _variables(settings: InjectSettings, wishes: Wishes, probes: str) -> list[dict[str, Any]]:
    host = settings.host
    said = {
        "SPIFFE_ID": f"spiffe://{settings.trust_domain}/ns/$(POD_NAMESPACE)/sa/$(SERVICE_ACCOUNT)",
        "JOIN": f"{host}:{names.JOIN_PORT}",
        "CONTROL": f"{host}:{names.CONTROL_PORT}",
        "BUNDLE": f"{_TRUST_FOLDER}/{names.TRUST_KEY}",
        "STATE": _STATE,
        "EVIDENCE_KIND": names.EVIDENCE_KIND,
        "EVIDENCE_FILE": f"{_TOKEN_FOLDER}/{_TOKEN_FILE}",
        "SIGNALS": f"{settings.signals_host}:{names.SIGNALS_PORT}",
        "PROBES": probes,
        "LOG_LEVEL": wishes.log_level,
        "ACCESS_LOG": wishes.access_log,
        "DRAIN": wishes.drain,
        "EXPECT_REDIRECT": "true",
    }
    return [
        _downward("POD_NAMESPACE", "metadata.namespace"),
        _downward("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        _downward(f"{_ENV}INSTANCE", "metadata.name"),
        _downward(f"{_ENV}POD_ADDRESS", "status.podIPs"),
        *({"name": f"{_ENV}{name}", "value": value} for name, value in said.items()),
    ]


def _downward(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _resources(wishes: Wishes) -> dict[str, Any]:
    return {
        key: dict(amounts) for key, amounts in (("limits", wishes.limits), ("requests", wishes.requests)) if amounts
    }
