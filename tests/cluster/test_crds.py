"""The kinds of documents at a real API server: what it takes, what it refuses in whose words, what it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.crds.definition import GROUP, KINDS, plural
from tests.cluster.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
DEFINITIONS = REPOSITORY / "k8s" / "crds"
DOCUMENTS = [
    *(example for kind in KINDS for example in kind.examples),
    *(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "examples/shop/policies").glob("*.yaml"))),
]
UNTIL = "2027-01-31T18:00:00Z"
ISSUER = {"issuer": "https://a", "audiences": ["b"]}
KEYS = {"jwks": {"url": "https://a"}}
ASKED = {"introspection": {"url": "https://a", "clientId": "a", "secretFile": "/a"}}


def allowed(**rule: object) -> dict[str, object]:
    return {"service": "orders", "rules": [{"name": "one", "from": ["web"], **rule}]}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("Allowlist", {"rules": []}, "choose exactly one form: service; labels; scope: namespace; scope: mesh"),
    ("Allowlist", {**allowed(), "labels": {"a": "b"}}, "choose exactly one form"),
    ("Allowlist", {**allowed(), "mode": "audit"}, 'supported values: "enforce", "shadow"'),
    ("Allowlist", {**allowed(), "service": "Orders"}, "spec.service in body should match"),
    ("Allowlist", allowed(to={}), "it says nothing: add one of ports, methods"),
    ("Allowlist", allowed(to={"ports": ["8080"]}), "must be of type integer"),
    ("Allowlist", allowed(to={"ports": [65536]}), "should be less than or equal to 65535"),
    ("Allowlist", allowed(to={"ports": []}), "should have at least 1 items"),
    ("Allowlist", allowed(to={"methods": ["get"]}), "Unsupported value"),
    ("Allowlist", allowed(to={"roles": ["a"], "ports": [1]}), "choose exactly one form: roles; none of them"),
    ("Allowlist", allowed(to={"headers": [{"name": "a"}]}), "oneOf"),
    ("Allowlist", allowed(to={"grpc": ["a.B/C"], "methods": ["GET"]}), "grpc needs POST among methods: add it"),
    ("Allowlist", allowed(token={}), "it says nothing: add one of issuers, scopes"),
    ("Allowlist", allowed(**{"from": [{"namespace": "Shop"}]}), "in body should match"),
    ("Allowlist", allowed(**{"from": [{"authenticated": False}]}), "Unsupported value"),
    ("Denylist", {"scope": "mesh"}, "spec.rules: Required value"),
    ("Role", {"permissions": [{"name": "one"}]}, "it says nothing: add one of ports, methods"),
    ("RoleBinding", {"service": "a", "roles": ["b"], "from": []}, "should have at least 1 items"),
    ("CallerSet", {"callers": []}, "should have at least 1 items"),
    ("Posture", {"scope": "namespace", "posture": "observe"}, "spec.until: Required value"),
    ("Posture", {"scope": "namespace", "posture": "observe", "until": "tomorrow"}, "spec.until in body should match"),
    ("Posture", {"scope": "namespace", "labels": {"a": "b"}, "posture": "observe", "until": UNTIL}, "exactly one form"),
    ("TokenIssuer", ISSUER, "choose exactly one form: service and jwks; service and introspection"),
    ("TokenIssuer", {**ISSUER, **KEYS, **ASKED}, "choose exactly one form"),
    ("TokenIssuer", {**ISSUER, "jwks": {}}, "choose exactly one form: inline; url"),
    ("TokenIssuer", {**ISSUER, **KEYS, "header": "a", "cookie": "b"}, "header and cookie exclude each other"),
    ("TokenIssuer", {**ISSUER, **KEYS, "algorithms": ["HS256"]}, "Unsupported value"),
    ("Route", {"service": "a"}, "it says nothing: add one of timeouts, maxAge"),
    ("Route", {"service": "a", "timeouts": {}}, "it says nothing: add one of connect, responseHead"),
    ("Route", {"service": "a", "retries": {"attempts": 11}}, "should be less than or equal to 10"),
]


@pytest.fixture(scope="module")
def kinds(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with our kinds in it."""
    for path in DEFINITIONS.glob("*.yaml"):
        cluster.kubectl("apply", f"--filename={path}")
    for kind in KINDS:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural(kind.name)}.{GROUP}", "--timeout=60s")
    for name in ("shop", "ringfence-system"):
        cluster.kubectl("create", "namespace", name)
    yield cluster
    cluster.kubectl("delete", "namespace", "shop", "ringfence-system", "--wait=false")
    cluster.kubectl("delete", f"--filename={DEFINITIONS}")


def written(kind: str, spec: object) -> str:
    head = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": "one", "namespace": "shop"}}
    return json.dumps({**head, "spec": spec})


def test_no_definition_is_warned_of_or_reworded(kinds: Cluster) -> None:
    ran = kinds.try_kubectl("apply", "--dry-run=server", f"--filename={DEFINITIONS}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count(" unchanged (server dry run)") == len(KINDS)


@pytest.mark.parametrize("text", DOCUMENTS)
def test_every_example_of_the_repository_is_taken(kinds: Cluster, text: str) -> None:
    ran = kinds.try_kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", given=text)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(("kind", "spec", "words"), REFUSED)
def test_its_neighbour_is_refused(kinds: Cluster, kind: str, spec: dict[str, Any], words: str) -> None:
    ran = kinds.try_kubectl("apply", "--dry-run=server", "--filename=-", given=written(kind, spec))
    assert ran.returncode == 1
    assert words in ran.stderr


def test_an_unknown_field_is_kept_for_who_refuses_it(kinds: Cluster) -> None:
    # Dropped, as an API server does, it would leave a rule that permits every path.
    spec = allowed(to={"methods": ["GET"], "pahts": ["/orders"]})
    kinds.kubectl("apply", "--validate=ignore", "--filename=-", given=written("Allowlist", spec))
    held = kinds.get("allowlist.ringfence.io/one", "--namespace=shop")
    assert held["spec"] == spec
    kinds.kubectl("delete", "allowlist.ringfence.io/one", "--namespace=shop")


def test_who_applies_a_list_without_a_rule_is_rid_of_it(kinds: Cluster) -> None:
    both = {"service": "orders", "rules": [{"name": name, "from": [name]} for name in ("web", "batch")]}
    for manager, spec in (("one", both), ("two", {**both, "rules": both["rules"][:1]})):
        words = ("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "--filename=-")
        kinds.kubectl(*words, given=written("Allowlist", spec))
    held = kinds.get("allowlist.ringfence.io/one", "--namespace=shop")
    assert [rule["name"] for rule in held["spec"]["rules"]] == ["web"]
    kinds.kubectl("delete", "allowlist.ringfence.io/one", "--namespace=shop")


def test_status_is_written_apart_and_shown(kinds: Cluster) -> None:
    kinds.apply(*yaml.safe_load_all(DOCUMENTS[0]))
    now = "2026-01-01T00:00:00Z"
    accepted = {"type": "Accepted", "status": "True", "reason": "InForce", "message": "", "lastTransitionTime": now}
    patch = {"status": {"enforced": "2/3", "workloads": 3, "enforcing": 2, "conditions": [accepted]}}
    place = ("allowlist.ringfence.io/orders-callers", "--namespace=shop")
    kinds.kubectl("patch", *place, "--subresource=status", "--type=merge", f"--patch={json.dumps(patch)}")
    shown = kinds.kubectl("get", "rfallow", "--namespace=shop").split("\n")
    assert shown[0].split() == ["NAME", "SERVICE", "MODE", "ACCEPTED", "ENFORCED", "AGE"]
    assert shown[1].split()[:-1] == ["orders-callers", "orders", "True", "2/3"]
    wrong = {"status": {"conditions": [{**accepted, "status": "Perhaps"}]}}
    ran = kinds.try_kubectl("patch", *place, "--subresource=status", "--type=merge", f"--patch={json.dumps(wrong)}")
    assert "Unsupported value" in ran.stderr
    kinds.kubectl("delete", *place)


def test_all_kinds_are_found_by_one_word(kinds: Cluster) -> None:
    listed = kinds.kubectl("api-resources", "--categories=policy", "--output=name").split()
    assert {f"{plural(kind.name)}.{GROUP}" for kind in KINDS} <= set(listed)
    assert "rules" in kinds.kubectl("explain", "allowlist.spec")
    assert "serviceLabels" in kinds.kubectl("explain", "allowlist.spec.rules.from")
