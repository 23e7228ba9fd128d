"""``ringfence k8s status``: from the control plane while it answers, from sidecars and pods while it does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k8s.commands import k8s
from k8s.daytwo.cluster import ClusterError, Place
from k8s.daytwo.planes import socket_words
from k8s.daytwo.waiting import pod_waits_for
from tests.fake_cluster import Answer, FakeCluster, ran

PLANE = """
kind: Pod
metadata: {name: ringfence-0, namespace: ringfence-system}
spec: {containers: [{name: main, args: [controlplane, --platform, kubernetes, --state, /var/lib/rf]}]}
status: {phase: Running}
---
kind: Deployment
metadata: {name: ringfence, namespace: ringfence-system}
spec: {template: {spec: {containers: [{name: main, args: [controlplane], image: "example/ringfence:0.2.0"}]}}}
---
"""
RUNNING = "initContainerStatuses: [{name: ringfence-sidecar, state: {running: {}}}]"


def pod(name: str, status: str = RUNNING, version: str = "0.2.0") -> str:
    return f"""
kind: Pod
metadata:
  name: {name}
  namespace: shop
  labels: {{ringfence.io/injected: "true"}}
  annotations: {{ringfence.io/status: '{{"version": "{version}"}}'}}
spec: {{initContainers: [{{name: ringfence-sidecar, image: x}}], containers: [{{name: app}}]}}
status: {{{status}, conditions: [{{type: Ready, status: "True"}}]}}
---
"""


def workload(name: str, **said: Any) -> dict[str, Any]:
    sidecar = {
        "connected": True,
        "version": "0.2.0",
        "enforced_revision": 7,
        "error": "",
        "identity": {"not_after": 4600.0},
    }
    known = {
        "service": "shop/api",
        "instance": name,
        "spiffe_id": "spiffe://x/ns/shop/sa/api",
        "revision": 7,
        "ready": True,
        "not_ready": None,
        "sidecars": [sidecar],
    }
    return known | said


def told_by_planes(*workloads: dict[str, Any]) -> Answer:
    return ran(json.dumps({"now": 1000.0, "workloads": list(workloads)}))


OWN = {
    "ready": False,
    "waiting_for": ["a snapshot"],
    "revision": 6,
    "version": "0.1.0",
    "spiffe_id": "spiffe://x/ns/shop/sa/api",
    "svid_left_seconds": 90.5,
}


def cluster_of(plane: Answer, sidecar: Answer, *manifests: str) -> FakeCluster:
    made = FakeCluster(PLANE, *manifests)

    def answers(place: Place, argv: Sequence[str]) -> Answer:
        if place.namespace == "ringfence-system":
            assert list(argv) == ["ringfence", "status", "--json", "--state", "/var/lib/rf"]
            assert place.container == "main"
            return plane
        assert list(argv) == ["ringfence", "proxy", "status", "--json"]
        return sidecar

    made.answers = answers
    return made


def run(cluster: FakeCluster, *words: str) -> Result:
    return CliRunner().invoke(k8s, ["status", *words], obj=cluster.opener)


def rows(cluster: FakeCluster, *words: str) -> dict[str, dict[str, Any]]:
    result = run(cluster, "--json", *words)
    return {one["pod"]: one for one in json.loads(result.stdout)["pods"]}


def test_the_control_plane_is_asked_and_no_sidecar() -> None:
    cluster = cluster_of(told_by_planes(workload("api-1")), ClusterError("not asked"), pod("api-1"))
    row = rows(cluster)["api-1"]
    assert (row["enforced"], row["wanted"], row["svid_left_seconds"]) == (7, 7, 3600.0)
    assert (row["ready"], row["told_by"], row["waits_for"]) == (True, "control plane", [])
    assert [place for place, _ in cluster.ran] == ["ringfence-system/ringfence-0"]
    result = run(cluster)
    assert result.exit_code == 0
    assert "shop/api-1" in result.stdout
    assert "1h" in result.stdout
    assert "1 pods in the mesh, 0 not ready, 0 behind" in result.stdout


def test_while_it_is_away_each_sidecar_tells_by_itself() -> None:
    cluster = cluster_of(ClusterError("no answer"), ran(json.dumps(OWN)), pod("api-1"), pod("api-2"))
    found = rows(cluster)
    assert {one["told_by"] for one in found.values()} == {"sidecar"}
    assert found["api-1"]["waits_for"] == ["a snapshot"]
    assert found["api-1"]["enforced"] == 6
    result = run(cluster)
    assert (result.exit_code, "no answer" in result.stderr) == (1, True)


def test_without_a_control_plane_at_all_it_still_tells() -> None:
    cluster = FakeCluster(pod("api-1"))
    cluster.answers = lambda place, argv: ran(json.dumps(OWN))
    assert rows(cluster)["api-1"]["told_by"] == "sidecar"
    assert "no control plane runs in ringfence-system" in run(cluster).stderr


def test_of_one_that_does_not_follow_both_are_asked() -> None:
    away = workload("api-1", sidecars=[], ready=False, not_ready={"reason": "never seen", "ports": []})
    cluster = cluster_of(told_by_planes(away), ran(json.dumps(OWN)), pod("api-1"))
    row = rows(cluster)["api-1"]
    assert (row["told_by"], row["ready"], row["waits_for"]) == ("control plane", False, ["a snapshot"])
    silent = cluster_of(told_by_planes(away), ClusterError("gone"), pod("api-1"))
    assert rows(silent)["api-1"]["waits_for"] == ["never seen", "a connection to the control plane"]


def test_of_two_replicas_the_one_counts_that_the_sidecar_talks_to() -> None:
    from k8s.daytwo.standing import by_planes

    there = {"now": 1000.0, "workloads": [workload("api-1")]}
    not_there = {"now": 1000.0, "workloads": [workload("api-1", sidecars=[])]}
    for order in ([there, not_there], [not_there, there]):
        assert by_planes(order)["shop", "api-1"].enforced == 7


@pytest.mark.parametrize("answer", [ran("<html>"), ran("[]"), ran("", status=2, stderr="bad"), ran("{}")])
def test_what_answers_otherwise_than_it_should_costs_no_row(answer: Answer) -> None:
    row = rows(cluster_of(answer, answer, pod("api-1")))["api-1"]
    assert row["pod"] == "api-1"


def test_pods_that_ended_or_have_no_sidecar_are_none_of_the_mesh() -> None:
    ended = pod("job-1").replace("status: {", "status: {phase: Succeeded, ")
    plain = "kind: Pod\nmetadata: {name: plain, namespace: shop}\nspec: {containers: []}"
    cluster = cluster_of(told_by_planes(), ran(json.dumps(OWN)), pod("api-1"), ended, plain)
    assert list(rows(cluster)) == ["api-1"]


def test_outdated_shows_what_a_restart_would_change() -> None:
    cluster = cluster_of(ClusterError("away"), ClusterError("away"), pod("old-1", version="0.1.0"), pod("new-1"))
    found = rows(cluster, "--outdated")
    assert [(name, one["version"], one["expected"]) for name, one in found.items()] == [("old-1", "0.1.0", "0.2.0")]
    assert run(cluster, "--outdated").exit_code == 1
    fresh = cluster_of(told_by_planes(workload("new-1")), ClusterError("away"), pod("new-1"))
    assert run(fresh, "--outdated").exit_code == 0


@pytest.mark.parametrize(
    ("status", "events", "waits"),
    [
        ("initContainerStatuses: [{name: ringfence-sidecar, state: {running: {}}}]", [], ""),
        ("phase: Pending", [], "the kubelet"),
        (
            "initContainerStatuses: [{name: ringfence-redirect, state: {terminated: {exitCode: 1}}}]",
            [],
            "the redirect: it ended with 1",
        ),
        (
            "initContainerStatuses: [{name: ringfence-sidecar, state: {waiting: {reason: ImagePullBackOff}}}]",
            [],
            "container ringfence-sidecar: ImagePullBackOff",
        ),
        (
            "phase: Pending",
            [{"reason": "FailedMount", "message": 'configmap "ringfence-trust" not found'}],
            "the ConfigMap ringfence-trust",
        ),
        ("phase: Pending", [{"reason": "Scheduled", "message": "x"}], "the kubelet"),
    ],
)
def test_what_a_pod_waits_for_is_told_by_its_own_status(status: str, events: list[Any], waits: str) -> None:
    [made] = FakeCluster(pod("api-1", status)).items
    told = pod_waits_for(made, events)
    assert told == [] if not waits else told[0].startswith(waits)


def test_a_pod_without_a_node_waits_for_one() -> None:
    unscheduled = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no  node\nfits"}]}
    assert pod_waits_for({"status": unscheduled}) == ["a node: no node fits"]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"args": ["controlplane", "--state=/x"]}, ["--state", "/x"]),
        (
            {"command": ["ringfence"], "args": ["controlplane", "--admin-socket", "/a", "--state", "/x"]},
            ["--admin-socket", "/a"],
        ),
        ({"args": ["controlplane", "--state"]}, []),
        ({}, []),
    ],
)
def test_the_socket_of_a_control_plane_is_where_its_own_command_says(container: Any, words: list[str]) -> None:
    assert socket_words(container) == words
