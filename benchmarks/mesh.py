"""Our side: a control plane and sidecars as a user would run them, from a mesh file and a policy made here.

The processes are started one by one rather than by ``ringfence up``, so that their output goes to files and no
supervisor's relaying of log lines is mixed into the figures.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chain import Chain
from benchmarks.processes import free_ports, running, wait_until
from benchmarks.works import BenchmarkError

TRUST_DOMAIN = "bench.example"
_RINGFENCE = (sys.executable, "-m", "ringfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the mesh to be made: its sidecar's ports, and what it calls or what stands behind it."""

    name: str
    mesh_port: int
    signals_port: int
    access_log: str
    app_port: int | None = None
    upstream: str | None = None
    listen_port: int | None = None

    @property
    def spiffe_id(self) -> str:
        return f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{self.name}"

    def as_document(self) -> dict[str, object]:
        """The service as ``mesh.yaml`` has it."""
        document: dict[str, object] = {
            "name": self.name,
            "mesh": self.mesh_port,
            "signals": f"127.0.0.1:{self.signals_port}",
            "accessLog": self.access_log,
        }
        if self.app_port:
            document["ports"] = [{"port": 8080, "protocol": "http", "app": f"127.0.0.1:{self.app_port}"}]
        if self.upstream:
            document["upstreams"] = [
                {"service": self.upstream, "port": 8080, "listen": f"127.0.0.1:{self.listen_port}"}
            ]
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A control plane that is up: where sidecars join and listen, and its socket for administration."""

    join_port: int
    listen_port: int
    admin_socket: Path

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """A JSON answer of the administration socket; BenchmarkError unless it is a 2xx."""
        connection = _UnixConnection(self.admin_socket)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status // 100 != 2:
            raise BenchmarkError(f"the control plane answered {method} {path} with {response.status}: {text[:300]}")
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise BenchmarkError(f"the control plane answered {method} {path} with {text[:300]}")
        return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextlib.contextmanager
def http1_chains(
    folder: Path, backend_ports: tuple[int, int], path_templates: Sequence[str], ready_path: str, sampled: bool = False
) -> Iterator[tuple[Chain, Chain]]:
    """Run the mesh and give two chains, each to a port of the backend, the second with a log line for each request.

    ``sampled``: the sidecars run under ``benchmarks.sampler``.
    """
    home = folder / "mesh"
    home.mkdir()
    ports = iter(free_ports(14))
    services: dict[str, Service] = {}
    for suffix, access_log, backend_port in (("", "denied", backend_ports[0]), ("-logged", "all", backend_ports[1])):
        services[f"api{suffix}"] = Service(
            name=f"api{suffix}",
            mesh_port=next(ports),
            signals_port=next(ports),
            access_log=access_log,
            app_port=backend_port,
        )
        services[f"client{suffix}"] = Service(
            name=f"client{suffix}",
            mesh_port=next(ports),
            signals_port=next(ports),
            access_log=access_log,
            upstream=f"api{suffix}",
            listen_port=next(ports),
        )
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(
            control_plane(home, list(services.values()), path_templates, [next(ports) for _ in range(3)])
        )
        started = {
            name: stack.enter_context(sidecar(home, plane, service, sampled=sampled))
            for name, service in services.items()
        }
        found = []
        for suffix, label in (("", "ringfence"), ("-logged", "ringfence, access log: all")):
            client, api = started[f"client{suffix}"], started[f"api{suffix}"]
            port = services[f"client{suffix}"].listen_port or 0
            signals = services[f"client{suffix}"].signals_port, services[f"api{suffix}"].signals_port
            chain = Chain(name=label, port=port, client_side=client.pid, server_side=api.pid, signals=signals)
            for name, process in ((f"api{suffix}", api), (f"client{suffix}", client)):
                answers = functools.partial(chain.answers, ready_path)
                wait_until(answers, f"the sidecar of {name}", process, home / f"{name}.log", 30)
            found.append(chain)
        yield found[0], found[1]


@contextlib.contextmanager
def control_plane(
    home: Path, services: Sequence[Service], path_templates: Sequence[str], ports: Sequence[int]
) -> Iterator[ControlPlane]:
    """Write the mesh and its policies, and run a control plane of its own CA on ``ports`` (join, listen, signals)."""
    join, listen, signals = ports
    policies = home / "policies"
    policies.mkdir()
    # JSON is YAML too.
    (home / "mesh.yaml").write_text(json.dumps(mesh_document(services, join, listen, signals), indent=1))
    for service in services:
        if service.app_port:
            document = allowlist(service.name, service.name.replace("api", "client"), path_templates)
            (policies / f"{service.name}.yaml").write_text(json.dumps(document, indent=1))
    passphrase = home / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text("only-for-a-benchmark\n")
    state = home / "controlplane"
    state.mkdir(mode=0o700)
    plane = ControlPlane(join_port=join, listen_port=listen, admin_socket=state / "admin.sock")
    initialise(state / "ca", passphrase)
    command = [
        *(*_RINGFENCE, "controlplane", "--mesh", str(home / "mesh.yaml"), "--state", str(state)),
        *("--passphrase-file", str(passphrase), "--admin-socket", str(plane.admin_socket)),
    ]
    with running(command, home, "controlplane") as process:

        def answers() -> bool:
            try:
                return bool(plane.ask("GET", "/status"))
            except (OSError, http.client.HTTPException):
                return False

        wait_until(answers, "the control plane", process, home / "controlplane.log", 30)
        yield plane


def initialise(authority: Path, passphrase: Path) -> None:
    """Make the CA."""
    command = [
        *(*_RINGFENCE, "ca", "init", "--trust-domain", TRUST_DOMAIN, "--data", str(authority)),
        *("--passphrase-file", str(passphrase)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"ringfence ca init ended with status {done.returncode}: {done.stderr.strip()}")


@contextlib.contextmanager
def sidecar(
    home: Path, plane: ControlPlane, service: Service, *, sampled: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the sidecar of ``service``, joined by a token minted for it."""
    state = home / service.name
    state.mkdir(mode=0o700)
    token = plane.ask("POST", "/join-tokens", {"spiffe_id": service.spiffe_id, "ttl_seconds": 300})["token"]
    token_file = state / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(f"{token}\n")
    bundle = plane.ask("GET", "/bundle")
    start = (sys.executable, "-m", "benchmarks.sampler", str(home.parent)) if sampled else _RINGFENCE
    command = [
        *(*start, "sidecar", "--spiffe-id", service.spiffe_id),
        *("--join", f"127.0.0.1:{plane.join_port}", "--control", f"127.0.0.1:{plane.listen_port}"),
        *("--root-fingerprint", str(bundle["root_fingerprint"]), "--join-token-file", str(token_file)),
        *("--state", str(state), "--signals", f"127.0.0.1:{service.signals_port}"),
        *("--admin-socket", str(state / "admin.sock"), "--access-log", service.access_log),
    ]
    with running(command, home, service.name) as process:
        yield process


def mesh_document(services: Sequence[Service], join: int, listen: int, signals: int) -> dict[str, object]:
    """The ``mesh.yaml`` of ``services`` with a control plane on these ports."""
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Mesh",
        "metadata": {"name": "bench"},
        "spec": {
            "trustDomain": TRUST_DOMAIN,
            "policies": "policies",
            "controlPlane": {
                "join": f"127.0.0.1:{join}",
                "listen": f"127.0.0.1:{listen}",
                "signals": f"127.0.0.1:{signals}",
            },
            "services": [service.as_document() for service in services],
        },
    }


def allowlist(service: str, caller: str, path_templates: Sequence[str]) -> dict[str, object]:
    """The policy document that lets ``caller`` read what ``path_templates`` name, and nothing else."""
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": f"{service}-callers", "namespace": "default"},
        "spec": {
            "service": service,
            "rules": [
                {
                    "name": "reads",
                    "from": [{"spiffeId": f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{caller}"}],
                    "to": {"ports": [8080], "methods": ["GET"], "paths": list(path_templates)},
                }
            ],
        },
    }
