"""Whoever has a cluster's kubeconfig and calls ``ringfence k8s``, and pods that call without a pause meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tests.cluster.cluster import Cluster, network_words
from tests.cluster.machine import environment, until
from tests.cluster.mesh import SHOP, SYSTEM, answered, call, state, wait_rolled_out
from tests.cluster.product_image import NAME

VISITORS: Final = "visitors"
VISITS: Final[dict[str, Any]] = {
    "apiVersion": "ringfence.io/v1alpha1",
    "kind": "Allowlist",
    "metadata": {"name": "visitors", "namespace": "shop"},
    "spec": {
        "service": "orders",
        "rules": [{"name": "visits", "from": [{"namespace": VISITORS}], "to": {"paths": ["/healthz"]}}],
    },
}
"""What lets visitors call the shop."""
# Calls without a pause, and counts. It opens a connection for each, so that each meets whoever serves now.
_LOADER: Final = """
import http.client, sys, time
good = bad = 0
while True:
    for place in sys.argv[1:]:
        address, _, path = place.partition("/")
        try:
            asked = http.client.HTTPConnection(address, timeout=20)
            asked.request("GET", "/" + path)
            answer = asked.getresponse()
            status = answer.status if answer.status == 200 else (answer.status, answer.read()[:200])
            asked.close()
        except Exception as error:
            status = repr(error)
        good, bad = (good + 1, bad) if status == 200 else (good, bad + 1)
        if status != 200:
            print("failed", time.time(), place, status, flush=True)
        print("calls", good, bad, flush=True)
        time.sleep(0.1)
"""
_SERVER: Final = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Page).serve_forever()
"""


def _bare(name: str, script: str, *arguments: str) -> dict[str, Any]:
    """A pod of nobody's, which no rollout replaces."""
    container = {"name": "app", "image": NAME, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": VISITORS, "labels": {"app": name}},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
            "terminationGracePeriodSeconds": 1,
            "containers": [{**container, "command": ["python3", "-u", "-c", script, *arguments]}],
        },
    }


def loader(name: str, *places: str) -> dict[str, Any]:
    """A pod that calls each of the places (``host:port/path``) again and again."""
    return _bare(name, _LOADER, *places)


def server(name: str) -> list[dict[str, Any]]:
    """A pod that answers on port 8080, and its Service."""
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 8080, "appProtocol": "http"}]}
    metadata = {"name": name, "namespace": VISITORS}
    return [_bare(name, _SERVER), {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}]


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

    def visit(self, *pods: dict[str, Any]) -> None:
        """Have pods (and what belongs to them) run among the visitors."""
        self.cluster.apply(*pods)
        for one in pods:
            if one["kind"] == "Pod":
                name = f"pod/{one['metadata']['name']}"
                waited = self.cluster.try_kubectl(
                    "wait", f"--namespace={VISITORS}", "--for=condition=Ready", name, "--timeout=120s"
                )
                assert waited.returncode == 0, state(self.cluster, VISITORS)

    def calls(self, name: str = "loader") -> tuple[int, int]:
        """How many calls of a loader went well, and how many did not; waits for its first."""

        def counts() -> list[str]:
            lines = self.cluster.kubectl("logs", f"--namespace={VISITORS}", name, "--container=app", "--tail=20")
            return [line for line in lines.splitlines() if line.startswith("calls ")]

        until(counts, f"the first call of {name}")
        _, good, bad = counts()[-1].split()
        return int(good), int(bad)

    def no_call_failed_since(self, before: int, name: str = "loader") -> None:
        until(lambda: self.calls(name)[0] >= before + 20, "twenty calls more")
        log = self.cluster.kubectl("logs", f"--namespace={VISITORS}", name, "--container=app")
        failed = [line for line in log.splitlines() if line.startswith("failed")]
        assert not failed, "\n".join(failed[:20]) + self._sidecar_log(name)

    def uninstall(self) -> str:
        """As docs/kubernetes.md says: the workloads first, then the rest. What the first of it tells."""
        ran = self.ask("uninstall", "--apply", "--timeout", "240")
        told = ran.stdout + ran.stderr
        assert ran.returncode == 0, told + state(self.cluster, "shop")
        assert f"helm uninstall ringfence -n {SYSTEM}" in told
        injected = ("get", "pods", "--namespace=shop", "--selector=ringfence.io/injected", "--output=name")
        until(lambda: not self.cluster.kubectl(*injected).strip(), "the last pod with a sidecar to end")
        removed = self.cluster.helm("uninstall", "ringfence", f"--namespace={SYSTEM}", "--wait", "--timeout=120s")
        assert removed.returncode == 0, removed.stderr
        return told

    def until_svids_have_ended(self, *names: str) -> None:
        """Wait until each of these visitors, which get none any more, has held its last SVID to the end."""
        for name in names:
            where = ("exec", f"--namespace={VISITORS}", name, "--container=ringfence-sidecar", "--")
            held = json.loads(self.cluster.kubectl(*where, "ringfence", "proxy", "certs", "--json"))
            end = datetime.fromisoformat(held["svid"]["not_after"]).timestamp()
            until(lambda end=end: time.time() > end, f"the end of {name}'s SVID", max(0.0, end - time.time()) + 60)

    def _sidecar_log(self, name: str) -> str:
        words = ("logs", f"--namespace={VISITORS}", name, "--container=ringfence-sidecar", "--tail=40")
        return self.cluster.kubectl(*words)


def outlive(operator: Operator) -> None:
    """Uninstall the mesh under load, and see that all goes on beyond the life of the last identity that anybody got:
    of workloads, which have no sidecar any more, and of pods that no rollout replaced, which keep theirs. Only what two
    such pods say to each other ends, as the uninstall told: a mesh that is gone vouches for nobody."""
    cluster = operator.cluster
    operator.visit(*server("stays"))
    operator.visit(loader("late", "orders.shop:8080/healthz"))
    before, _ = operator.calls("late")
    told = operator.uninstall()
    for name in ("late", "stays"):
        assert f"Pod {VISITORS}/{name}" in told
    assert "what two of them say to each other ends with their identities" in told
    operator.no_call_failed_since(before, "late")
    cluster.kubectl("rollout", "restart", "--namespace=shop", "deployment/web")
    wait_rolled_out(cluster, "shop")
    operator.until_svids_have_ended("stays", "late")
    operator.no_call_failed_since(operator.calls("late")[0], "late")
    stays = f"stays.{VISITORS}:8080/"
    assert call(cluster, "web", "GET", stays) == (200, "here")
    script = (SHOP / "apps" / "call.py").read_text(encoding="utf-8")
    words = ("exec", f"--namespace={VISITORS}", "late", "--container=app", "--", "python3", "-c", script, "GET", stays)
    status, answer = answered(cluster.kubectl(*words))
    assert (status, json.loads(answer)["error"]) == (502, "unavailable")
