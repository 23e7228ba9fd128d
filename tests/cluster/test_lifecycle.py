"""What Kubernetes does to workloads every day, with sidecars in their pods: restarts, jobs, changed policy."""

from __future__ import annotations

from typing import Any

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
        calls.more()
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
