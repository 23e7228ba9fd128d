"""The mesh in a test cluster: installed by the chart, as anybody would, and the shop in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.product_image import NAME, REPOSITORY

SYSTEM: Final = "ringfence-system"
CHART: Final = REPOSITORY / "k8s" / "chart"
SHOP: Final = REPOSITORY / "examples" / "shop"
TRUST_DOMAIN: Final = "shop.example"
LIFETIME_SECONDS: Final = 60
"""Of SVIDs, so that each is renewed while tests look on."""
_IMAGE, _, _TAG = NAME.rpartition(":")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """A cluster with the mesh and the shop; ``complaints``: what helm said that was no answer."""

    cluster: Cluster
    complaints: str


def wait_for_webhook(cluster: Cluster) -> None:
    """Wait until pods of the shop can be asked about: the node learns of a new control plane after helm does."""
    pod = ("run", "asks", "--namespace=shop", f"--image={_IMAGE}:{_TAG}", "--dry-run=server")
    until(lambda: cluster.try_kubectl(*pod).returncode == 0, "the webhook")


def install(cluster: Cluster, *more: str) -> str:
    """Install the chart; what helm complained of."""
    cluster.volume("authority")
    life = f"identity.lifetimeSeconds={LIFETIME_SECONDS},identity.floorSeconds={LIFETIME_SECONDS}"
    values = (
        life,
        f"trustDomain={TRUST_DOMAIN}",
        f"image.repository={_IMAGE}",
        f"image.tag={_TAG}",
        "image.pullPolicy=Never",
    )
    words = [f"--set={value}" for value in (*values, *more)]
    ran = cluster.helm(
        "install",
        "ringfence",
        str(CHART),
        f"--namespace={SYSTEM}",
        "--create-namespace",
        "--wait",
        "--timeout=120s",
        *words,
    )
    assert ran.returncode == 0, ran.stderr + state(cluster, SYSTEM)
    return ran.stderr


def deploy_shop(cluster: Cluster) -> None:
    """The example's plain manifests, in a namespace with the label; its image is one that the node has."""
    cluster.kubectl("create", "namespace", "shop")
    cluster.kubectl("label", "namespace", "shop", "ringfence.io/inject=enabled")
    rendered = cluster.kubectl("kustomize", str(SHOP / "kubernetes"))
    cluster.kubectl("apply", "--filename=-", given=rendered.replace("python:3.13-slim", NAME))
    cluster.kubectl("apply", f"--filename={SHOP / 'policies'}")
    wait_rolled_out(cluster, "shop")


def wait_rolled_out(cluster: Cluster, namespace: str) -> None:
    for name in cluster.kubectl("get", "deployments", f"--namespace={namespace}", "--output=name").split():
        rolled = cluster.try_kubectl("rollout", "status", f"--namespace={namespace}", name, "--timeout=90s")
        assert rolled.returncode == 0, rolled.stderr + state(cluster, namespace) + state(cluster, SYSTEM)


def call(cluster: Cluster, app: str, method: str, place: str) -> tuple[int, str]:
    """One call from an app's container of the shop: the status (0: no answer) and what was answered."""
    words = ("exec", "--namespace=shop", f"deploy/{app}", f"--container={app}", "--", "python3", "/apps/call.py")
    return answered(cluster.kubectl(*words, method, place))


def answered(printed: str) -> tuple[int, str]:
    """What call.py of the shop printed."""
    status, _, answer = printed.strip().partition(" ")
    return (int(status), answer) if status.isdigit() else (0, f"{status} {answer}")


def state(cluster: Cluster, namespace: str) -> str:
    """What a failed test wants to be told of a namespace."""
    told = [cluster.try_kubectl("get", "pods,events", f"--namespace={namespace}", "--output=wide").stdout]
    for pod in _pods(cluster, namespace):
        name = pod["metadata"]["name"]
        words = ("logs", f"--namespace={namespace}", name, "--all-containers", "--prefix", "--tail=30")
        told.append(cluster.try_kubectl(*words).stdout)
    return "\n".join(told)


def _pods(cluster: Cluster, namespace: str) -> Any:
    listed = cluster.try_kubectl("get", "pods", f"--namespace={namespace}", "--output=json")
    return json.loads(listed.stdout)["items"] if listed.returncode == 0 else []


def why(cluster: Cluster, app: str) -> str:
    """What an app's sidecar wrote of late."""
    return cluster.kubectl(*_sidecar_log(cluster, app), "--tail=200")


def issued(cluster: Cluster, app: str) -> int:
    """How many SVIDs an app's sidecar got by now."""
    lines = cluster.kubectl(*_sidecar_log(cluster, app)).splitlines()
    return sum('"msg":"identity issued"' in line for line in lines)


def _sidecar_log(cluster: Cluster, app: str) -> tuple[str, ...]:
    """Of a pod by its name: for a Deployment kubectl takes the one that was ready longest, which may be about to go."""
    return ("logs", "--namespace=shop", running_pod(cluster, app)["metadata"]["name"], "--container=ringfence-sidecar")


def running_pod(cluster: Cluster, app: str) -> Any:
    """A pod of an app of the shop that serves and is not about to go; waits for one."""
    found: list[Any] = []

    def look() -> bool:
        pods = cluster.get("pods", "--namespace=shop", f"--selector=app={app}")["items"]
        found.extend(pod for pod in pods if is_serving(pod))
        return bool(found)

    until(look, f"a pod of {app} that serves")
    return found[0]


def is_serving(pod: Any) -> bool:
    """Running, ready, and not on its way out: one that ends is ready, and listed, for a while yet."""
    status = pod["status"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    return ready and status.get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
