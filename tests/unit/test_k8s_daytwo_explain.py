"""``ringfence k8s explain``: may A call B, from what the API server has written."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from k8s.commands import k8s
from tests.fake_cluster import FakeCluster

POD = """
kind: Pod
metadata: {name: NAME-1, namespace: shop, uid: NAME, labels: {app: NAME, ringfence.io/injected: "true"}}
spec:
  serviceAccountName: NAME
  initContainers:
    - name: ringfence-sidecar
      image: s
      env: [{name: RINGFENCE_SIDECAR_SPIFFE_ID, value: "spiffe://x.example/ns/shop/sa/NAME"}]
  containers: [{name: app, image: a, ports: [{containerPort: 8080}]}]
status:
  phase: Running
  podIP: 10.0.0.NUMBER
  podIPs: [{ip: 10.0.0.NUMBER}]
  conditions: [{type: Ready, status: "True"}]
---
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  selector: {app: NAME}
  clusterIP: 10.1.0.NUMBER
  clusterIPs: [10.1.0.NUMBER]
  ports: [{name: http, port: 80, targetPort: 8080}]
---
"""
ALLOWLIST = """
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: orders-callers, namespace: shop, resourceVersion: "5", managedFields: []}
spec: {service: orders, rules: [{name: web-reads, from: [web], to: {methods: [GET]}}]}
status: {enforced: 1/1}
---
"""


def world(*more: str) -> FakeCluster:
    pods = [
        POD.replace("NAME", name).replace("NUMBER", str(number)) for number, name in enumerate(("web", "orders"), 2)
    ]
    return FakeCluster("kind: Namespace\nmetadata: {name: shop, labels: {ringfence.io/inject: enabled}}", *pods, *more)


def run(cluster: FakeCluster, *words: str) -> Result:
    return CliRunner().invoke(k8s, ["explain", *words], obj=cluster.opener)


def test_a_permitted_call_names_its_rule_and_a_denied_one_what_differs() -> None:
    cluster = world(ALLOWLIST)
    permitted = run(cluster, "--from", "shop/web", "--to", "shop/orders")
    assert permitted.exit_code == 0, permitted.output
    assert "shop/orders-callers/web-reads" in permitted.stdout
    denied = run(cluster, "--from", "shop/web", "--to", "orders", "--method", "DELETE", "-n", "shop", "--json")
    assert denied.exit_code == 1
    assert json.loads(denied.stdout)["reason"] == "method_not_allowed"
    assert cluster.ran == [], "no control plane and no sidecar is asked"


def test_without_a_rule_everything_is_denied() -> None:
    assert run(world(), "--from", "shop/web", "--to", "shop/orders").exit_code == 1


def test_a_document_that_is_wrong_costs_no_other_and_is_told() -> None:
    wrong = ALLOWLIST.replace("orders-callers", "broken").replace("methods", "methdos")
    result = run(world(ALLOWLIST, wrong), "--from", "shop/web", "--to", "shop/orders")
    assert result.exit_code == 0, result.output
    assert "left out: Allowlist/shop/broken:1:" in result.stderr


@pytest.mark.parametrize("words", [("--to", "shop/nobody"), ("--from", "shop/nobody"), ("--header", "x")])
def test_words_that_name_nothing_are_bad_input(words: tuple[str, ...]) -> None:
    result = run(world(ALLOWLIST), "--from", "shop/web", "--to", "shop/orders", *words)
    assert result.exit_code == 2, result.output


def test_a_cluster_that_tells_no_trust_domain_asks_for_it() -> None:
    cluster = FakeCluster("kind: Namespace\nmetadata: {name: shop}")
    result = run(cluster, "--from", "a", "--to", "b")
    assert (result.exit_code, "--trust-domain" in result.stderr) == (1, True)
