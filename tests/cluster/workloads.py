"""Objects that tests put into a cluster."""

from __future__ import annotations

from typing import Any

from tests.cluster.node import SANDBOX_IMAGE


def sleeper(name: str, **spec: Any) -> dict[str, Any]:
    """A pod that does nothing; ``spec``: more fields of its spec."""
    container = {"name": "sleeper", "image": SANDBOX_IMAGE, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }
