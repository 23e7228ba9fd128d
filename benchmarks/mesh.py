"""Our side: a control plane and sidecars as a user would run them, from a mesh file and policies made here.

The processes are started one by one rather than by ``ringfence up``, so that their output goes to files and no
supervisor's relaying of log lines is mixed into the figures.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chain import Chain
from benchmarks.mesh_documents import (
    FORBIDDEN_PORT,
    HTTP_PORT,
    TCP_PORT,
    TRUST_DOMAIN,
    Document,
    Port,
    Service,
    Upstream,
    allowlist,
    mesh_document,
    reads,
)
from benchmarks.processes import free_ports, running, wait_until
from benchmarks.works import BenchmarkError

OURS = "ringfence"
_RULES_A_FILE = 1_000
PASSPHRASE = "only-for-a-benchmark"
_RINGFENCE = (sys.executable, "-m", "ringfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A control plane that is up: its process, where sidecars join and listen, and its socket for administration."""

    pid: int
    home: Path
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

    def join_token(self, spiffe_id: str) -> str:
        """A join token for this workload, good for a few minutes."""
        return str(self.ask("POST", "/join-tokens", {"spiffe_id": spiffe_id, "ttl_seconds": 300})["token"])

    def write_policy(self, name: str, document: Document, *, in_place: bool = False) -> None:
        """Put a policy document into its file, which the control plane watches: at once and whole by a rename, or
        written over the old one."""
        _write_document(self.home / "policies", name, document, in_place=in_place)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A chain of ours to be run: two sidecars of its own in front of ``backend_port``.

    ``protocol``: ``http`` or ``http2``, where ``path_templates`` may be read and nothing else; or ``tcp``. ``suffix``
    tells its services from those of other chains, ``label`` its name in reports.
    """

    protocol: str
    backend_port: int
    path_templates: Sequence[str] = ()
    label: str = OURS
    suffix: str = ""
    access_log: str = "denied"
    log_level: str = "info"
    """At ``info`` each sidecar writes a line for each connection that ends."""
    rule_count: int = 1
    """Rules of the policy, each for other paths; the last is the one that permits ``path_templates``."""

    def services(self, ports: Iterator[int]) -> tuple[Service, Service]:
        """``api`` and its ``client``; of opaque ports there are two, the second forbidden."""
        numbers = (TCP_PORT, FORBIDDEN_PORT) if self.protocol == "tcp" else (HTTP_PORT,)
        api = Service(
            name=f"api{self.suffix}",
            mesh_port=next(ports),
            signals_port=next(ports),
            access_log=self.access_log,
            ports=tuple(Port(port=number, protocol=self.protocol, app_port=self.backend_port) for number in numbers),
        )
        client = Service(
            name=f"client{self.suffix}",
            mesh_port=next(ports),
            signals_port=next(ports),
            access_log=self.access_log,
            upstreams=tuple(Upstream(service=api.name, port=number, listen_port=next(ports)) for number in numbers),
        )
        return api, client

    def policies(self) -> dict[str, Document]:
        """What ``client`` may do, by the name of the file; a file has at most ``_RULES_A_FILE`` rules."""
        words: Document = {"ports": [TCP_PORT]} if self.protocol == "tcp" else reads(self.path_templates)
        others = [reads((f"/others/{number}/{{id}}",)) for number in range(self.rule_count - 1)]
        rules = [*others, words]
        found = {}
        for start in range(0, len(rules), _RULES_A_FILE):
            part = f"-{start}" if start else ""
            permitted = rules[start : start + _RULES_A_FILE]
            found[f"api{self.suffix}{part}"] = allowlist(
                f"api{self.suffix}", f"client{self.suffix}", *permitted, part=part
            )
        return found


@contextlib.contextmanager
def chains(
    folder: Path, wanted: Sequence[Wanted], ready_path: str, *, sampled: bool = False
) -> Iterator[tuple[Chain, ...]]:
    """Run one control plane and the sidecars of each wanted chain, and give the chains once they answer.

    ``sampled``: the sidecars run under ``benchmarks.sampler``.
    """
    home = folder / "mesh"
    home.mkdir()
    ports = iter(free_ports(3 + 6 * len(wanted)))
    sides = [(each, *each.services(ports)) for each in wanted]
    services = [service for _, api, client in sides for service in (api, client)]
    levels = {service.name: each.log_level for each, *both in sides for service in both}
    policies = {name: document for each, _, _ in sides for name, document in each.policies().items()}
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(control_plane(home, services, policies, [next(ports) for _ in range(3)]))
        pids: dict[str, subprocess.Popen[bytes]] = {}
        for service in services:
            sidecars = sidecar(plane, service, levels[service.name], sampled_into=folder if sampled else None)
            pids[service.name] = stack.enter_context(sidecars)
        found = []
        for each, api, client in sides:
            chain = Chain(
                name=each.label,
                port=client.upstreams[0].listen_port,
                client_side=pids[client.name].pid,
                server_side=pids[api.name].pid,
                signals=(client.signals_port, api.signals_port),
                http2=each.protocol == "http2",
                mesh_port=api.mesh_port,
                home=home,
                plane=plane,
                forbidden_port=client.upstreams[1].listen_port if client.upstreams[1:] else None,
            )
            for name in (api.name, client.name):
                answers = functools.partial(chain.answers, ready_path)
                wait_until(answers, f"the sidecar of {name}", pids[name], home / f"{name}.log", 30)
            found.append(chain)
        yield tuple(found)


@contextlib.contextmanager
def control_plane(
    home: Path,
    services: Sequence[Service],
    policies: Mapping[str, Document],
    ports: Sequence[int],
    lifetime_seconds: int | None = None,
) -> Iterator[ControlPlane]:
    """Write the mesh and its policies, and run a control plane of its own CA on ``ports`` (join, listen, signals);
    ``lifetime_seconds`` of the SVIDs, else the mesh's own."""
    join, listen, signals = ports
    (home / "policies").mkdir()
    _write_document(home, "mesh", mesh_document(services, join, listen, signals, lifetime_seconds))
    for name, document in policies.items():
        _write_document(home / "policies", name, document)
    passphrase = home / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(f"{PASSPHRASE}\n")
    state = home / "controlplane"
    state.mkdir(mode=0o700)
    admin_socket = state / "admin.sock"
    initialise(state / "ca", passphrase)
    command = [
        *(*_RINGFENCE, "controlplane", "--mesh", str(home / "mesh.yaml"), "--state", str(state)),
        *("--passphrase-file", str(passphrase), "--admin-socket", str(admin_socket)),
    ]
    with running(command, home, "controlplane") as process:
        plane = ControlPlane(pid=process.pid, home=home, join_port=join, listen_port=listen, admin_socket=admin_socket)

        def answers() -> bool:
            try:
                return bool(plane.ask("GET", "/status"))
            except (OSError, http.client.HTTPException):
                return False

        wait_until(answers, "the control plane", process, home / "controlplane.log", 30)
        yield plane


def _write_document(folder: Path, name: str, document: Document, *, in_place: bool = False) -> None:
    # JSON is YAML too.
    file = folder / f"{name}.yaml"
    partial = file if in_place else folder / f"{name}.partial"
    partial.write_text(json.dumps(document, indent=1))
    if not in_place:
        os.replace(partial, file)  # noqa: PTH105


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
    plane: ControlPlane, service: Service, log_level: str = "info", *, sampled_into: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the sidecar of ``service``; a first time it joins by a token minted for it, then by its host key."""
    command = [*sidecar_command(plane, service, sampled_into), "--log-level", log_level]
    with running(command, plane.home, service.name) as process:
        yield process


def sidecar_command(plane: ControlPlane, service: Service, sampled_into: Path | None = None) -> list[str]:
    """The command that runs the sidecar of ``service``, all that it needs put into its state folder."""
    state = plane.home / service.name
    if not state.exists():
        state.mkdir(mode=0o700)
        token_file = state / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(f"{plane.join_token(service.spiffe_id)}\n")
    bundle = plane.ask("GET", "/bundle")
    sampler = ("-m", "benchmarks.sampler", str(sampled_into), "sidecar")
    return [
        *(sys.executable, *(sampler if sampled_into else ("-m", "sidecar"))),  # as `ringfence up` starts it
        *("--spiffe-id", service.spiffe_id),
        *("--join", f"127.0.0.1:{plane.join_port}", "--control", f"127.0.0.1:{plane.listen_port}"),
        *("--root-fingerprint", str(bundle["root_fingerprint"]), "--join-token-file", str(state / "token")),
        *("--state", str(state), "--signals", f"127.0.0.1:{service.signals_port}"),
        *("--admin-socket", str(state / "admin.sock"), "--access-log", service.access_log),
    ]
