"""Pods that should be in the mesh and are not."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.controller.metrics import LeftOutMetrics
from k8s.objects.membership import left_out
from k8s.objects.namespaces import Namespace
from k8s.objects.pods import Container, Pod

NAMESPACES = {
    "shop": Namespace(name="shop", labels={"ringfence.io/inject": "enabled"}),
    "off": Namespace(name="off", labels={"ringfence.io/inject": "disabled"}),
    "plain": Namespace(name="plain"),
    "kube-system": Namespace(name="kube-system", labels={"ringfence.io/inject": "enabled"}),
}
SIDECAR = (Container(name="ringfence-sidecar", restarts=True),)


def count(namespace: str, **change: Any) -> int:
    label = change.pop("label", "")
    labels = {"ringfence.io/inject": label} if label else {}
    pod = Pod(namespace=namespace, name="a", phase="Running", labels=labels)
    changed = {name: getattr(pod, name) for name in pod.__dataclass_fields__} | change
    return left_out([Pod(**changed)], NAMESPACES)[namespace]


@pytest.mark.parametrize(
    ("namespace", "change", "wanted"),
    [
        ("shop", {}, 1),
        ("shop", {"init_containers": SIDECAR}, 0),
        ("shop", {"label": "disabled"}, 0),
        ("shop", {"phase": "Succeeded"}, 0),
        ("shop", {"deleting": True}, 0),
        ("shop", {"host_network": True}, 0),
        ("off", {}, 0),
        ("off", {"label": "enabled"}, 1),
        ("plain", {}, 0),
        ("plain", {"label": "enabled"}, 1),
        ("kube-system", {}, 0),
        ("unknown", {}, 0),
        # A label alone makes no member.
        ("shop", {"labels": {"ringfence.io/injected": "true"}}, 1),
    ],
)
def test_only_pods_that_should_have_one_are_counted(namespace: str, change: dict[str, Any], wanted: int) -> None:
    assert count(namespace, **change) == wanted


def test_very_many_namespaces_are_told_as_a_few() -> None:
    counts = {f"n{number}": 1 for number in range(150)} | {"worst": 9}
    (family,) = LeftOutMetrics(lambda: counts).collect()
    told = {sample.labels["namespace"]: sample.value for sample in family.samples}
    assert len(told) == 101
    assert told["worst"] == 9
    assert told["other"] == 51
