"""What Kubernetes does to workloads every day, with sidecars in their pods: restarts, jobs, probes, changed policy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.callers import load
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import Mesh, call, is_serving, state, wait_rolled_out
from tests.cluster.product_image import NAME
from tests.cluster.workloads import caller_pod

CALLS: list[tuple[str, str, object]] = [
    ("GET", "orders:8080/orders", None),
    ("POST", "orders:8080/orders", {"item": "tea", "price": 1}),
]


def test_a_rolling_restart_of_all_under_load_fails_no_call(meshed: Mesh) -> None:
    cluster = meshed.cluster
    with load(cluster, "shop", caller_pod("loads-restart", serviceAccountName="web"), CALLS) as calls:
        cluster.kubectl("rollout", "restart", "deployment", "--namespace=shop")
        wait_rolled_out(cluster, "shop")
        _wait_for_old_pods(cluster)
    assert calls.failed == []


def test_a_restart_of_the_control_plane_under_load_fails_no_call(meshed: Mesh) -> None:
    cluster = meshed.cluster
    with load(cluster, "shop", caller_pod("loads-plane", serviceAccountName="web"), CALLS) as calls:
        cluster.kubectl("rollout", "restart", "deployment", "--namespace=ringfence-system")
        wait_rolled_out(cluster, "ringfence-system")
        cluster.kubectl("rollout", "restart", "deployment/orders", "--namespace=shop")
        wait_rolled_out(cluster, "shop")
    assert calls.failed == []


def test_a_job_with_a_sidecar_completes(meshed: Mesh) -> None:
    cluster = meshed.cluster
    script = "import urllib.request as r; print(r.urlopen('http://orders:8080/healthz').read().decode())"
    cluster.apply(_job("asks-once", ["python3", "-c", script]))
    where = "--namespace=shop"
    done = cluster.try_kubectl("wait", where, "job/asks-once", "--for=condition=Complete", "--timeout=90s")
    assert done.returncode == 0, state(cluster, "shop")
    assert "well" in cluster.kubectl("logs", where, "job/asks-once", "--container=main")
    cluster.kubectl("delete", where, "job/asks-once")


@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"port": "web", "path": "/well"}},
        {"httpGet": {"port": 7001, "path": "/well", "httpHeaders": [{"name": "x-asks", "value": "kubelet"}]}},
        {"tcpSocket": {"port": 7001}},
        {"exec": {"command": ["true"]}},
    ],
    ids=["http by name", "http by number", "tcp", "exec"],
)
def test_probes_pass_under_default_deny_and_tell_when_the_app_is_ill(meshed: Mesh, probe: dict[str, Any]) -> None:
    cluster = meshed.cluster
    where = "--namespace=shop"
    app = _probed(probe)
    cluster.apply(app)
    try:
        waited = cluster.try_kubectl("wait", where, "pod/probed", "--for=condition=Ready", "--timeout=60s")
        assert waited.returncode == 0, state(cluster, "shop")
        if "exec" not in probe:
            cluster.kubectl("exec", where, "probed", "--container=app", "--", "touch", "/tmp/ill")
            cluster.kubectl("wait", where, "pod/probed", "--for=condition=Ready=false", "--timeout=60s")
    finally:
        cluster.kubectl("delete", where, "pod/probed", "--grace-period=1")


def test_a_change_of_policy_by_kubectl_ends_what_it_forbids_at_once(meshed: Mesh) -> None:
    cluster = meshed.cluster
    denylist = {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Denylist",
        "metadata": {"name": "closed", "namespace": "shop"},
        "spec": {
            "service": "orders",
            "rules": [{"name": "nobody-places", "from": ["web"], "to": {"methods": ["POST"]}}],
        },
    }
    with load(cluster, "shop", caller_pod("loads-policy", serviceAccountName="web"), CALLS) as calls:
        cluster.apply(denylist)
        until(lambda: _enforced(cluster, "closed") == "1/1", "that the denylist is enforced")
        cluster.kubectl("delete", "denylist", "closed", "--namespace=shop")
    assert calls.failed
    assert all("POST" in line and "denylisted" in line for line in calls.failed), calls.failed


def test_a_denylist_by_a_label_holds_at_the_pod_that_has_it_and_at_no_other(meshed: Mesh) -> None:
    cluster, where = meshed.cluster, "--namespace=shop"
    denylist = {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Denylist",
        "metadata": {"name": "labelled", "namespace": "shop"},
        "spec": {"labels": {"data": "pii"}, "rules": [{"name": "nobody-asks", "from": ["web"]}]},
    }
    cluster.kubectl("scale", where, "deploy/orders", "--replicas=2")
    try:
        wait_rolled_out(cluster, "shop")
        pods = [one for one in cluster.get("pods", where, "--selector=app=orders")["items"] if is_serving(one)]
        labelled, other = (one["status"]["podIP"] for one in pods)
        for address in (labelled, other):
            assert call(cluster, "web", "GET", f"{address}:8080/orders")[0] == 200
        cluster.apply(denylist)
        cluster.kubectl("label", where, "pod", pods[0]["metadata"]["name"], "data=pii")
        until(lambda: _enforced(cluster, "labelled") == "1/1", "that the denylist is enforced at the one pod")
        status, answer = call(cluster, "web", "GET", f"{labelled}:8080/orders")
        assert (status, "denylisted" in answer) == (403, True), answer
        assert call(cluster, "web", "GET", f"{other}:8080/orders")[0] == 200
    finally:
        cluster.try_kubectl("delete", "denylist", "labelled", where)
        cluster.kubectl("scale", where, "deploy/orders", "--replicas=1")
        _wait_for_old_pods(cluster)


def _enforced(cluster: Cluster, name: str) -> str:
    document = cluster.get("denylist", name, "--namespace=shop")
    return str(document.get("status", {}).get("enforced", ""))


def _wait_for_old_pods(cluster: Cluster) -> None:
    def deleting() -> list[str]:
        pods = cluster.get("pods", "--namespace=shop")["items"]
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]

    until(lambda: not deleting(), "the end of the old pods")


def _job(name: str, command: list[str]) -> dict[str, Any]:
    main = {"name": "main", "image": NAME, "imagePullPolicy": "Never", "command": command}
    main["securityContext"] = {"runAsUser": 1000}  # type: ignore[assignment]
    template = {"spec": {"containers": [main], "restartPolicy": "Never", "serviceAccountName": "web"}}
    metadata = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"template": template, "backoffLimit": 0},
    }


def _probed(probe: dict[str, Any]) -> dict[str, Any]:
    """A pod whose app serves on its own address until it is told that it is ill; then it takes no connection."""
    script = """
import http.server, os, threading, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/well" else 404)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 7001), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
while not os.path.exists("/tmp/ill"):
    time.sleep(0.1)
server.shutdown()
server.server_close()
time.sleep(1000)
"""
    timing = {"periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 2}
    container = {
        "name": "app",
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", script],
        "ports": [{"name": "web", "containerPort": 7001}],
        "startupProbe": {**probe, **timing, "failureThreshold": 30},
        "readinessProbe": {**probe, **timing},
        "livenessProbe": {**probe, **timing, "failureThreshold": 1000},
        "securityContext": {"runAsUser": 1000},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probed", "namespace": "shop"}, "spec": spec}
