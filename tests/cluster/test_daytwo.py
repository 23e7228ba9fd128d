"""A namespace's way into the mesh, to strict and out again, under load; and what an operator is told meanwhile, with
and without a control plane.

The tests of this file follow each other in one cluster: each leaves it where the next begins.
"""

from __future__ import annotations

import json
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Settings, running
from tests.cluster.machine import until
from tests.cluster.mesh import CHART, LIFETIME_SECONDS, SHOP, SYSTEM, call, install, wait_for_webhook, wait_rolled_out
from tests.cluster.operators import VISITORS, VISITS, Operator, loader, outlive
from tests.cluster.product_image import NAME
from tests.cluster.scraped import METERED, scrapes_on, start_prometheus


@pytest.fixture(scope="module")
def operator(programs: Path, image: Path) -> Iterator[Operator]:
    """A cluster with the mesh, and the shop outside of it, called all the time by a pod that is in."""
    with running(Settings(programs=programs, images=(image,))) as made:
        install(made, "identity.lifetimeSeconds=3600")
        rendered = made.kubectl("kustomize", str(SHOP / "kubernetes"))
        made.kubectl("apply", "--filename=-", given=rendered.replace("python:3.13-slim", NAME))
        made.apply(*METERED)
        wait_rolled_out(made, "shop")
        start_prometheus(made)
        made.kubectl("create", "namespace", VISITORS)
        operator = Operator(cluster=made)
        operator.do("ramp", VISITORS, "--to", "observe", "--apply", "--timeout", "120")
        operator.visit(loader("loader", "orders.shop:8080/healthz"))
        yield operator


def test_check_finds_who_scrapes_and_what_it_prints_keeps_it(operator: Operator) -> None:
    scrapes_on(operator.cluster)
    [found] = operator.told("check", "--namespace", "shop")["findings"]
    assert (found["code"], found["object"]) == ("scraper", "Deployment shop/metered")
    operator.cluster.kubectl("apply", "--filename=-", given=operator.ask("check", "--namespace", "shop").stdout)
    for command in found["commands"]:
        program, *words = shlex.split(command)
        assert program == "kubectl"
        operator.cluster.kubectl(*words)
    assert operator.told("check", "--namespace", "shop") == {"namespaces": ["shop"], "findings": [], "unread": []}


def kind(group: str, plural: str, name: str) -> dict[str, Any]:
    """A kind of objects that says nothing of their fields."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Of groups that Kubernetes' projects keep for themselves: a trial of the test's own, and no approved API.
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": name.lower(), "kind": name},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def test_check_finds_monitors_of_the_operator_and_routes_of_gateways(operator: Operator) -> None:
    cluster = operator.cluster
    kinds = (
        kind("monitoring.coreos.com", "servicemonitors", "ServiceMonitor"),
        kind("gateway.networking.k8s.io", "httproutes", "HTTPRoute"),
    )
    cluster.apply(*kinds)
    names = [f"crd/{one['metadata']['name']}" for one in kinds]
    try:
        cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s")
        monitor = {
            "selector": {"matchLabels": {"metered": "yes"}},
            "endpoints": [{"port": "http", "path": "/ready"}],
        }
        route = {
            "hostnames": ["shop.example"],
            "rules": [{"backendRefs": [{"name": "orders", "port": 8080}]}],
        }
        cluster.kubectl("label", "service", "metered", "--namespace=shop", "metered=yes")
        cluster.apply(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "ServiceMonitor",
                "metadata": {"name": "metered", "namespace": "shop"},
                "spec": monitor,
            },
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": "front", "namespace": "shop"},
                "spec": route,
            },
        )
        found = {one["code"]: one for one in operator.told("check", "--namespace", "shop")["findings"]}
        assert {code: one["object"] for code, one in found.items()} == {
            "scraper": "ServiceMonitor shop/metered",
            "entrance": "HTTPRoute shop/front",
        }
        # The smallest rules that keep them are documents that this cluster takes.
        printed = operator.ask("check", "--namespace", "shop").stdout
        cluster.kubectl("apply", "--dry-run=server", "--filename=-", given=printed)
        assert "/ready" in printed
        assert "shop.example" in printed
    finally:
        cluster.kubectl("delete", *names)
    assert operator.told("check", "--namespace", "shop")["findings"] == []


def test_the_shop_goes_into_observe_without_a_failed_call(operator: Operator) -> None:
    before, _ = operator.calls()
    operator.do("ramp", "shop", "--to", "observe", "--apply", "--timeout", "240")
    operator.no_call_failed_since(before)
    scrapes_on(operator.cluster)
    pods = operator.told("status", "--namespace", "shop")["pods"]
    assert len(pods) == 5
    assert {(one["ready"], one["told_by"], one["enforced"] == one["wanted"]) for one in pods} == {
        (True, "control plane", True)
    }


def test_strict_is_refused_until_nobody_would_break_and_then_no_call_fails(operator: Operator) -> None:
    until(lambda: operator.told("who-would-break", "shop", "--since", "30s")["calls"], "a caller who would break")
    refused = operator.ask("ramp", "shop", "--to", "strict", "--apply", "--since", "30s")
    assert (refused.returncode, "it stays as it is" in refused.stderr) == (1, True)
    operator.cluster.kubectl("apply", f"--filename={SHOP / 'policies'}")
    operator.cluster.apply(VISITS)
    # More than one report of the sidecars back, which come ten seconds apart: the last may still be on its way.
    since = ("--since", "20s")
    until(lambda: operator.told("who-would-break", "shop", *since)["calls"] == [], "nobody who would break", 120)
    before, _ = operator.calls()
    operator.do("ramp", "shop", "--to", "strict", "--apply", *since, "--timeout", "120")
    operator.no_call_failed_since(before)
    scrapes_on(operator.cluster)
    status, answer = call(operator.cluster, "web", "DELETE", "orders:8080/orders/1")
    assert (status, json.loads(answer)["reason"]) == (403, "method_not_allowed")


def test_what_was_refused_and_what_would_be_is_told(operator: Operator) -> None:
    _, answer = call(operator.cluster, "web", "DELETE", "orders:8080/orders/1")
    request_id = json.loads(answer)["request_id"]
    [latest, *_] = next(iter(operator.told("why", "deploy/orders", "-n", "shop", "--since", "5m")["pods"].values()))[
        "calls"
    ]
    assert (latest["request_id"], latest["reason"]) == (request_id, "method_not_allowed")
    assert latest["mend"] == "add the method to 'methods' of the rule"
    assert request_id in operator.do("why", "deploy/orders", "-n", "shop", request_id)
    words = ("--from", "shop/web", "--to", "shop/orders", "--path", "/orders/1")
    assert operator.ask("explain", *words).returncode == 0
    assert operator.told("explain", *words, "--method", "DELETE")["reason"] == "method_not_allowed"
    tapped = operator.do("tap", "deploy/orders", "-n", "shop", "--limit", "1", "--json")
    assert json.loads(tapped)["target"] == "/healthz"


def test_without_a_control_plane_an_operator_is_not_blind(operator: Operator, tmp_path: Path) -> None:
    scale = ("scale", f"--namespace={SYSTEM}", "deployment/ringfence")
    operator.cluster.kubectl(*scale, "--replicas=0")
    gone = ("get", "pods", f"--namespace={SYSTEM}", "--output=name")
    until(lambda: not operator.cluster.kubectl(*gone).strip(), "a control plane that is gone")
    before, _ = operator.calls()
    status = operator.told("status", "--namespace", "shop")
    assert {(one["ready"], one["told_by"]) for one in status["pods"]} == {(True, "sidecar")}
    assert any("no control plane runs" in line for line in status["silent"])
    assert operator.told("config", "deploy/orders", "-n", "shop")["revision"] > 0
    assert operator.do("loglevel", "deploy/orders", "-n", "shop", "debug").endswith("debug\n")
    assert operator.do("logs", "deploy/orders", "-n", "shop", "--tail", "1")
    assert operator.told("why", "deploy/orders", "-n", "shop")["pods"]
    assert operator.ask("explain", "--from", "shop/web", "--to", "shop/orders").returncode in (0, 1)
    bundle = tmp_path / "bundle.tar.gz"
    operator.do("support-bundle", "-n", "shop", "-o", str(bundle))
    with tarfile.open(bundle) as archive:
        names = archive.getnames()
    assert any(name.endswith("/metrics.txt") for name in names)
    assert sum(name.endswith("/certs.json") for name in names) == 5
    refused = operator.ask("ramp", "shop", "--to", "out", "--apply", "--timeout", "10")
    assert refused.returncode == 1
    operator.cluster.kubectl(*scale, "--replicas=1")
    operator.cluster.kubectl("rollout", "status", f"--namespace={SYSTEM}", "deployment/ringfence", "--timeout=120s")
    operator.no_call_failed_since(before)


def test_uninstall_takes_every_workload_out_and_no_call_fails_beyond_the_last_identity(operator: Operator) -> None:
    cluster, where = operator.cluster, f"--namespace={SYSTEM}"
    short = f"--set=identity.lifetimeSeconds={LIFETIME_SECONDS}"
    ran = cluster.helm("upgrade", "ringfence", str(CHART), where, "--reuse-values", short, "--wait", "--timeout=120s")
    assert ran.returncode == 0, ran.stderr
    wait_for_webhook(cluster)
    before, _ = operator.calls()
    outlive(operator)
    operator.no_call_failed_since(before)
    scrapes_on(cluster)
