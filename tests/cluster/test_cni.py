"""The CNI plugin on a node: a namespace at Pod Security `restricted` is in the mesh, and no pod starts outside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s.manifests.render import CHART
from k8s.objects import names
from tests.cluster.cluster import Cluster, Settings, running
from tests.cluster.machine import until
from tests.cluster.product_image import NAME

_IMAGE, _, _TAG = NAME.rpartition(":")
_NAMESPACE = "tight"
_BINDING = "ringfence-cni"
_DIAL = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(s.recv(20).decode() or "ended")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def tight(programs: Path, image: Path) -> Iterator[Cluster]:
    """A cluster whose chart brings the plugin, with a meshed namespace at `restricted`."""
    with running(Settings(programs=programs, images=(image,))) as cluster:
        node = cluster.first.folder
        values = (
            "trustDomain=shop.example",
            f"image.repository={_IMAGE},image.tag={_TAG},image.pullPolicy=Never",
            "persistence.type=emptyDir,cni.enabled=true",
            f"cni.binDir={node}/cni-bin,cni.confDir={node}/cni,cni.rootDir={node}/cni-roots",
        )
        helm(cluster, "install", "ringfence", str(CHART), *(f"--set={value}" for value in values))
        rollout = ("rollout", "status", "daemonset/ringfence-cni", "--namespace=kube-system", "--timeout=120s")
        cluster.kubectl(*rollout, seconds=180)
        until(lambda: plugins(cluster)[-1]["type"] == "ringfence-cni", "the plugin in the node's list")
        cluster.kubectl("create", "namespace", _NAMESPACE)
        labels = (f"{names.INJECT}={names.ENABLED}", "pod-security.kubernetes.io/enforce=restricted")
        cluster.kubectl("label", "namespace", _NAMESPACE, *labels)
        yield cluster


def helm(cluster: Cluster, *words: str) -> None:
    where = ("--namespace=ringfence-system", "--create-namespace", "--wait", "--timeout=180s")
    ran = cluster.helm(*words, *where)
    assert ran.returncode == 0, ran.stderr


def plugins(cluster: Cluster) -> list[dict[str, Any]]:
    """The node's list."""
    found: list[dict[str, Any]] = json.loads(_list(cluster).read_text())["plugins"]
    return found


def _list(cluster: Cluster) -> Path:
    return cluster.first.folder / "cni" / "10-pods.conflist"


def start(cluster: Cluster, name: str, *command: str, namespace: str = _NAMESPACE) -> None:
    """A pod that `restricted` takes as it is; nothing of the mesh is in it."""
    container = {
        "name": "app",
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": list(command or ("sleep", "100000")),
        "ports": [{"name": "http", "containerPort": 8080}],
        "securityContext": {
            "runAsUser": 2000,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if command:
        container["readinessProbe"] = {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 1}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec})


def ready(cluster: Cluster, name: str, namespace: str = _NAMESPACE) -> bool:
    status = cluster.get("pod", name, f"--namespace={namespace}")["status"]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))


def address(cluster: Cluster, name: str, namespace: str = _NAMESPACE) -> str:
    found: str = cluster.get("pod", name, f"--namespace={namespace}")["status"]["podIP"]
    return found


def complaints(cluster: Cluster, name: str) -> str:
    words = ("events", f"--namespace={_NAMESPACE}", f"--field-selector=involvedObject.name={name}")
    return "\n".join(one["message"] for one in cluster.get(*words)["items"])


def test_a_restricted_namespace_is_in_the_mesh_without_a_capability(tight: Cluster) -> None:
    start(tight, "server", "python3", "-m", "http.server", "8080", "--directory", "/usr/share")
    start(tight, "outside", "python3", "-m", "http.server", "8080", "--directory", "/usr/share", namespace="default")
    start(tight, "client")
    for name, namespace in (("server", _NAMESPACE), ("client", _NAMESPACE), ("outside", "default")):
        until(lambda name=name, namespace=namespace: ready(tight, name, namespace), f"pod {name}", 120)
    spec = tight.get("pod", "server", f"--namespace={_NAMESPACE}")["spec"]
    assert [one["name"] for one in spec["initContainers"]] == [names.SIDECAR_CONTAINER]
    for one in (*spec["initContainers"], *spec["containers"]):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    # In the clear from outside: refused by the sidecar. The kubelet's probe went through, or it were not ready.
    def dial(name: str, to: str, namespace: str) -> str:
        words = ("exec", name, f"--namespace={namespace}", "--container=app", "--", "python3", "-c", _DIAL)
        return tight.kubectl(*words, to, "8080").strip()

    assert "200" not in dial("outside", address(tight, "server"), "default")
    # To the outside from within: the app's own call, which no rule permits, is the sidecar's to end.
    assert "200" in dial("outside", address(tight, "outside", "default"), "default")
    assert "200" not in dial("client", address(tight, "outside", "default"), _NAMESPACE)


def test_a_pod_of_which_nobody_can_say_what_it_is_does_not_start(tight: Cluster) -> None:
    binding = tight.get("clusterrolebinding", _BINDING)
    tight.kubectl("delete", "clusterrolebinding", _BINDING)
    try:
        start(tight, "early")
        until(lambda: "the API server refuses ringfence-cni by 403" in complaints(tight, "early"), "a reason")
        status = tight.get("pod", "early", f"--namespace={_NAMESPACE}")["status"]
        assert not any("running" in one["state"] for one in status.get("initContainerStatuses", ()))
    finally:
        kept = {
            key: binding["metadata"][key] for key in ("name", "labels", "annotations") if key in binding["metadata"]
        }
        tight.apply({**binding, "metadata": kept})
    until(lambda: ready(tight, "early"), "the pod, once it is known", 120)


def test_a_pod_that_came_before_the_plugin_is_never_ready_and_the_list_is_put_right(tight: Cluster) -> None:
    listed = json.loads(_list(tight).read_text())
    stale = {**listed, "plugins": [one for one in listed["plugins"] if one["type"] != "ringfence-cni"]}
    stop_installer(tight)
    part = _list(tight).with_name(".part")
    part.write_text(json.dumps(stale))
    part.replace(_list(tight))
    start(tight, "unguarded")
    said = lambda: tight.try_kubectl("logs", "unguarded", f"--namespace={_NAMESPACE}", "--container=ringfence-sidecar")  # noqa: E731
    until(lambda: "redirect" in said().stdout, "the sidecar's word about it", 120)
    assert not ready(tight, "unguarded")
    status = tight.get("pod", "unguarded", f"--namespace={_NAMESPACE}")["status"]
    assert not any("running" in one["state"] for one in status["containerStatuses"]), "the app runs outside the mesh"

    start_installer(tight)
    until(lambda: plugins(tight)[-1]["type"] == "ringfence-cni", "the plugin in the node's list", 120)
    tight.kubectl("delete", "pod", "unguarded", f"--namespace={_NAMESPACE}", seconds=120)
    start(tight, "unguarded")
    until(lambda: ready(tight, "unguarded"), "the pod, behind the plugin", 120)


def stop_installer(cluster: Cluster) -> None:
    """So that it does not put the list right at once."""
    patch = {"spec": {"template": {"spec": {"nodeSelector": {"ringfence.io/nowhere": "true"}}}}}
    words = ("patch", "daemonset", "ringfence-cni", "--namespace=kube-system")
    cluster.kubectl(*words, f"--patch={json.dumps(patch)}")
    until(lambda: not _installers(cluster), "the end of the installer")


def start_installer(cluster: Cluster) -> None:
    patch = {"spec": {"template": {"spec": {"nodeSelector": {"ringfence.io/nowhere": None}}}}}
    words = ("patch", "daemonset", "ringfence-cni", "--namespace=kube-system")
    cluster.kubectl(*words, f"--patch={json.dumps(patch)}")


def _installers(cluster: Cluster) -> list[Any]:
    words = ("pods", "--namespace=kube-system", "--selector=app.kubernetes.io/component=cni")
    return list(cluster.get(*words)["items"])


def test_the_chart_takes_it_away_again(tight: Cluster) -> None:
    tight.kubectl("delete", "pods", "--all", f"--namespace={_NAMESPACE}", seconds=120)
    helm(tight, "upgrade", "ringfence", str(CHART), "--reuse-values", "--set=cni.remove=true")
    until(lambda: [one["type"] for one in plugins(tight)] == ["bridge", "portmap"], "the node's own list", 120)
    until(lambda: not any((tight.first.folder / "cni-bin").iterdir()), "the end of the script")
    start(tight, "afterwards", namespace="default")
    until(lambda: ready(tight, "afterwards", "default"), "a pod of no mesh", 120)
