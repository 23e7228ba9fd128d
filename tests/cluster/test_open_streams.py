"""Connections that are open when policy changes, between pods: what is not permitted any more ends at once, and what is
stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.cluster.callers import pod
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import Mesh, state
from tests.cluster.product_image import NAME
from tests.cluster.workloads import caller_pod

_WHERE = "--namespace=shop"
_REPLICAS = 2
# To everybody who comes a line every tenth of a second, for ever: on a bare connection, and as one answer of HTTP.
_TICKS = """
import http.server, socketserver, threading, time
class Bare(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            self.request.sendall(b"tick\\n")
            time.sleep(0.1)
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"5\\r\\ntick\\n\\r\\n")
            time.sleep(0.1)
    def log_message(self, *_): pass
class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = daemon_threads = True
    def handle_error(self, *_): pass
class HttpServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_): pass
threading.Thread(target=Server(("0.0.0.0", 7100), Bare).serve_forever).start()
HttpServer(("0.0.0.0", 8080), Page).serve_forever()
"""
# One connection of each kind and never another; a line for each change, of how many lines came and how it ended.
_LISTENS = """
import http.client, json, socket, threading, time
told = {"tcp": [0, ""], "http": [0, ""]}
def bare():
    with socket.create_connection(("ticks", 7100), 10) as connection:
        with connection.makefile("rb") as lines:
            yield from lines
def page():
    connection = http.client.HTTPConnection("ticks", 8080, timeout=10)
    connection.request("GET", "/ticks")
    answer = connection.getresponse()
    if answer.status != 200:
        raise OSError(f"{answer.status} {answer.read()}")
    yield from answer
def listen(kind, source):
    try:
        for _ in source:
            told[kind][0] += 1
        told[kind][1] = "it ended"
    except (OSError, http.client.HTTPException) as error:
        told[kind][1] = repr(error)
for kind, source in (("tcp", bare()), ("http", page())):
    threading.Thread(target=listen, args=(kind, source)).start()
while True:
    print(json.dumps(told), flush=True)
    time.sleep(0.1)
"""


class _Listener:
    """A pod that listens to both streams."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._words = ("logs", _WHERE, name, "--container=caller", "--tail=1")

    def ticks(self) -> dict[str, int]:
        return {kind: count for kind, (count, _) in self._told().items()}

    def ended(self) -> dict[str, str]:
        """By kind, how each ended that did."""
        return {kind: how for kind, (_, how) in self._told().items() if how}

    def hears(self) -> None:
        """Wait until twenty lines more have come on each."""
        before = self.ticks()
        until(lambda: all(count >= before[kind] + 20 for kind, count in self.ticks().items()), "lines on both streams")

    def _told(self) -> Any:
        return json.loads(self._cluster.kubectl(*self._words))


@contextmanager
def _listening(cluster: Cluster, account: str) -> Iterator[_Listener]:
    name = f"listens-as-{account}"
    wanted = caller_pod(name, serviceAccountName=account)
    wanted["spec"]["containers"][0]["command"] = ["python3", "-c", _LISTENS]
    with pod(cluster, "shop", wanted):
        made = _Listener(cluster, name)
        until(lambda: cluster.kubectl(*made._words), "the first line")
        yield made


def test_an_open_connection_ends_with_its_permission_and_the_one_beside_it_goes_on(meshed: Mesh) -> None:
    cluster = meshed.cluster
    cluster.apply(*_server())
    _permit(cluster, "web", "ledger")
    rolled = cluster.try_kubectl("rollout", "status", _WHERE, "deployment/ticks", "--timeout=90s")
    assert rolled.returncode == 0, state(cluster, "shop")
    _enforced(cluster)
    try:
        with ExitStack() as stack:
            web, ledger = (stack.enter_context(_listening(cluster, account)) for account in ("web", "ledger"))
            for each in (web, ledger):
                each.hears()
            assert web.ended() == ledger.ended() == {}

            _permit(cluster, "ledger")
            _enforced(cluster)
            until(lambda: web.ended().keys() == {"tcp", "http"}, "the end of what is not permitted any more")
            heard = web.ticks()
            ledger.hears()
            assert ledger.ended() == {}
            assert web.ticks() == heard
            assert _reasons(cluster) == {("shop", "web")}
    finally:
        cluster.kubectl("delete", _WHERE, "deployment/ticks", "service/ticks", "allowlist/ticks", "--wait=false")


def _enforced(cluster: Cluster) -> None:
    """Wait until the document as it was applied last is enforced by every sidecar of the service."""

    def said() -> bool:
        document = cluster.get("allowlist", "ticks", _WHERE)
        status = document.get("status", {})
        seen = status.get("observedGeneration") == document["metadata"]["generation"]
        return seen and status["enforced"] == f"{_REPLICAS}/{_REPLICAS}"

    until(said, f"that {_REPLICAS} of {_REPLICAS} enforce the allowlist")


def _reasons(cluster: Cluster) -> set[tuple[str, str]]:
    """Whose open connections the service's sidecars ended, because policy changed."""
    words = ("logs", _WHERE, "--selector=app=ticks", "--container=ringfence-sidecar", "--tail=-1")
    lines = [json.loads(line) for line in cluster.kubectl(*words).splitlines()]
    return {tuple(line["peer"].rsplit("/", 3)[1::2]) for line in lines if line.get("detail") == "policy changed"}


def _permit(cluster: Cluster, *accounts: str) -> None:
    rule = {"name": "listens", "from": list(accounts), "to": {"ports": [7100, 8080]}}
    cluster.apply(
        {
            "apiVersion": "ringfence.io/v1alpha1",
            "kind": "Allowlist",
            "metadata": {"name": "ticks", "namespace": "shop"},
            "spec": {"service": "ticks", "rules": [rule]},
        }
    )


def _server() -> list[dict[str, Any]]:
    container = {
        "name": "app",
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", _TICKS],
        "securityContext": {"runAsUser": 1000},
    }
    pods = {
        "metadata": {"labels": {"app": "ticks"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    metadata = {"name": "ticks", "namespace": "shop"}
    spec = {"replicas": _REPLICAS, "selector": {"matchLabels": {"app": "ticks"}}, "template": pods}
    ports = [{"name": name, "port": port, "appProtocol": name} for name, port in (("tcp", 7100), ("http", 8080))]
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "ticks"}, "ports": ports},
        },
    ]
