"""The shop, deployed by plain manifests, in a real cluster: who gets through, who does not and why, and what is seen on
the wire."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster import sniffing
from tests.cluster.callers import caller
from tests.cluster.cluster import Cluster, network_words
from tests.cluster.machine import until
from tests.cluster.mesh import Mesh, call, running_pod, why
from tests.cluster.workloads import caller_pod

EVERY_CALL = [
    ("web", "GET", "orders:8080/orders", 200, "spiffe://shop.example/ns/shop/sa/web"),
    ("web", "GET", "orders:8080/orders/1", 200, "tea"),
    ("web", "GET", "orders.shop.svc.cluster.local:8080/healthz", 200, "well"),
    ("ledger", "GET", "orders:8080/healthz", 200, "well"),
    ("web", "DELETE", "orders:8080/orders/1", 403, "method_not_allowed"),
    ("web", "GET", "orders:8080/admin", 403, "path_not_allowed"),
    ("web", "GET", "orders:8080/orders/../admin", 403, "path_ambiguous"),
    ("ledger", "GET", "orders:8080/orders", 403, "path_not_allowed"),
    ("web", "GET", "payments:8080/payments", 403, "caller_not_allowed"),
    ("web", "GET", "ledger:7000/", 0, "no answer"),
    ("web", "GET", "web:8080/", 403, "caller_not_allowed"),
]


def test_the_chart_is_installed_without_a_complaint(meshed: Mesh) -> None:
    assert meshed.complaints == ""


@pytest.mark.parametrize(("app", "method", "place", "status", "words"), EVERY_CALL)
def test_a_call_passes_or_is_refused_with_its_reason(
    meshed: Mesh, app: str, method: str, place: str, status: int, words: str
) -> None:
    got, answer = call(meshed.cluster, app, method, place)
    assert (got, words in answer) == (status, True), answer


def test_an_order_goes_through_all_four_services(meshed: Mesh) -> None:
    script = (
        "import json, urllib.request as r; print(r.urlopen(r.Request('http://127.0.0.1:8080/checkout',"
        "data=json.dumps({'item': 'tea'}).encode(), method='POST')).read().decode())"
    )
    answered = json.loads(_in_app(meshed.cluster, "web", "python3", "-c", script))
    assert answered["item"] == "tea"
    assert "OK" in str(answered["balance"]) or int(answered["balance"]) > 0


def test_a_pod_outside_the_mesh_is_refused_in_plaintext(meshed: Mesh) -> None:
    cluster = meshed.cluster
    with caller(cluster, "default", caller_pod("outside")) as outside:
        address = _address_of(cluster, "orders")
        for place in (f"{address}:8080/orders", "orders.shop:8080/orders", f"{address}:15008/"):
            assert outside("GET", place)[0] == 0, place
    assert "plaintext_refused" in why(cluster, "orders")


def test_an_account_that_no_rule_names_is_refused_by_its_identity(meshed: Mesh) -> None:
    cluster = meshed.cluster
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger", "namespace": "shop"}})
    with caller(cluster, "shop", caller_pod("stranger", serviceAccountName="stranger")) as stranger:
        status, answer = stranger("GET", "orders:8080/orders")
        assert (status, "path_not_allowed" in answer) == (403, True), answer
        status, answer = stranger("GET", "payments:8080/payments")
        assert (status, "caller_not_allowed" in answer) == (403, True), answer


def test_a_pod_with_a_name_longer_than_a_label_is_in_the_mesh(meshed: Mesh) -> None:
    name = f"long-{'x' * 80}"
    with caller(meshed.cluster, "shop", caller_pod(name, serviceAccountName="web")) as call_from:
        assert call_from("GET", "orders:8080/orders")[0] == 200


def test_no_plaintext_of_a_call_crosses_an_interface_of_the_node(meshed: Mesh) -> None:
    cluster = meshed.cluster
    meshed_mark, open_mark = (f"mark{uuid.uuid4().hex}" for _ in range(2))
    with caller(cluster, "default", caller_pod("outside-too")) as outside:
        with sniffed(cluster, meshed_mark, open_mark) as frames:
            assert call(cluster, "web", "GET", f"orders:8080/orders?{meshed_mark}")[0] == 200
            outside("GET", f"{_address_of(cluster, 'web')}:8080/{open_mark}")
        seen = [mark for frame in frames for mark in frame["marks"]]
        assert open_mark in seen  # what is sent in the open is seen
        assert meshed_mark not in seen
        assert any(sniffing.MESH_PORT in frame["ports"] for frame in frames)


def test_each_document_says_that_it_is_in_force_everywhere(meshed: Mesh) -> None:
    def told() -> dict[str, tuple[str, str]]:
        return {
            one["metadata"]["name"]: _standing(one) for one in meshed.cluster.get("allowlists", "-n", "shop")["items"]
        }

    until(lambda: set(told().values()) == {("True", "1/1")}, f"that all is in force, not {told()}")
    assert set(told()) >= {"ledger-callers", "orders-callers", "payments-callers"}


def test_a_wrong_document_is_refused_with_the_mend(meshed: Mesh) -> None:
    refused = _apply(meshed.cluster, {"service": "orders", "rules": [_rule({"paths": ["/orders/../admin"]})]})
    assert refused.returncode != 0
    assert "spec.rules[0].to.paths[0]" in refused.stderr
    assert "dot segments" in refused.stderr


def test_what_is_only_doubtful_is_taken_with_a_warning(meshed: Mesh) -> None:
    taken = _apply(meshed.cluster, {"service": "ledger", "rules": [_rule({"methods": ["GET"]})]})
    meshed.cluster.kubectl("delete", "allowlist", "tried", "--namespace=shop")
    assert "Warning: " in taken.stderr
    assert "remove methods from the rule" in taken.stderr


def _rule(to: dict[str, Any]) -> dict[str, Any]:
    return {"name": "one", "from": ["web"], "to": to}


def _apply(cluster: Cluster, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    metadata = {"name": "tried", "namespace": "shop"}
    document = {"apiVersion": "ringfence.io/v1alpha1", "kind": "Allowlist", "metadata": metadata, "spec": spec}
    return cluster.try_kubectl("apply", "--filename=-", given=json.dumps(document))


def _standing(document: Any) -> tuple[str, str]:
    status = document.get("status", {})
    accepted = [one["status"] for one in status.get("conditions", []) if one["type"] == "Accepted"]
    return "".join(accepted), status.get("enforced", "")


def _address_of(cluster: Cluster, app: str) -> str:
    address: str = running_pod(cluster, app)["status"]["podIP"]
    return address


def _in_app(cluster: Cluster, app: str, *words: str) -> str:
    return cluster.kubectl("exec", "--namespace=shop", f"deploy/{app}", f"--container={app}", "--", *words)


@contextmanager
def sniffed(cluster: Cluster, *marks: str) -> Iterator[list[Any]]:
    """What crosses the first node's interfaces during the block, in the list when it is over."""
    frames: list[Any] = []
    argv = [*network_words(cluster.name), sys.executable, sniffing.__file__, *marks]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert json.loads(program.stdout.readline()) == {"listening": True}
        yield frames
        program.stdin.close()
        frames.extend(json.loads(line) for line in program.stdout)
