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
    assert "left out: Allowlist/shop/broken: spec.rules[0].to.methdos: unknown field" in result.stderr


@pytest.mark.parametrize("words", [("--to", "shop/nobody"), ("--from", "shop/nobody"), ("--header", "x")])
def test_words_that_name_nothing_are_bad_input(words: tuple[str, ...]) -> None:
    result = run(world(ALLOWLIST), "--from", "shop/web", "--to", "shop/orders", *words)
    assert result.exit_code == 2, result.output


def test_a_cluster_that_tells_no_trust_domain_asks_for_it() -> None:
    cluster = FakeCluster("kind: Namespace\nmetadata: {name: shop}")
    result = run(cluster, "--from", "a", "--to", "b")
    assert (result.exit_code, "--trust-domain" in result.stderr) == (1, True)


DENYLIST = """
apiVersion: ringfence.io/v1alpha1
kind: Denylist
metadata: {name: no-web, namespace: shop, uid: u, generation: 2}
spec: {service: orders, rules: [{name: deny-web, from: [web], to: {methdos: [DELETE]}}]}
---
"""
KEPT = """
kind: ControllerRevision
metadata:
  name: denylist-1
  namespace: shop
  labels: {ringfence.io/document: Denylist}
  annotations: {ringfence.io/document-name: no-web, ringfence.io/document-version: u/1}
revision: 7
data: {spec: {service: orders, rules: [{name: deny-web, from: [web], to: {methods: [DELETE]}}]}}
---
"""
ASKED = ("--from", "shop/web", "--to", "shop/orders")


def refused_by_the_control_plane(reason: str, message: str, generation: int = 2) -> str:
    condition = {"type": "Accepted", "status": "False", "reason": reason, "message": message}
    status = {"conditions": [{**condition, "observedGeneration": generation}]}
    good = DENYLIST.replace("methdos", "methods").replace("\n---", "")
    return f"{good}status: {json.dumps(status)}\n---\n"


def test_a_denylist_that_is_refused_denies_by_its_stand_in_and_the_error_is_told() -> None:
    cluster = world(ALLOWLIST, DENYLIST)
    denied = run(cluster, *ASKED)
    assert denied.exit_code == 1
    assert "shop/no-web/this-denylist-cannot-be-enforced (Denylist/shop/no-web:1)" in denied.stdout
    assert "Denylist/shop/no-web is refused, and what stands in for it refuses everybody: " in denied.stdout
    assert "spec.rules[0].to.methdos: unknown field 'methdos' in to (did you mean methods?)" in denied.stdout
    assert "without them: permitted by rule shop/orders-callers/web-reads" in denied.stdout
    told = json.loads(run(cluster, *ASKED, "--json").stdout)
    [refused] = told["refused"]
    assert (refused["document"], refused["stands_in"]) == ("Denylist/shop/no-web", "refuses everybody")
    assert [one["rule"] for one in told["denying"]] == ["shop/no-web/this-denylist-cannot-be-enforced"]


def test_of_a_document_that_is_refused_the_version_before_is_what_is_asked() -> None:
    cluster = world(ALLOWLIST, DENYLIST, KEPT)
    permitted = run(cluster, *ASKED)
    assert permitted.exit_code == 0, permitted.output
    assert "note: Denylist/shop/no-web is refused, and revision 7 of it is in force: " in permitted.stderr
    denied = run(cluster, *ASKED, "--method", "DELETE", "--json")
    told = json.loads(denied.stdout)
    assert [one["rule"] for one in told["denying"]] == ["shop/no-web/deny-web"]
    assert told["refused"][0]["stands_in"] == "revision 7"


def test_what_the_control_plane_says_of_this_very_version_counts() -> None:
    message = "it is not in force; Denylist/shop/no-web:1:1: no version of it fits (mend it)"
    denied = run(world(ALLOWLIST, KEPT, refused_by_the_control_plane("Invalid", message)), *ASKED)
    assert denied.exit_code == 1
    assert "refuses everybody: Denylist/shop/no-web:1:1: no version of it fits (mend it)" in denied.stdout
    earlier = refused_by_the_control_plane("EarlierVersionInForce", "generation 1 of it is still in force; wrong")
    assert run(world(ALLOWLIST, KEPT, earlier), *ASKED).exit_code == 0
    assert run(world(ALLOWLIST, earlier), *ASKED).exit_code == 1, "it is kept nowhere, so nobody knows what it permits"
    of_another_version = refused_by_the_control_plane("Invalid", "it is not in force; wrong", generation=1)
    assert run(world(ALLOWLIST, of_another_version), *ASKED).exit_code == 0


def test_a_denylist_of_the_mesh_closes_all_and_one_of_another_namespace_none() -> None:
    of_the_mesh = DENYLIST.replace("namespace: shop", "namespace: ringfence-system")
    denied = run(world(ALLOWLIST, of_the_mesh), *ASKED)
    assert (denied.exit_code, "Denylist/ringfence-system/no-web is refused" in denied.stdout) == (1, True)
    elsewhere = run(world(ALLOWLIST, DENYLIST.replace("namespace: shop", "namespace: other")), *ASKED)
    assert (elsewhere.exit_code, "note: Denylist/other/no-web is refused" in elsewhere.stderr) == (0, True)


def test_who_may_not_read_kept_versions_is_told_and_gets_no_better_answer() -> None:
    cluster = world(ALLOWLIST, DENYLIST, KEPT)
    cluster.forbidden.add("controllerrevisions")
    denied = run(cluster, *ASKED)
    assert (denied.exit_code, "earlier versions of documents cannot be read" in denied.stderr) == (1, True)


def test_a_kept_version_that_holds_no_more_stands_in_for_nothing() -> None:
    cluster = world(ALLOWLIST, DENYLIST, KEPT.replace("methods", "methdos"))
    assert run(cluster, *ASKED).exit_code == 1
    cannot_be_bound = KEPT.replace("from: [web]", "from: [{callerSet: nobody-made-it}]")
    assert run(world(ALLOWLIST, DENYLIST, cannot_be_bound), *ASKED).exit_code == 1
