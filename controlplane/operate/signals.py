"""Health and metrics on a port of their own: nothing here tells who is who or changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class SignalsApi:
    """``/healthz``: the process answers. ``/readyz``: 200 or 503 with what it waits for. ``/metrics``: Prometheus."""

    def __init__(self, *, waiting_for: Callable[[], list[str]], metrics_text: Callable[[], bytes]) -> None:
        """``waiting_for`` is empty when the control plane is ready."""
        self._waiting_for = waiting_for
        self._metrics_text = metrics_text

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1024)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        waiting = self._waiting_for()
        if waiting:
            return web.Response(status=503, text=f"waiting for {', '.join(waiting)}\n")
        return web.Response(text="ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(body=self._metrics_text(), headers={"Content-Type": _METRICS_TYPE})
