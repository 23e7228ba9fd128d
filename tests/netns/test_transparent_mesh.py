"""Two pods and a host between them, with the product's own processes: the apps know nothing of the mesh.

``web``'s pod calls by the addresses that the service ``api`` is known by, on IPv4 and IPv6; the redirect rules of each
pod lead its connections to its sidecar. The control plane runs on the host, which also is what lies outside the mesh.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import ca
from ringfence.spiffe import TrustDomain, fingerprint
from tests.integration.test_controlplane_process import ask
from tests.netns.conftest import Network, new_space
from tests.netns.spaces import HERE, Ends, Space, cable
from tests.pki import new_key
from tests.postgres import Cluster, server_programs

PASSPHRASE = b"correct horse battery staple"
SIDECAR_GID = 1337  # the sidecar is root here, as only root reads this checkout; its group tells its own traffic
WEB, API = "spiffe://shop.example/ns/shop/sa/web", "spiffe://shop.example/ns/shop/sa/api"
VIRTUAL = {"ipv4": "10.96.0.10", "ipv6": "fd96::10"}
VERSIONS = tuple(VIRTUAL)
_SECONDS = 60.0


def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come about in {_SECONDS:.0f} s"
        time.sleep(0.05)


class Pod:
    """A namespace with a sidecar in it."""

    def __init__(self, space: Space, at: Ends, host_at: Ends, folder: Path, spiffe_id: str) -> None:
        self.space = space
        self.at = at
        self.spiffe_id = spiffe_id
        self.log_file = folder / f"{space.word}.log"
        self._folder = folder
        self._start: tuple[str, ...] = ()
        self.before = ""  # the rules when there were none of ours
        for version, via in (("-4", host_at.ipv4), ("-6", host_at.ipv6)):
            space.run("ip", version, "route", "add", "default", "via", via)
        self._network = Network(pod=space, outside=space, pod_at=at, outside_at=host_at, backend="auto")

    def start_sidecar(self, host: str, pin: str, token: str) -> None:
        token_file = self._folder / f"{self.space.word}.token"
        token_file.write_text(token)
        token_file.chmod(0o600)
        self._start = (
            *("sh", "-c", 'exec "$@" 2>>"$0"', str(self.log_file)),
            *("setpriv", "--regid", str(SIDECAR_GID), "--clear-groups", "--"),
            *(sys.executable, "-P", "-m", "ringfence", "sidecar", "--spiffe-id", self.spiffe_id),
            *("--join", f"{host}:7401", "--control", f"{host}:7402", "--root-fingerprint", pin),
            *("--join-token-file", str(token_file), "--state", str(self._folder / f"{self.space.word}-state")),
            *("--signals", f"{self.at.ipv4}:9402", "--expect-redirect", "true"),
            *("--pod-address", f"{self.at.ipv4},{self.at.ipv6}"),
        )
        self.restart()

    def restart(self) -> None:
        """As the kubelet does it once the sidecar has ended: its state is there, its token spent."""
        self._sidecar = self.space.start(*self._start)

    def kill(self) -> None:
        self._sidecar.kill()
        self._sidecar.wait()

    @property
    def ready(self) -> bool:
        return self.curl(f"http://{self.at.ipv4}:9402/readyz").returncode == 0

    @property
    def waits_for_redirect(self) -> bool:
        """Whether nothing else keeps it from being ready, and it has tried."""
        told = self.curl("--no-fail-with-body", f"http://{self.at.ipv4}:9402/readyz").stdout
        waits = json.loads(told)["waiting_for"] if told else []
        return waits == [
            "its redirect: connections of the app are not led here by IPv4 and IPv6 "
            "(see that the CNI plugin, or `ringfence redirect install`, is done here, and of this version)"
        ]

    def curl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.space.try_run("curl", "--silent", "--fail-with-body", "--max-time", "20", *words)

    def call(self, kind: str, host: str, port: int) -> list[Any]:
        found: list[Any] = json.loads(
            self.space.run(sys.executable, str(HERE / "calling.py"), kind, host, str(port)).splitlines()[-1]
        )
        return found

    def rules(self) -> str:
        return self._network.rules()

    def install(self) -> None:
        done = self.space.redirect("install", "--sidecar-gid", str(SIDECAR_GID), "--signals-port", "9402")
        assert done.returncode == 0, done.stderr

    def remove(self) -> None:
        done = self.space.redirect("remove")
        assert done.returncode == 0, done.stderr

    def logged(self, message: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log_file.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["msg"] == message]

    def metric(self, start: str) -> float:
        """The sum of the metric's samples whose lines begin so."""
        text = self.curl(f"http://{self.at.ipv4}:9402/metrics").stdout
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


class PodPostgres(Cluster):
    """A PostgreSQL in a pod: on loopback there, with TLS of its own."""

    def __init__(self, programs: Path, space: Space) -> None:
        super().__init__(programs)
        self._space = space

    def start(self) -> None:
        self._write_certificate()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": "5432",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "16MB",
            "ssl": "on",
            "ssl_cert_file": str(self.folder / "own.pem"),
            "ssl_key_file": str(self.folder / "own.key"),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self._space.name),
                    *("setpriv", "--reuid", str(self._user), "--regid", str(self._group), "--clear-groups"),
                    *("--pdeathsig", "QUIT", "--"),
                    *(str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options),
                ],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, "PostgreSQL")

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self._log.read_text()
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _write_certificate(self) -> None:
        key, now = new_key(), datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "postgres")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        (self.folder / "own.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = self.folder / "own.key"
        private.touch(0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        if self._user:
            shutil.chown(private, self._user)


class Shop:
    """The whole of it."""

    def __init__(self, web: Pod, api: Pod, host: Space, host_at: Ends) -> None:
        self.web = web
        self.api = api
        self.host = host
        self.host_at = host_at  # what lies outside, as web sees it


def mesh_text(web: Ends, api: Ends, host: Ends) -> str:
    return f"""\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {{name: shop}}
spec:
  trustDomain: shop.example
  controlPlane: {{join: "{host.ipv4}:7401", listen: "{host.ipv4}:7402", signals: "127.0.0.1:7400"}}
  services:
    - name: web
      namespace: shop
      address: {web.ipv4}
      mesh: 15008
      intercept: {{}}
      ports:
        - {{port: 9999, protocol: tcp, app: 9999}}
      upstreams:
{"".join(f"        - {{service: api, port: {port}}}{chr(10)}" for port in (8080, 50051, 5432, 2525, 2526))}\
      egress:
        - {{name: partner, cidrs: ["{host.ipv4}/32", "{host.ipv6}/128"], ports: [8081]}}
    - name: api
      namespace: shop
      address: {api.ipv4}
      mesh: 15008
      virtualAddresses: ["{VIRTUAL["ipv4"]}", "{VIRTUAL["ipv6"]}"]
      intercept: {{}}
      ports:
        - {{port: 8080, protocol: http, app: 8080}}
        - {{port: 8088, protocol: http, app: 8088, mode: permissive}}
        - {{port: 50051, protocol: grpc, app: 50051}}
        - {{port: 5432, protocol: tcp, app: 5432}}
        - {{port: 2525, protocol: tcp, app: 2525}}
        - {{port: 2526, protocol: tcp, app: 2526}}
"""


POLICY = f"""\
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {{name: api, namespace: shop}}
spec:
  service: api
  rules:
    - name: reads
      from: [{{spiffeId: {WEB}}}]
      to: {{ports: [8080], methods: [GET], paths: ["/orders/{{id}}", "/ws"]}}
    - name: calls
      from: [{{spiffeId: {WEB}}}]
      to: {{ports: [50051], methods: [POST], paths: ["/test.Echo/{{method}}"]}}
    - name: opaque
      from: [{{spiffeId: {WEB}}}]
      to: {{ports: [5432, 2525]}}
    - name: public
      from: [{{unauthenticated: true}}]
      to: {{ports: [8088], methods: [GET], paths: [/public]}}
"""


def start_control_plane(host: Space, folder: Path) -> tuple[Path, str]:
    """Its admin socket and the fingerprint of its root."""
    (folder / "policies").mkdir()
    (folder / "policies" / "api.yaml").write_text(POLICY)
    state = folder / "state"
    state.mkdir(mode=0o700)
    passphrase = folder / "passphrase"
    passphrase.write_bytes(PASSPHRASE)
    passphrase.chmod(0o600)
    ca.init_authority(state / "ca", TrustDomain("shop.example"), PASSPHRASE)
    log = folder / "controlplane.log"
    host.start(
        *("sh", "-c", 'exec "$@" 2>"$0"', str(log), sys.executable, "-P", "-m", "ringfence", "controlplane"),
        *("--mesh", str(folder / "mesh.yaml"), "--state", str(state), "--passphrase-file", str(passphrase)),
    )
    until(lambda: log.exists() and '"control plane ready"' in log.read_text(), "the control plane")
    admin = state / "run" / "admin.sock"
    root = x509.load_pem_x509_certificate(ask(admin, "GET", "/bundle")[1]["roots_pem"].encode())
    return admin, fingerprint(root.public_bytes(Encoding.DER))


@pytest.fixture(scope="module")
def shop(administrator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two pods joined by a host, all processes ready, all rules in place; gone afterwards, whatever happens."""
    programs = server_programs()
    folder = tmp_path_factory.mktemp("transparent")
    with ExitStack() as stack:
        host, web_space, api_space = (new_space(stack, word) for word in ("host", "web", "api"))
        web_at, host_by_web = cable(web_space, host, 1, "web0")
        api_at, host_by_api = cable(api_space, host, 2, "api0")
        host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        web = Pod(web_space, web_at, host_by_web, folder, WEB)
        api = Pod(api_space, api_at, host_by_api, folder, API)
        host.land(8081, 8082)
        serving = api_space.start(sys.executable, str(HERE / "serving.py"))
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        postgres = PodPostgres(programs, api_space)
        stack.callback(postgres.remove)
        postgres.make()
        (folder / "mesh.yaml").write_text(mesh_text(web_at, api_at, host_by_web))
        admin, pin = start_control_plane(host, folder)
        for pod in (web, api):
            status, minted = ask(admin, "POST", "/join-tokens", {"spiffe_id": pod.spiffe_id, "ttl_seconds": 300})
            assert status == 201, minted
            pod.start_sidecar(host_by_web.ipv4, pin, minted["token"])
        for pod in (web, api):
            until(lambda pod=pod: pod.waits_for_redirect, f"the sidecar of {pod.space.word}, without a redirect")
            assert pod.metric("ringfence_redirect_missing") == 1
            pod.before = pod.rules()
            pod.install()
            until(lambda pod=pod: pod.ready, f"the sidecar of {pod.space.word}")
            assert pod.metric("ringfence_redirect_missing") == 0
        yield Shop(web, api, host, host_by_web)


def url(version: str, port: int, path: str) -> str:
    host = f"[{VIRTUAL[version]}]" if version == "ipv6" else VIRTUAL[version]
    return f"http://{host}:{port}{path}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_arrives_with_its_callers_identity(shop: Shop, version: str) -> None:
    done = shop.web.curl(url(version, 8080, "/orders/1"))
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout)
    assert told["path"] == "/orders/1"
    assert f"URI={WEB}" in told["caller"]
    assert f"By={API};" in told["caller"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_forbidden_request_is_refused_with_its_reason(shop: Shop, version: str) -> None:
    done = shop.web.curl(url(version, 8080, "/admin"))
    assert done.returncode == 22  # an HTTP error
    assert json.loads(done.stdout)["reason"] == "path_not_allowed"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_websocket_pair_talks(shop: Shop, version: str) -> None:
    assert shop.web.call("websocket", VIRTUAL[version], 8080) == ["cba", "300000"]


@pytest.mark.parametrize("version", VERSIONS)
def test_grpc_calls_pass_and_a_forbidden_one_is_refused(shop: Shop, version: str) -> None:
    found = shop.web.call("grpc", VIRTUAL[version], 50051)
    assert found == ["cba", "ONE", "TWO", "THREE", "PERMISSION_DENIED"]


def carried(shop: Shop, port: int) -> list[dict[str, Any]]:
    """The lines of connections to an opaque port of api that came from web through the mesh."""
    lines = shop.api.logged("connection ended")
    return [line for line in lines if (line["port"], line["peer"], line.get("rule")) == (port, WEB, "opaque")]


@pytest.mark.parametrize("version", VERSIONS)
def test_postgresql_works_with_its_own_tls(shop: Shop, version: str) -> None:
    assert shop.web.call("postgres", VIRTUAL[version], 5432) == [True, 500500, 2_000_000]
    until(lambda: carried(shop, 5432), "the connection's line")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_may_speak_first(shop: Shop, version: str) -> None:
    assert shop.web.call("greeting", VIRTUAL[version], 2525) == ["220 mail.shop.example ready", "221 bye"]
    until(lambda: carried(shop, 2525), "the connection's line")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_forbidden_opaque_service_gives_no_byte(shop: Shop, version: str) -> None:
    assert shop.web.call("greeting", VIRTUAL[version], 2526) in (
        ["", ""],
        ["ConnectionResetError"],
        ["BrokenPipeError"],
    )
    until(lambda: [line for line in shop.api.logged("connection denied") if line["port"] == 2526], "the denial's line")


@pytest.mark.parametrize("version", VERSIONS)
def test_outside_is_reached_by_an_egress_rule_and_else_not(shop: Shop, version: str) -> None:
    outside = shop.host_at[version]
    assert shop.web.space.dial(outside, 8081)["space"] == "host"
    before = shop.web.metric("ringfence_denials_total{")
    assert shop.web.space.dial(outside, 8082)["error"] == "ConnectionResetError"
    assert shop.web.metric("ringfence_denials_total{") == before + 1
    shown = f"[{outside}]:8082" if version == "ipv6" else f"{outside}:8082"

    def told() -> bool:
        lines = shop.web.logged("connection denied")
        return ("egress_not_allowed", shown) in [(line["reason"], line.get("destination")) for line in lines]

    until(told, "the denial's line")


@pytest.mark.parametrize("version", VERSIONS)
def test_plaintext_to_a_strict_port_is_refused_and_to_a_permissive_one_judged(shop: Shop, version: str) -> None:
    def ask_api(port: int, path: str) -> subprocess.CompletedProcess[str]:
        at = f"[{shop.api.at.ipv6}]" if version == "ipv6" else shop.api.at.ipv4
        return shop.host.try_run("curl", "-s", "--max-time", "20", f"http://{at}:{port}{path}")

    assert ask_api(8080, "/orders/1").returncode == 56  # reset
    until(
        lambda: [line for line in shop.api.logged("connection denied") if line.get("reason") == "plaintext_refused"],
        "the refusal's line",
    )
    served = ask_api(8088, "/public")
    assert json.loads(served.stdout) == {"path": "/public", "caller": ""}
    assert json.loads(ask_api(8088, "/orders/1").stdout)["reason"] == "path_not_allowed"
    assert shop.api.metric("ringfence_plaintext_callers_total{") >= 2


@pytest.mark.parametrize("version", VERSIONS)
def test_while_a_killed_sidecar_is_away_nothing_leaks_and_it_comes_back(shop: Shop, version: str) -> None:
    outside = shop.host_at[version]
    told = url(version, 8080, "/orders/1")
    for pod in (shop.web, shop.api):
        pod.kill()
        assert shop.host.dial(pod.at[version], 8080)["error"] == "ConnectionRefusedError"
        # Neither what is permitted nor what is not gets out, in the clear least of all.
        if pod is shop.web:
            for port in (8081, 8082):
                assert pod.space.dial(outside, port)["error"] == "ConnectionRefusedError"
        assert shop.web.curl(told).returncode in (7, 22)  # refused, or answered by its own sidecar
        pod.restart()
        until(lambda pod=pod: pod.ready, f"the sidecar of {pod.space.word}, again")
    until(lambda: shop.web.curl(told).returncode == 0, "the first call after")
    assert shop.web.space.dial(outside, 8081)["space"] == "host"


def test_removal_leaves_the_rules_as_they_were(shop: Shop) -> None:
    assert shop.web.rules() != shop.web.before
    shop.web.remove()
    try:
        assert shop.web.rules() == shop.web.before
        # Without rules outside is reached without anybody's leave.
        assert shop.web.space.dial(shop.host_at.ipv4, 8082)["space"] == "host"
    finally:
        shop.web.install()
    assert shop.web.curl(url("ipv4", 8080, "/orders/2")).returncode == 0
