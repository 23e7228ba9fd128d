"""What is read of pods and namespaces, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.objects import names
from k8s.objects.fields import MalformedObjectError
from k8s.objects.namespaces import read_namespace
from k8s.objects.pods import Container, ContainerPort, Owner, read_pod


def _served() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "orders-7d9-x2x",
            "namespace": "shop",
            "uid": "u-1",
            "labels": {"app": "orders"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "0"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders-7d9", "uid": "u-0", "controller": True},
            ],
        },
        "spec": {
            "nodeName": "node1",
            "serviceAccountName": "orders",
            "initContainers": [
                {"name": "first", "image": "a", "ports": [{"containerPort": 1}]},
                {"name": "beside", "image": "b", "restartPolicy": "Always", "ports": [{"containerPort": 2}]},
            ],
            "containers": [
                {"name": "app", "image": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.5",
            "podIPs": [{"ip": "10.0.0.5"}, {"ip": "fd00::5"}],
            "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
        },
    }


def test_a_running_pod_is_read() -> None:
    pod = read_pod(_served())
    assert (pod.namespace, pod.name, pod.uid, pod.service_account, pod.node) == (
        "shop",
        "orders-7d9-x2x",
        "u-1",
        "orders",
        "node1",
    )
    assert pod.addresses == ("10.0.0.5", "fd00::5")
    assert pod.ready and not pod.deleting and not pod.ended and not pod.meshed
    assert pod.owner == Owner(api_version="apps/v1", kind="ReplicaSet", name="orders-7d9", uid="u-0")
    assert pod.containers == (Container(name="app", ports=(ContainerPort(name="http", port=8080),)),)


def test_only_containers_that_run_on_listen() -> None:
    assert [port.port for port in read_pod(_served()).ports()] == [8080, 2]


def test_a_pod_is_meshed_by_its_container_and_not_by_a_label() -> None:
    served = _served()
    served["metadata"]["labels"][names.INJECTED] = names.TRUE
    assert not read_pod(served).meshed
    served["spec"]["initContainers"].append({"name": names.SIDECAR_CONTAINER, "restartPolicy": "Always"})
    assert read_pod(served).meshed
    served["spec"]["hostNetwork"] = True
    assert not read_pod(served).meshed


def test_a_pod_just_made_has_what_the_api_gives_in_the_end() -> None:
    pod = read_pod({"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [{"name": "c"}]}})
    assert (pod.service_account, pod.addresses, pod.ready, pod.owner) == ("default", (), False, None)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"metadata": []}, "metadata: not an object"),
        ({"metadata": {"name": 7}}, "metadata.name: not text"),
        ({"metadata": {"labels": {"a": True}}}, "metadata.labels.a: not text"),
        ({"metadata": {"labels": {"a\x7f\n": True}}}, r"metadata.labels.a\x7f\n: not text"),
        ({"spec": {"containers": {}}}, "spec.containers: not a list"),
        ({"spec": {"containers": ["x"]}}, "spec.containers[0]: not an object"),
        ({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}, "spec.containers[0].ports[0].containerPort"),
        ({"spec": {"containers": [{"ports": [{"containerPort": True}]}]}}, "containerPort: not a whole number"),
        ({"spec": {"hostNetwork": "true"}}, "spec.hostNetwork: not true or false"),
        ({"status": {"conditions": [{"type": None, "status": 1}]}}, None),
    ],
)
def test_a_pod_of_another_shape_is_refused_where_it_is_wrong(document: dict[str, Any], told: str | None) -> None:
    if told is None:
        assert not read_pod(document).ready
        return
    with pytest.raises(MalformedObjectError) as caught:
        read_pod(document)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_namespace_is_read() -> None:
    namespace = read_namespace({"metadata": {"name": "shop", "labels": {names.INJECT: names.ENABLED}}})
    assert namespace.name == "shop" and namespace.labels[names.INJECT] == "enabled" and namespace.annotations == {}
