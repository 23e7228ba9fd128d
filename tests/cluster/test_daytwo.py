"""A namespace's way into the mesh, to strict and out again, under load; and what an operator is told meanwhile, with
and without a control plane.

The tests of this file follow each other in one cluster: each leaves it where the next begins.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, Settings, network_words, running
from tests.cluster.machine import environment, until
from tests.cluster.mesh import SHOP, SYSTEM, call, install, state, wait_rolled_out
from tests.cluster.product_image import NAME
from tests.cluster.scraped import METERED, scrapes_on, start_prometheus

# Calls without a pause, and counts. It opens a connection for each, so that each meets whoever serves now.
LOADER = """
import http.client, time
good = bad = 0
while True:
    try:
        asked = http.client.HTTPConnection("orders.shop", 8080, timeout=20)
        asked.request("GET", "/healthz")
        answer = asked.getresponse()
        status = answer.status if answer.status == 200 else (answer.status, answer.read()[:200])
        asked.close()
    except Exception as error:
        status = repr(error)
    good, bad = (good + 1, bad) if status == 200 else (good, bad + 1)
    if status != 200:
        print("failed", time.time(), status, flush=True)
    print("calls", good, bad, flush=True)
    time.sleep(0.05)
"""
VISITORS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "loader", "namespace": "visitors", "labels": {"app": "loader"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {"name": "loader", "image": NAME, "imagePullPolicy": "Never", "command": ["python3", "-u", "-c", LOADER]}
        ],
    },
}
RULE: dict[str, Any] = {
    "apiVersion": "ringfence.io/v1alpha1",
    "kind": "Allowlist",
    "metadata": {"name": "visitors", "namespace": "shop"},
    "spec": {
        "service": "orders",
        "rules": [{"name": "visits", "from": [{"namespace": "visitors"}], "to": {"paths": ["/healthz"]}}],
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """``ringfence k8s`` as whoever has the cluster's kubeconfig calls it."""

    cluster: Cluster

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *network_words(self.cluster.name),
                *(sys.executable, "-m", "ringfence", "k8s", *words, "--kubeconfig", str(self.cluster.kubeconfig)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env=environment(self.cluster.name),
        )

    def do(self, *words: str) -> str:
        ran = self.ask(*words)
        assert ran.returncode == 0, f"{words}: {ran.stdout}{ran.stderr}{state(self.cluster, 'shop')}"
        return ran.stdout

    def told(self, *words: str) -> Any:
        """What a command tells as JSON, whatever it thinks of it."""
        ran = self.ask(*words, "--json")
        assert ran.stdout, ran.stderr
        return json.loads(ran.stdout)

    def calls(self) -> tuple[int, int]:
        """How many calls of the loader went well, and how many did not."""
        lines = self.cluster.kubectl("logs", "--namespace=visitors", "loader", "--container=loader", "--tail=1")
        word, good, bad = lines.split()
        assert word == "calls"
        return int(good), int(bad)

    def no_call_failed_since(self, before: int) -> None:
        until(lambda: self.calls()[0] >= before + 20, "twenty calls more")
        log = self.cluster.kubectl("logs", "--namespace=visitors", "loader", "--container=loader")
        failed = [line for line in log.splitlines() if line.startswith("failed")]
        assert not failed, "\n".join(failed[:20]) + self._sidecar_log()

    def _sidecar_log(self) -> str:
        words = ("logs", "--namespace=visitors", "loader", "--container=ringfence-sidecar", "--tail=40")
        return self.cluster.kubectl(*words)


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
        made.kubectl("create", "namespace", "visitors")
        operator = Operator(cluster=made)
        operator.do("ramp", "visitors", "--to", "observe", "--apply", "--timeout", "120")
        made.apply(VISITORS)
        made.kubectl("wait", "--namespace=visitors", "--for=condition=Ready", "pod/loader", "--timeout=120s")
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
    operator.cluster.apply(RULE)
    until(lambda: operator.told("who-would-break", "shop", "--since", "10s")["calls"] == [], "nobody who would break")
    before, _ = operator.calls()
    operator.do("ramp", "shop", "--to", "strict", "--apply", "--since", "10s", "--timeout", "120")
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


def test_uninstall_takes_every_workload_out_and_no_call_fails(operator: Operator) -> None:
    before, _ = operator.calls()
    told = operator.do("uninstall", "--apply", "--timeout", "240")
    assert f"helm uninstall ringfence -n {SYSTEM}" in told
    operator.no_call_failed_since(before)
    injected = ("get", "pods", "--namespace=shop", "--selector=ringfence.io/injected", "--output=name")
    until(lambda: not operator.cluster.kubectl(*injected).strip(), "the last pod with a sidecar to end")
    removed = operator.cluster.helm("uninstall", "ringfence", f"--namespace={SYSTEM}", "--wait", "--timeout=120s")
    assert removed.returncode == 0, removed.stderr
    operator.cluster.kubectl("rollout", "restart", "--namespace=shop", "deployment/web")
    wait_rolled_out(operator.cluster, "shop")
    operator.no_call_failed_since(operator.calls()[0])
    scrapes_on(operator.cluster)
