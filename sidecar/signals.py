"""/healthz, /readyz and /metrics on a port of their own, for probes and scrapers, and in a pod the probes of its app.
Nothing here tells the policy.

``/healthz`` answers while the event loop turns; ``/readyz`` says for what the sidecar waits; ``/metrics`` is the
Prometheus text that it is given.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping

from ringfence.kit.log import Logger
from sidecar.exposition import CONTENT_TYPE
from sidecar.listening import listen
from sidecar.local_http import LocalHttp, Page, Verbs, json_page


class ListenError(Exception):
    """A local address cannot be listened on; the message names it and the setting that asked for it."""


class SignalsServer:
    """Serves the three pages and ``more``; ``waiting_for`` gives what is missing, nothing when ready."""

    def __init__(
        self,
        metrics_text: Callable[[], bytes],
        waiting_for: Callable[[], list[str]],
        *,
        log: Logger,
        more: Mapping[str, Verbs] | None = None,
        connection_limit: int = 64,
        deadline_seconds: float = 10.0,
    ) -> None:
        self._metrics_text = metrics_text
        self._waiting_for = waiting_for
        self._server: asyncio.Server | None = None
        self.port = 0
        """The port listened on; 0 before ``start``."""
        self.http = LocalHttp(
            {
                "/healthz": lambda: json_page({"alive": True}),
                "/readyz": self._readyz,
                "/metrics": self._metrics,
                **(more or {}),
            },
            log=log,
            connection_limit=connection_limit + len(more or ()),
            deadline_seconds=deadline_seconds,
        )

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes any. Raises ListenError."""
        try:
            self._server = await listen(self.http.protocol, host, port)
        except OSError as error:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise ListenError(_refusal("--signals", where, error)) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._server is not None:
            self._server.close()
            self.http.close()
            await self._server.wait_closed()
            self._server = None

    def _readyz(self) -> Page:
        waiting = self._waiting_for()
        return json_page({"ready": not waiting, "waiting_for": waiting}, 503 if waiting else 200)

    def _metrics(self) -> Page:
        return Page(200, CONTENT_TYPE, self._metrics_text())


def _refusal(setting: str, where: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{setting}: {where} is already in use (give another address, or stop what listens there)"
    if error.errno == errno.EACCES:
        return f"{setting}: {where} may not be listened on by this user (give a port above 1023)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{setting}: {where} is no address of this machine (give one that is)"
    return f"{setting}: cannot listen on {where}: {(error.strerror or str(error)).lower()}"
