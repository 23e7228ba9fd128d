"""What breaks in a cluster, under load: no call is lost that need not be, and nothing runs unenforced meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.cluster.callers import caller, load
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import SYSTEM, Mesh, call, issued, running_pod, wait_rolled_out
from tests.cluster.test_lifecycle import CALLS
from tests.cluster.workloads import caller_pod


def test_identities_are_renewed_under_load_over_a_restart_of_the_control_plane(meshed: Mesh) -> None:
    cluster = meshed.cluster
    apps = ("web", "orders", "payments", "ledger")
    with load(cluster, "shop", caller_pod("loads-renewal", serviceAccountName="web"), CALLS) as calls:
        before = {app: issued(cluster, app) for app in apps}
        until(lambda: all(issued(cluster, app) > before[app] for app in apps), "the first renewals", 180)
        cluster.kubectl("rollout", "restart", "deployment/ringfence", f"--namespace={SYSTEM}")
        wait_rolled_out(cluster, SYSTEM)
        between = {app: issued(cluster, app) for app in apps}
        until(lambda: all(issued(cluster, app) > between[app] for app in apps), "the next renewals", 180)
    assert calls.failed == []


@pytest.mark.parametrize("program", ["kube-apiserver", "etcd"])
def test_calls_go_on_without_the_api_server_and_changes_arrive_after_it(meshed: Mesh, program: str) -> None:
    cluster = meshed.cluster
    if not cluster.nodes:
        pytest.skip("a cluster of another process keeps its programs to itself")
    with load(cluster, "shop", caller_pod(f"loads-{program}", serviceAccountName="web"), CALLS) as calls:
        cluster.daemon(program).stop()
        cluster.again(program)
        calls.more()
        cluster.kubectl("rollout", "restart", "deployment/orders", "--namespace=shop")
        wait_rolled_out(cluster, "shop")
    assert calls.failed == []


def test_no_pod_of_a_meshed_namespace_starts_without_the_control_plane(meshed: Mesh) -> None:
    cluster = meshed.cluster
    system = ("deployment/ringfence", f"--namespace={SYSTEM}")
    where = "--namespace=shop"
    cluster.kubectl("scale", *system, "--replicas=0")
    cluster.kubectl(
        "wait",
        f"--namespace={SYSTEM}",
        "pod",
        "--selector=app.kubernetes.io/component=control-plane",
        "--for=delete",
        "--timeout=60s",
    )
    try:
        refused = cluster.try_kubectl("run", "too-early", where, "--image=localhost/ringfence:test")
        assert refused.returncode != 0
        assert "inject.ringfence.io" in refused.stderr
        cluster.kubectl("rollout", "restart", "deployment/payments", where)
        assert call(cluster, "web", "GET", "orders:8080/orders")[0] == 200
    finally:
        cluster.kubectl("scale", *system, "--replicas=1")
    wait_rolled_out(cluster, SYSTEM)
    wait_rolled_out(cluster, "shop")
    assert call(cluster, "orders", "GET", "payments:8080/payments/1")[0] in (200, 404)


def test_a_killed_sidecar_comes_back_and_nothing_leaks_meanwhile(meshed: Mesh) -> None:
    cluster = meshed.cluster
    pod = running_pod(cluster, "orders")
    name, address = pod["metadata"]["name"], pod["status"]["podIP"]
    restarts = _restarts(cluster, name)
    with caller(cluster, "default", caller_pod("tries-meanwhile")) as outside:
        _kill_sidecar(name)

        def back() -> bool:
            assert outside("GET", f"{address}:8080/orders")[0] == 0
            return _restarts(cluster, name) > restarts and call(cluster, "web", "GET", "orders:8080/orders")[0] == 200

        until(back, "that the sidecar is back")


def _restarts(cluster: Cluster, name: str) -> int:
    told = cluster.get("pod", name, "--namespace=shop")["status"]["initContainerStatuses"]
    return sum(int(one["restartCount"]) for one in told if one["name"] == "ringfence-sidecar")


def _kill_sidecar(pod: str) -> None:
    """As the node's memory running out would."""
    needle = f"RINGFENCE_SIDECAR_INSTANCE={pod}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
