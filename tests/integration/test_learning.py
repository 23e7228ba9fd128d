"""From traffic to policy with real processes: what sidecars judged is kept, listed, exported and learned from."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.processes import Command, Marked, ringfence, until

APP = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"ok"
        self.send_response(404 if self.path.startswith("/nothing") else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

MESH = """
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {{name: shop}}
spec:
  trustDomain: shop.example
  controlPlane: {{join: "127.0.0.1:{join}", listen: "127.0.0.1:{listen}", signals: "127.0.0.1:{signals}"}}
  services:
    - name: web
      namespace: shop
      mesh: {web_mesh}
      upstreams:
        - {{service: orders, port: 8080, listen: "127.0.0.1:{web}"}}
    - name: cart
      namespace: shop
      mesh: {cart_mesh}
      upstreams:
        - {{service: orders, port: 8080, listen: "127.0.0.1:{cart}"}}
    - name: orders
      namespace: shop
      mesh: {orders_mesh}
      ports:
        - {{port: 8080, protocol: http, app: {app}}}
      run: {{command: [python3, app.py], env: {{PORT: "{app}"}}}}
"""

POLICY = """
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: orders-callers, namespace: shop}
spec:
  service: orders
  rules:
    - name: web-reads
      from: [{spiffeId: spiffe://shop.example/ns/shop/sa/web}]
      to: {methods: [GET]}
"""


@dataclass(frozen=True)
class Shop:
    """A mesh that runs through several tests."""

    folder: Path
    ports: dict[str, int]
    marked: Marked
    command: Command

    def call(self, caller: str, method: str, path: str) -> int:
        """The status that ``caller``'s app gets of orders."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[caller], timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def ringfence(self, *words: str) -> tuple[int, str, str]:
        """A command to its end: exit status, standard output, standard error."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ringfence", *words],
            cwd=self.folder,
            env=self.marked.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def flows(self, *words: str) -> list[dict[str, Any]]:
        status, out, err = self.ringfence("policy", "flows", "--state", "s", "--json", *words)
        assert status == 0, err
        found: list[dict[str, Any]] = json.loads(out)["flows"]
        return found

    def counted(self, **wanted: object) -> int:
        return sum(f["count"] for f in self.flows() if all(f[name] == value for name, value in wanted.items()))


def shop_folder(folder: Path, policy: str = POLICY) -> dict[str, int]:
    names = ("join", "listen", "signals", "web_mesh", "cart_mesh", "orders_mesh", "web", "cart", "app")
    ports = {name: free_port() for name in names}
    (folder / "policies").mkdir()
    (folder / "policies" / "orders.yaml").write_text(policy)
    (folder / "app.py").write_text(APP)
    (folder / "mesh.yaml").write_text(MESH.format(**ports))
    return ports


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("learning")
    marked = Marked(XDG_CONFIG_HOME=str(folder / "config"))
    ports = shop_folder(folder)
    with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=folder) as command:
        command.wait_for_stdout("\n")
        yield Shop(folder, ports, marked, command)


WEB = "spiffe://shop.example/ns/shop/sa/web"
CART = "spiffe://shop.example/ns/shop/sa/cart"


def test_what_was_judged_is_listed_with_its_caller_its_verdict_and_no_secret(shop: Shop) -> None:
    for number in range(5):
        assert shop.call("web", "GET", f"/orders/{number}?token=secret") == 200
    assert shop.call("web", "GET", "/nothing/here") == 404
    assert shop.call("web", "DELETE", "/orders/7") == 403
    assert shop.call("cart", "GET", "/orders/7") == 403
    until(lambda: shop.counted() == 8, "all flows")
    told = {(f["caller"], f["verdict"], f["method"], f["path"]): f for f in shop.flows("--since", "1h")}
    assert {key: (f["count"], f["missed"]) for key, f in told.items()} == {
        (WEB, "permit", "GET", "/orders/{id}"): (5, 0),
        (WEB, "permit", "GET", "/nothing/here"): (1, 1),
        (WEB, "deny", "DELETE", "/orders/{id}"): (1, 0),
        (CART, "deny", "GET", "/orders/{id}"): (1, 0),
    }
    permitted = told[WEB, "permit", "GET", "/orders/{id}"]
    assert (permitted["service"], permitted["port"], permitted["protocol"]) == ("shop/orders", 8080, "http")
    assert permitted["rule"] == "shop/orders-callers/web-reads"
    assert told[CART, "deny", "GET", "/orders/{id}"]["reason"] == "caller_not_allowed"
    state = shop.folder / "s"
    kept = [path for path in state.rglob("flows.sqlite*") if path.is_file()]
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert not any(b"secret" in path.read_bytes() for path in kept)


def test_flows_are_narrowed_exported_and_read_back(shop: Shop) -> None:
    assert {f["caller"] for f in shop.flows("--from", "shop/cart")} == {CART}
    assert {f["verdict"] for f in shop.flows("--verdict", "deny")} == {"deny"}
    assert shop.flows("--to", "shop/web") == []
    assert shop.flows("--would-deny") == []
    status, _, err = shop.ringfence("policy", "flows", "--state", "s", "--output", "flows.jsonl")
    assert status == 0, err
    assert (shop.folder / "flows.jsonl").stat().st_mode & 0o777 == 0o600
    status, out, err = shop.ringfence("policy", "flows", "--flows", "flows.jsonl", "--from", WEB, "--json")
    assert status == 0, err
    assert len(json.loads(out)["flows"]) == 3
    (shop.folder / "candidate.yaml").write_text(
        POLICY.replace("methods: [GET]", "methods: [GET, DELETE], paths: [/orders/*]")
    )
    status, out, err = shop.ringfence(
        "policy", "diff", "policies", "candidate.yaml", "--mesh", "mesh.yaml", "--flows", "flows.jsonl", "--json"
    )
    assert status == 1, err
    traffic = json.loads(out)["traffic"]
    assert (traffic["judged"], traffic["permitted"], traffic["denied"]) == (8, 1, 1)
    assert traffic["flows_denied"][0]["path"] == "/nothing/here"
    status, out, err = shop.ringfence("policy", "flows", "--state", "s", "--to", "shop/orders")
    assert status == 0, err
    assert "GET /orders/{id}" in out
    status, _, err = shop.ringfence("policy", "flows", "--state", "s", "--output", "flows.jsonl")
    assert (status, "is there already" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--since", "soon"], "is no duration"),
        (["--state", "elsewhere"], "no control plane at"),
        (["--flows", "mesh.yaml"], "mesh.yaml:1:1: line is no JSON"),
        (["--flows", "missing.jsonl"], "missing.jsonl:1:1: file cannot be read"),
        (["--would-deny", "--verdict", "deny"], "not together with"),
    ],
)
def test_bad_input_is_told_in_a_line(shop: Shop, words: list[str], told: str) -> None:
    status, out, err = shop.ringfence("policy", "flows", *words)
    assert (status, out) == (2, "")
    assert told in err


def test_a_sidecar_that_stops_tells_what_it_judged_last(shop: Shop) -> None:
    before = shop.counted(path="/last/words")
    assert shop.call("web", "GET", "/last/words") == 200
    [pid] = [pid for pid in shop.marked.pids() if b"shop.orders" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(pid, 15)
    until(lambda: shop.counted(path="/last/words") == before + 1, "the last flow")


OBSERVED = """
apiVersion: ringfence.io/v1alpha1
kind: Posture
metadata: {name: orders-observed, namespace: shop}
spec: {service: orders, posture: observe, until: %s}
"""

TRAFFIC = [
    ("web", "GET", "/orders/1"),
    ("web", "GET", "/orders/2"),
    ("web", "GET", "/orders"),
    ("web", "DELETE", "/orders/2"),
    ("cart", "GET", "/stock/hats"),
]
REFUSED = [("cart", "GET", "/orders/1"), ("web", "DELETE", "/orders"), ("web", "GET", "/stock/hats")]


def test_a_mesh_that_is_only_observed_is_brought_to_least_privilege(tmp_path: Path) -> None:
    marked = Marked(XDG_CONFIG_HOME=str(tmp_path / "config"))
    until_day = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ports = shop_folder(tmp_path, OBSERVED % until_day)
    with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=tmp_path) as command:
        command.wait_for_stdout("\n")
        shop = Shop(tmp_path, ports, marked, command)
        # Nothing permits anything, and everything passes, counted with its caller.
        for call in TRAFFIC:
            assert shop.call(*call) == 200, call
        assert shop.call("cart", "GET", "/nothing/to/find") == 404  # whoever probes teaches nothing
        until(lambda: len(shop.flows("--would-deny")) == 5, "flows that default deny would refuse")
        told = {(f["caller"], f["method"], f["path"], f["reason"], f["count"]) for f in shop.flows("--would-deny")}
        assert told == {
            (WEB, "GET", "/orders/{id}", "caller_not_allowed", 2),
            (WEB, "GET", "/orders", "caller_not_allowed", 1),
            (WEB, "DELETE", "/orders/{id}", "caller_not_allowed", 1),
            (CART, "GET", "/stock/hats", "caller_not_allowed", 1),
            (CART, "GET", "/nothing/to/find", "caller_not_allowed", 1),
        }
        status, out, err = shop.ringfence("policy", "status", "--state", "s", "--json")
        assert status == 0, err
        [observed] = json.loads(out)["observed"]
        assert (observed["service"], observed["would_deny_callers"], observed["would_deny_calls"]) == (
            "shop/orders",
            2,
            6,
        )
        status, out, err = shop.ringfence("policy", "status", "--state", "s")
        assert "shop/orders is only observed, until " in out
        assert "default deny would have refused 6 calls of 2 callers" in out
        status, out, err = shop.ringfence("policy", "learn", "--state", "s", "--since", "1h", "--json")
        assert status == 0, err
        [proposal] = json.loads(out)["proposals"]
        assert proposal["replay"] == {"kinds": 4, "calls": 5, "refused": []}
        assert [f["path"] for f in proposal["left_out_and_refused"]] == ["/nothing/to/find"]
        assert {(one["name"], *one["methods"], *one["paths"]) for one in proposal["rules"]} == {
            ("cart-get", "GET", "/stock/hats"),
            ("web-get", "GET", "/orders"),
            ("web-delete-get", "DELETE", "GET", "/orders/{id}"),
        }
        status, out, err = shop.ringfence("policy", "learn", "--state", "s", "--output", "policies")
        assert status == 0, err
        assert "replay: the proposal permits all 5 calls" in out
        status, _, err = shop.ringfence("policy", "learn", "--state", "s", "--output", "policies")
        assert (status, "is there already" in err) == (2, True)
        # The proposal takes the place of observing.
        (tmp_path / "policies" / "orders.yaml").unlink()
        until(lambda: shop.call("web", "DELETE", "/orders") == 403, "the proposal in force")
        for call in TRAFFIC:
            assert shop.call(*call) == 200, call
        for call in REFUSED:
            assert shop.call(*call) == 403, call
