"""Probes of every kind, asked by a real kubelet of a pod that nobody may call: each passes, and tells when its own
container is ill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.callers import caller
from tests.cluster.cluster import Cluster
from tests.cluster.machine import ClusterError, until
from tests.cluster.mesh import Mesh, state
from tests.cluster.product_image import NAME
from tests.cluster.workloads import caller_pod

_WHERE = "--namespace=shop"
# Serves one kind on one port, and is ill once /tmp/ill is there: by its answer, or, for tcp, by taking no connection.
_APP = """
import http.server, os, socket, ssl, subprocess, sys, time
kind, port = sys.argv[1], int(sys.argv[2])
def ill():
    return os.path.exists("/tmp/ill")
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        well = self.path == "/well" and self.headers["x-asks"] == "kubelet" and not ill()
        self.send_response(200 if well else 500)
        self.end_headers()
    def log_message(self, *_): pass
def certificate():
    import datetime
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    with open("/tmp/app.pem", "wb") as file:
        file.write(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        file.write(key.private_bytes(*(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8),
            serialization.NoEncryption()))
    return "/tmp/app.pem"
def health():
    import concurrent.futures, grpc
    class Health(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == "/grpc.health.v1.Health/Check":
                return grpc.unary_unary_rpc_method_handler(self.check)
        def check(self, request, context):
            if request not in (b"", b"\\x0a\\x04shop"):
                context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
            return b"\\x08\\x02" if ill() else b"\\x08\\x01"
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Health()])
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    server.wait_for_termination()
if kind in ("http", "https"):
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Page)
    if kind == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate())
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
elif kind == "grpc":
    health()
elif kind == "tcp":
    with socket.create_server(("0.0.0.0", port)) as listener:
        listener.settimeout(0.2)
        while not ill():
            try:
                listener.accept()[0].close()
            except TimeoutError:
                pass
time.sleep(10000)
"""
_HEADERS = [{"name": "x-asks", "value": "kubelet"}]


def _page(port: int | str, scheme: str) -> dict[str, Any]:
    return {"httpGet": {"port": port, "path": "/well", "scheme": scheme, "httpHeaders": _HEADERS}}


# By container: what it serves, and how it is asked. Kubernetes asks gRPC by number alone.
PROBES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "http-by-name": ("http", 7001, _page("p7001", "HTTP")),
    "http-by-number": ("http", 7002, _page(7002, "HTTP")),
    "https-by-name": ("https", 7003, _page("p7003", "HTTPS")),
    "https-by-number": ("https", 7004, _page(7004, "HTTPS")),
    "tcp-by-name": ("tcp", 7005, {"tcpSocket": {"port": "p7005"}}),
    "tcp-by-number": ("tcp", 7006, {"tcpSocket": {"port": 7006}}),
    "grpc-of-all": ("grpc", 7007, {"grpc": {"port": 7007}}),
    "grpc-of-one": ("grpc", 7008, {"grpc": {"port": 7008, "service": "shop"}}),
    "exec": ("nothing", 7009, {"exec": {"command": ["test", "!", "-e", "/tmp/ill"]}}),
}
# Each the neighbour of one that passes.
WRONG: dict[str, tuple[str, int, dict[str, Any]]] = {
    "https-of-http": ("http", 7011, _page(7011, "HTTPS")),
    "http-of-https": ("https", 7012, _page(7012, "HTTP")),
    "grpc-of-nobody": ("grpc", 7013, {"grpc": {"port": 7013, "service": "nobody"}}),
    "tcp-of-no-one": ("nothing", 7014, {"tcpSocket": {"port": 7014}}),
}


def _container(name: str, kind: str, port: int, probe: dict[str, Any]) -> dict[str, Any]:
    timing = {"periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 2}
    first = {"startupProbe": {**probe, **timing, "failureThreshold": 100}} if name in PROBES else {}
    return {
        "name": name,
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", _APP, kind, str(port)],
        "ports": [{"name": f"p{port}", "containerPort": port}],
        "readinessProbe": {**probe, **timing},
        "livenessProbe": {**probe, **timing, "failureThreshold": 10_000},
        "securityContext": {"runAsUser": 1000},
        **first,
    }


@pytest.fixture(scope="module")
def probed(meshed: Mesh) -> Iterator[Cluster]:
    """A cluster with a pod ``probed`` of many containers, which no rule lets anybody call."""
    cluster = meshed.cluster
    containers = [_container(name, *told) for name, told in (PROBES | WRONG).items()]
    metadata = {"name": "probed", "namespace": "shop"}
    spec = {"containers": containers, "terminationGracePeriodSeconds": 1}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    try:
        try:
            until(lambda: _ready(cluster) >= PROBES.keys(), "containers that are ready")
        except ClusterError as error:
            raise ClusterError(state(cluster, "shop")) from error
        yield cluster
    finally:
        cluster.kubectl("delete", _WHERE, "pod/probed", "--wait=false", "--grace-period=1")


@pytest.fixture(scope="module")
def ill() -> set[str]:
    """The containers that tests have made ill so far."""
    return set()


def _ready(cluster: Cluster) -> set[str]:
    statuses = cluster.get("pod", "probed", _WHERE)["status"].get("containerStatuses", ())
    return {one["name"] for one in statuses if one["ready"]}


def test_nobody_else_reaches_what_is_probed(probed: Cluster) -> None:
    address = probed.get("pod", "probed", _WHERE)["status"]["podIP"]
    with caller(probed, "default", caller_pod("asks-probed")) as outside:
        assert outside("GET", f"{address}:7001/well")[0] == 0
    with caller(probed, "shop", caller_pod("asks-probed", serviceAccountName="web")) as inside:
        assert inside("GET", f"{address}:7001/well")[0] != 200


@pytest.mark.parametrize("name", WRONG)
def test_a_probe_asks_what_was_declared_and_nothing_else(probed: Cluster, name: str) -> None:
    def failed() -> bool:
        field = f"involvedObject.fieldPath=spec.containers{{{name}}}"
        events = probed.get("events", _WHERE, f"--field-selector={field},reason=Unhealthy")["items"]
        return any("Readiness probe failed" in one["message"] for one in events)

    until(failed, f"a failed probe of {name}")
    assert name not in _ready(probed)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_passes_under_default_deny_and_tells_when_its_container_is_ill(
    probed: Cluster, ill: set[str], name: str
) -> None:
    until(lambda: _ready(probed) == PROBES.keys() - ill, "that all are ready but those made ill before")
    ill.add(name)
    probed.kubectl("exec", _WHERE, "probed", f"--container={name}", "--", "touch", "/tmp/ill")
