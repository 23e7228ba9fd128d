"""A chain to be measured: client → client-side proxy → mutual TLS → server-side proxy → backend."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import h2load
from benchmarks.processes import cpu_seconds, resident_megabytes
from benchmarks.works import BenchmarkError

if TYPE_CHECKING:
    from benchmarks.mesh import ControlPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Two proxies that are up: the port that the app calls, and the process of each side.

    ``signals``: where each side serves its metrics, if they are ours. ``forbidden_port``: where the app may try what
    the policy does not permit, if there is such a port.
    """

    name: str
    port: int
    client_side: int
    server_side: int
    signals: tuple[int, int] | None = None
    forbidden_port: int | None = None
    mesh_port: int = 0
    """Where the server side takes mutual TLS."""
    plane: ControlPlane | None = None
    """Of ours."""
    home: Path = field(default_factory=Path)
    """The folder of its files."""
    http2: bool = False
    """The app calls over HTTP/2 with prior knowledge."""

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time used so far by the client side and the server side."""
        return cpu_seconds(self.client_side), cpu_seconds(self.server_side)

    def resident_megabytes(self) -> float:
        """Resident memory of both sides together, MiB."""
        return resident_megabytes(self.client_side) + resident_megabytes(self.server_side)

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own; BenchmarkError when there is no answer."""
        try:
            return _get(self.port, path, method, headers)
        except BenchmarkError as error:
            raise BenchmarkError(f"{self.name}: {error}") from error

    def counted(self, what: str) -> tuple[int, ...]:
        """``what`` (``requests``, ``connections``) each side of ours says it has carried; empty for a peer."""
        return tuple(total(_get(port, "/metrics")[1].decode(), what) for port in self.signals or ())

    def answers(self, path: str, port: int | None = None) -> bool:
        """True once ``path`` is answered by a 200 through the whole chain, or at the other ``port`` of it."""
        if self.http2:
            return h2load.status_class(port or self.port, path) == 2
        try:
            return _get(port or self.port, path)[0] == 200
        except BenchmarkError:
            return False


def total(metrics: str, what: str) -> int:
    """``ringfence_<what>_total`` of a Prometheus text, summed over its labels; 0 as long as it counted nothing.

    BenchmarkError if there is no such metric.
    """
    name = f"ringfence_{what}_total"
    lines = metrics.splitlines()
    if not any(line.startswith((f"{name}{{", f"# TYPE {name} ")) for line in lines):
        raise BenchmarkError(f"the sidecar shows no {name}")
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")))


def _get(port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"no answer to {method} {path} on port {port}: {error}") from error
    finally:
        connection.close()
