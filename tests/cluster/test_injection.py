"""The webhook as a real API server asks it: odd pods, many at once, trial runs, and refusals where people look."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s.objects import names
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import Mesh
from tests.cluster.node import SANDBOX_IMAGE
from tests.golden_pods import GOLDEN, SERVED_OTHERWISE, WRONG, container, labelled, pod

_MANY = 200


@pytest.fixture
def place(meshed: Mesh, request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, str]]:
    """A cluster with the mesh, and a namespace in it for one test."""
    cluster = meshed.cluster
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    cluster.make_namespace(name, {names.INJECT: names.ENABLED})
    yield cluster, name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def named(made: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    metadata = {**made.get("metadata", {}), "name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **made, "metadata": metadata}


def tried(cluster: Cluster, *pods: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What the API server would have made of the pods, and what it complains of."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    words = ("create", "--dry-run=server", "--filename=-", "--output=json", "--validate=false")
    ran = cluster.try_kubectl(*words, given=listed)
    served, text, decoder = [], ran.stdout.strip(), json.JSONDecoder()
    while text:  # one object behind the other
        found, end = decoder.raw_decode(text)
        served.append(found)
        text = text[end:].lstrip()
    return served, ran.stderr


def has_sidecar(made: dict[str, Any]) -> bool:
    return names.SIDECAR_CONTAINER in [one["name"] for one in made["spec"].get("initContainers", ())]


def events(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.get("events", f"--namespace={namespace}")["items"]
    return [one for one in found if one["reason"] == "InjectionDenied"]


def test_pods_of_every_odd_kind_come_out_with_a_sidecar(place: tuple[Cluster, str]) -> None:
    cluster, namespace = place
    wanted = sorted(GOLDEN.keys() - SERVED_OTHERWISE)
    served, complaints = tried(cluster, *(named(GOLDEN[name].pod, name, namespace) for name in wanted))
    assert [one["metadata"]["name"] for one in served] == wanted, complaints
    assert all(map(has_sidecar, served))
    for golden in GOLDEN.values():
        assert not golden.warned or golden.warned.split(":")[0] in complaints


def test_what_cannot_be_in_the_mesh_is_refused_in_our_words(place: tuple[Cluster, str]) -> None:
    cluster, namespace = place
    for name in (
        "host-network",
        "mounts-ringfence-token",
        "port-15001",
        "unknown-annotation",
        "shared-processes-with-root",
        "shared-processes-with-setuid-programs",
    ):
        served, complaints = tried(cluster, named(WRONG[name].pod, name, namespace))
        assert not served and "denied the request" in complaints
        for part in WRONG[name].told:
            assert part in complaints
    # A trial leaves no trace.
    assert events(cluster, namespace) == []


def test_a_refused_pod_of_a_deployment_is_told_on_its_owner(place: tuple[Cluster, str]) -> None:
    cluster, namespace = place
    labels = {"app": "stubborn"}
    spec = {**pod(hostNetwork=True)["spec"]}
    template = {"metadata": {"labels": labels}, "spec": spec}
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "stubborn", "namespace": namespace},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        }
    )
    until(lambda: events(cluster, namespace), "an event")
    event = events(cluster, namespace)[0]
    assert event["involvedObject"]["kind"] == "ReplicaSet" and "spec.hostNetwork" in event["message"]
    assert cluster.get("pods", f"--namespace={namespace}")["items"] == []


def test_a_pod_chooses_for_itself_against_its_namespace(place: tuple[Cluster, str]) -> None:
    cluster, namespace = place
    served, _ = tried(
        cluster,
        named(labelled(pod(), inject="disabled"), "out", namespace),
        named(labelled(pod(), inject="enabled"), "in", "default"),
        named(pod(), "neither", "default"),
        named(pod(), "of-the-cluster", "kube-system"),
    )
    assert {one["metadata"]["name"]: has_sidecar(one) for one in served} == {
        "out": False,
        "in": True,
        "neither": False,
        "of-the-cluster": False,
    }
    _, complaints = tried(cluster, named(labelled(pod(), inject="yes"), "unclear", "default"))
    assert "label ringfence.io/inject: 'yes' is unknown" in complaints


def test_who_debugs_a_pod_does_not_do_it_as_the_sidecar(place: tuple[Cluster, str], tmp_path: Path) -> None:
    cluster, namespace = place
    spec = {"containers": [{**container(), "image": SANDBOX_IMAGE}], "nodeSelector": {"ringfence.io/nowhere": "true"}}
    for name, label in (("app", names.ENABLED), ("outside", names.DISABLED)):
        cluster.apply(named({**labelled({"metadata": {}}, inject=label), "spec": spec}, name, namespace))
    custom = tmp_path / "custom.json"

    def debug(name: str, mounts: str = "", **security: int) -> str:
        volumes = [{"name": mounts, "mountPath": "/stolen"}] if mounts else []
        custom.write_text(json.dumps({"securityContext": security, "volumeMounts": volumes}))
        words = ("debug", name, f"--namespace={namespace}", "--profile=general", "--attach=false")
        return cluster.try_kubectl(*words, f"--image={SANDBOX_IMAGE}", f"--custom={custom}").stderr

    sidecar = cluster.get("pod", "app", f"--namespace={namespace}")["spec"]["initContainers"][-1]
    assert sidecar["name"] == names.SIDECAR_CONTAINER
    user, group = (sidecar["securityContext"][key] for key in ("runAsUser", "runAsGroup"))
    assert user >= 20_000 and group >= 20_000
    for security in ({"runAsUser": user}, {"runAsUser": 1, "runAsGroup": group}):
        assert "are the sidecar's own (debug as another" in debug("app", **security)
        assert "denied" not in debug("outside", **security)
    for volume in (names.STATE_VOLUME, names.TOKEN_VOLUME):
        assert "hold the sidecar's keys (debug without" in debug("app", volume, runAsUser=15101)
    assert "denied" not in debug("app", runAsUser=15101, runAsGroup=15101)
    added = cluster.get("pod", "app", f"--namespace={namespace}")["spec"]["ephemeralContainers"]
    assert [one["securityContext"]["runAsUser"] for one in added] == [15101]


def test_what_was_injected_offline_stays_as_it_is(place: tuple[Cluster, str]) -> None:
    cluster, namespace = place
    online = tried(cluster, named(GOLDEN["every-probe"].pod, "app", namespace))[0][0]
    image = next(one["image"] for one in online["spec"]["initContainers"])
    words = [sys.executable, "-m", "ringfence", "k8s", "inject", "--filename=-", "--trust-domain=shop.example"]
    done = subprocess.run(
        [*words, f"--image={image}", "--json"],
        input=json.dumps(named(GOLDEN["every-probe"].pod, "app", namespace)),
        capture_output=True,
        text=True,
        check=True,
    )
    offline = json.loads(done.stdout)["documents"][0]
    again, complaints = tried(cluster, offline)
    assert not complaints
    drawn = [_account_taken(one) for one in (online, again[0], offline)]
    assert drawn[1] == drawn[2] != drawn[0], "what was drawn offline is kept"
    for one in (online, again[0]):
        for key in ("uid", "creationTimestamp", "managedFields"):
            one["metadata"].pop(key, None)
        for volume in one["spec"]["volumes"]:
            volume["name"] = "kube-api-access" if volume["name"].startswith("kube-api-access") else volume["name"]
        for each in (*one["spec"]["initContainers"], *one["spec"]["containers"]):
            each.pop("imagePullPolicy", None)  # the chart's own choice
            for mount in each["volumeMounts"]:
                mount["name"] = "kube-api-access" if mount["name"].startswith("kube-api-access") else mount["name"]
    assert again[0] == online


def _account_taken(of: dict[str, Any]) -> list[Any]:
    """What was drawn for this pod, and is another in each, taken from it: the sidecar's user and group."""
    redirect, sidecar = of["spec"]["initContainers"][:2]
    args, redirect["args"][2:6] = redirect["args"][2:6], []
    drawn = [sidecar["securityContext"].pop(key) for key in ("runAsUser", "runAsGroup")]
    assert args == ["--sidecar-uid", str(drawn[0]), "--sidecar-gid", str(drawn[1])]
    return drawn


def test_two_hundred_pods_at_once_are_each_in_the_mesh(place: tuple[Cluster, str]) -> None:
    cluster, namespace = place
    labels = {"app": "crowd"}
    # Nowhere to run: what is shown here is that none is let in without a sidecar.
    spec = {"containers": [{**container(), "image": SANDBOX_IMAGE}], "nodeSelector": {"ringfence.io/nowhere": "true"}}
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": "crowd", "namespace": namespace},
            "spec": {
                "replicas": _MANY,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
    )

    def crowd() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cluster.get("pods", f"--namespace={namespace}")["items"]
        return found

    until(lambda: len(crowd()) == _MANY, f"{_MANY} pods", 120)
    assert all(map(has_sidecar, crowd())) and events(cluster, namespace) == []
    failed = [
        line
        for line in cluster.kubectl("get", "--raw=/metrics").splitlines()
        if line.startswith("apiserver_admission_webhook_fail_open_count") and "inject" in line
    ]
    assert failed == []
