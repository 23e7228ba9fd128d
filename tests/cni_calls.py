"""Calls of the CNI plugin as a container runtime makes them, and pods for it, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from k8s.inject.injection import Injected, inject
from k8s.inject.settings import InjectSettings
from tests.golden_pods import CNI, GOLDEN, SHOP, WORD, pod

UID = "6c0f2b6e-0000-4000-8000-000000000001"


def environment(command: str = "ADD", **more: str) -> dict[str, str]:
    """Of a call for the pod ``shop/app``."""
    arguments = (
        f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=app;K8S_POD_UID={UID};K8S_POD_INFRA_CONTAINER_ID=x"
    )
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "x",
        "CNI_NETNS": "/var/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": arguments,
        **more,
    }


def configuration(*addresses: str, **more: Any) -> bytes:
    """On standard input; ``addresses``: what the plugins before gave to the pod."""
    said: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "ringfence-cni",
        "excludeNamespaces": ["kube-system"],
        "prevResult": result(*addresses),
        **more,
    }
    return json.dumps({key: value for key, value in said.items() if value is not None}).encode()


def result(*addresses: str) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/var/run/netns/none"}],
        "ips": [{"address": address, "interface": 0} for address in addresses or ("10.244.1.7/24",)],
        "dns": {},
    }


def served(made: dict[str, Any] | None = None, settings: InjectSettings = CNI, **metadata: Any) -> dict[str, Any]:
    """The pod ``shop/app`` as the API server has it, injected."""
    outcome = inject(GOLDEN["excluded-ports"].pod if made is None else made, SHOP, settings, WORD)
    assert isinstance(outcome, Injected)
    said = {**outcome.pod["metadata"], "namespace": "shop", "name": "app", "uid": UID, **metadata}
    return {**outcome.pod, "metadata": said}


def plain(**metadata: Any) -> dict[str, Any]:
    """One that is not in the mesh."""
    made = pod()
    return {**made, "metadata": {"namespace": "shop", "name": "app", "uid": UID, **metadata}}


def pod_list(folder: Path, *pods: dict[str, Any]) -> str:
    """A file for ``pods``."""
    path = folder / "pods.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": list(pods)}))
    return str(path)
