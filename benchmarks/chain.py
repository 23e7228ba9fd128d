"""A chain to be measured: client → client-side proxy → mutual TLS → server-side proxy → backend."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from benchmarks.processes import cpu_seconds, resident_megabytes
from benchmarks.works import BenchmarkError


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Two proxies that are up: the port that the app calls, and the process of each side.

    ``signals``: where each side serves its metrics, if they are ours.
    """

    name: str
    port: int
    client_side: int
    server_side: int
    signals: tuple[int, int] | None = None

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

    def counted(self) -> tuple[int, ...]:
        """Requests that each side of ours says it has carried; empty for a peer."""
        return tuple(requests_total(_get(port, "/metrics")[1].decode()) for port in self.signals or ())

    def answers(self, path: str) -> bool:
        """True once ``path`` is answered by a 200 through the whole chain."""
        try:
            return self.ask(path)[0] == 200
        except BenchmarkError:
            return False


def requests_total(metrics: str) -> int:
    """``ringfence_requests_total`` of a Prometheus text, summed over its labels; BenchmarkError if it is not there."""
    values = [line.rpartition(" ")[2] for line in metrics.splitlines() if line.startswith("ringfence_requests_total{")]
    if not values:
        raise BenchmarkError("the sidecar shows no ringfence_requests_total")
    return int(sum(map(float, values)))


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
