"""The mesh of the soak: an app of four protocols, its caller, and a policy with a part that comes and goes."""

from __future__ import annotations

import contextlib
import http.client
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import mesh
from benchmarks.mesh_documents import Document, Port, Service, Upstream, allowlist
from benchmarks.processes import free_ports, running, wait_until

HTTP: Final = 8080
GRPC: Final = 50051
ECHO: Final = 9000
ECHO_CHANGING: Final = 9001
ECHO_FORBIDDEN: Final = 9002
GREETING: Final = 2525
_PROTOCOLS: Final = {HTTP: "http", GRPC: "grpc"}
_PORTS: Final = (HTTP, GRPC, ECHO, ECHO_CHANGING, ECHO_FORBIDDEN, GREETING)
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


def policy(revision: int) -> Document:
    """The allowlist at this revision; what ``changing_permitted`` speaks of is in it at every second one.

    A rule whose path no call has makes every revision differ from each other one.
    """
    permitted: list[Document] = [
        {"ports": [HTTP], "methods": ["GET", "POST"], "paths": ["/orders/{id}", "/orders", "/ws"]},
        {"ports": [GRPC], "methods": ["POST"], "paths": ["/soak.Echo/{method}"]},
        {"ports": [ECHO, GREETING]},
        {"ports": [HTTP], "methods": ["GET"], "paths": [f"/revision/{revision}"]},
    ]
    if changing_permitted(revision):
        permitted += [{"ports": [HTTP], "methods": ["GET"], "paths": ["/changing"]}, {"ports": [ECHO_CHANGING]}]
    return allowlist("api", "client", *permitted)


def changing_permitted(revision: int) -> bool:
    """Whether GET /changing and the port ``ECHO_CHANGING`` are permitted at this revision."""
    return revision % 2 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A mesh that serves: where its caller's app dials each port of ``api``, and the processes to watch."""

    plane: mesh.ControlPlane
    doors: dict[int, int]
    pids: dict[str, int]
    signals: dict[str, int]

    def enforce(self, revision: int) -> None:
        """Save the policy of this revision, which the control plane watches."""
        self.plane.write_policy("api", policy(revision))

    def metric(self, side: str, start: str) -> float:
        """The sum of the samples of one sidecar whose lines begin so; ``side``: ``client`` or ``api``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.signals[side], timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


@contextlib.contextmanager
def shop(folder: Path, lifetime_seconds: int) -> Iterator[Shop]:
    """Run the app, the control plane and both sidecars; ended on leaving."""
    home = folder / "mesh"
    home.mkdir()
    ports = iter(free_ports(11 + len(_PORTS)))
    http_app, grpc_app, echo_app, greeting_app = (next(ports) for _ in range(4))
    apps = {HTTP: http_app, GRPC: grpc_app, GREETING: greeting_app}
    api = Service(
        name="api",
        mesh_port=next(ports),
        signals_port=next(ports),
        ports=tuple(
            Port(port=number, protocol=_PROTOCOLS.get(number, "tcp"), app_port=apps.get(number, echo_app))
            for number in _PORTS
        ),
    )
    client = Service(
        name="client",
        mesh_port=next(ports),
        signals_port=next(ports),
        upstreams=tuple(Upstream(service="api", port=number, listen_port=next(ports)) for number in _PORTS),
    )
    addresses = [next(ports) for _ in range(3)]
    command = [sys.executable, "-m", "benchmarks.soak.site", *map(str, (http_app, grpc_app, echo_app, greeting_app))]
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(running(command, folder, "site", {"PYTHONPATH": str(_REPOSITORY)}))
        site_log = folder / "site.log"
        wait_until(lambda: "ready" in site_log.read_text(), "the app", site, site_log, 30)
        plane = stack.enter_context(
            mesh.control_plane(home, [api, client], {"api": policy(0)}, addresses, lifetime_seconds)
        )
        sidecars = {service.name: stack.enter_context(mesh.sidecar(plane, service)) for service in (api, client)}
        found = Shop(
            plane=plane,
            doors={upstream.port: upstream.listen_port for upstream in client.upstreams},
            pids={"control plane": plane.pid, **{f"sidecar of {name}": each.pid for name, each in sidecars.items()}},
            signals={service.name: service.signals_port for service in (api, client)},
        )
        for name, process in sidecars.items():
            wait_until(lambda name=name: _ready(found.signals[name]), name, process, home / f"{name}.log", 30)  # type: ignore[misc]
        yield found


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
