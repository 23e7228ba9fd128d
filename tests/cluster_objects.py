"""Objects of a cluster as the API serves them, with little said."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def namespace(name: str, *, inject: bool = True, **annotations: str) -> Json:
    labels = {"ringfence.io/inject": "enabled"} if inject else {}
    return {"metadata": {"name": name, "labels": labels, "annotations": _dashed(annotations)}}


def pod(
    name: str,
    ip: str | tuple[str, ...],
    *,
    ns: str = "shop",
    app: str = "",
    labels: Json | None = None,
    account: str = "default",
    meshed: bool = True,
    ready: bool = True,
    phase: str = "Running",
    ports: Json | None = None,
    owner: tuple[str, str] | None = None,
    **more: Any,
) -> Json:
    """``ports``: by name; ``owner``: kind and name; ``more``: ``annotations``, ``deleting``, ``host_network``, and
    ``init_statuses``, the states of its init containers."""
    addresses = (ip,) if isinstance(ip, str) else ip
    metadata: Json = {
        "name": name,
        "namespace": ns,
        "uid": f"uid-{ns}-{name}",
        "labels": {**({"app": app} if app else {}), **(labels or {})},
        "annotations": more.get("annotations", {}),
    }
    if owner is not None:
        metadata["ownerReferences"] = [
            {"kind": owner[0], "name": owner[1], "uid": "u", "apiVersion": "v1", "controller": True}
        ]
    if more.get("deleting"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    container = {
        "name": "app",
        "ports": [{"name": one, "containerPort": number} for one, number in (ports or {}).items()],
    }
    sidecar = {"name": "ringfence-sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 15008}]}
    return {
        "metadata": metadata,
        "spec": {
            "serviceAccountName": account,
            "hostNetwork": bool(more.get("host_network")),
            "containers": [container],
            "initContainers": [sidecar] if meshed else [],
        },
        "status": {
            "phase": phase,
            "podIP": addresses[0] if addresses else None,
            "podIPs": [{"ip": one} for one in addresses],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "initContainerStatuses": more.get("init_statuses", []),
        },
    }


def service(
    name: str,
    *ports: Json | int,
    ns: str = "shop",
    ip: str | tuple[str, ...] = "10.96.0.1",
    selector: Json | None = None,
    **spec: Any,
) -> Json:
    """``ports``: numbers, or as the API has them; ``selector``: the app of that name unless said. ``labels`` and
    ``annotations`` may be among the rest."""
    addresses = (ip,) if isinstance(ip, str) else ip
    metadata = {key: spec.pop(key) for key in ("labels", "annotations") if key in spec}
    return {
        "metadata": {"name": name, "namespace": ns, **metadata},
        "spec": {
            "clusterIP": addresses[0],
            "clusterIPs": list(addresses),
            "selector": {"app": name} if selector is None else selector,
            "ports": [{"port": one} if isinstance(one, int) else one for one in ports],
            **spec,
        },
    }


def endpoint_slice(of: str, ready: dict[str, bool | None], *, ns: str = "shop", number: int = 1) -> Json:
    """``ready``: by pod."""
    return {
        "addressType": "IPv4",
        "metadata": {"name": f"{of}-{number}", "namespace": ns, "labels": {"kubernetes.io/service-name": of}},
        "endpoints": [
            {"addresses": ["10.9.9.9"], "conditions": {"ready": fit}, "targetRef": {"kind": "Pod", "name": name}}
            for name, fit in ready.items()
        ],
    }


def _dashed(annotations: dict[str, str]) -> dict[str, str]:
    return {f"ringfence.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
