"""Objects that tests put into a cluster."""

from __future__ import annotations

from typing import Any

from tests.cluster.node import SANDBOX_IMAGE
from tests.cluster.product_image import NAME


def sleeper(name: str, **spec: Any) -> dict[str, Any]:
    """A pod that does nothing; ``spec``: more fields of its spec."""
    container = {"name": "sleeper", "image": SANDBOX_IMAGE, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def ringfence_pod(name: str, *words: str) -> dict[str, Any]:
    """A pod of Pod Security `restricted` that runs our command to its end."""
    container = {
        "name": "ringfence",
        "image": NAME,
        "imagePullPolicy": "Never",
        "args": list(words),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def caller_pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod that waits, so that calls can be made from it; ``spec``: more fields of its spec."""
    container = {
        "name": "caller",
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
        "securityContext": {"runAsUser": 1000},
    }
    whole = {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}
