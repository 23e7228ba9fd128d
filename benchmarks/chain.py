"""A chain to be measured: client → client-side proxy → mutual TLS → server-side proxy → backend."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from benchmarks.processes import cpu_seconds, resident_megabytes
from benchmarks.works import BenchmarkError


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Two proxies that are up: the port that the app calls, and the process of each side."""

    name: str
    port: int
    client_side: int
    server_side: int

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time used so far by the client side and the server side."""
        return cpu_seconds(self.client_side), cpu_seconds(self.server_side)

    def resident_megabytes(self) -> float:
        """Resident memory of both sides together, MiB."""
        return resident_megabytes(self.client_side) + resident_megabytes(self.server_side)

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own; BenchmarkError when there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchmarkError(f"{self.name} did not answer {method} {path}: {error}") from error
        finally:
            connection.close()

    def answers(self, path: str) -> bool:
        """True once ``path`` is answered by a 200 through the whole chain."""
        try:
            return self.ask(path)[0] == 200
        except BenchmarkError:
            return False
