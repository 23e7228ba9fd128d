"""Whether this workload can serve calls: not while it drains, and not on ports whose app refuses connections. Adapter.

A healthy app is left alone. Only once it has refused a connection that a caller asked for is it tried again, by opening
one and closing it, until it takes one: till then the control plane tells callers to choose other instances.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from ringfence.kit.backoff import Backoff
from ringfence.snapshot import Port
from ringfence.wire.gen import control_pb2 as pb

_TRY_SECONDS: Final = 1.0
# About every second at first, as most apps that refuse are being restarted; the cap bounds how long one that is back
# goes without calls.
_BACKOFF: Final = Backoff(first_seconds=1.0, cap_seconds=5.0)


class Readiness:
    """What is to be reported, and the tries at apps that refused; ``close`` ends these."""

    def __init__(
        self, *, changed: Callable[[], None], random: Callable[[], float], backoff: Backoff = _BACKOFF
    ) -> None:
        """``changed`` is called when ``report`` answers something new."""
        self._changed = changed
        self._random = random
        self._backoff = backoff
        self._draining = False
        self._refused: dict[int, Port] = {}
        self._trying: dict[int, asyncio.Task[None]] = {}

    def report(self) -> pb.ReadinessReport:
        """Whether the workload can serve, as the control plane is told."""
        if self._draining:
            return pb.ReadinessReport(ready=False, reason="draining")
        if not self._refused:
            return pb.ReadinessReport(ready=True)
        wheres = sorted({_where(port) for port in self._refused.values()})
        reason = f"its app refuses connections on {', '.join(wheres)}"
        return pb.ReadinessReport(ready=False, reason=reason, refused_ports=sorted(self._refused))

    def drain(self) -> None:
        """From now on it takes nothing new."""
        self._draining = True
        self.close()
        self._changed()

    def app_refused(self, port: Port) -> None:
        """The app took no connection on this port; it is tried until it does. Cheap where that is known already."""
        if port.port in self._refused or self._draining:
            return
        self._refused[port.port] = port
        task = asyncio.get_running_loop().create_task(self._try(port), name=f"try app {_where(port)}")
        self._trying[port.port] = task
        self._changed()

    def keep(self, ports: Iterable[Port]) -> None:
        """The ports of the workload from now on: an app that is looked for elsewhere now has not refused there."""
        apps = {port.port: (port.app_host, port.app_port) for port in ports}
        for number, port in list(self._refused.items()):
            if apps.get(number) != (port.app_host, port.app_port):
                task = self._trying.pop(number, None)  # None: it drains, and nothing is tried any more
                if task is not None:
                    task.cancel()
                self._takes(number)

    def close(self) -> None:
        """End all tries."""
        for task in self._trying.values():
            task.cancel()
        self._trying.clear()

    async def _try(self, port: Port) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(self._backoff.delay(attempt, self._random))
            attempt += 1
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TRY_SECONDS):
                    transport, _ = await asyncio.get_running_loop().create_connection(
                        asyncio.Protocol, port.app_host, port.app_port
                    )
                transport.close()
                break
        self._trying.pop(port.port, None)
        self._takes(port.port)

    def _takes(self, number: int) -> None:
        del self._refused[number]
        self._changed()


def _where(port: Port) -> str:
    return f"[{port.app_host}]:{port.app_port}" if ":" in port.app_host else f"{port.app_host}:{port.app_port}"
