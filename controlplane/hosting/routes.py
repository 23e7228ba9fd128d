"""The admin socket's part on a platform. Adapter.

    GET /policy/documents   {"platform": "kubernetes", "documents": [{"name": "Allowlist/shop/orders", "accepted": true,
                             "problems": [], "stands_in": "", "workloads": 3, "enforcing": 3, "waiting": []}]}
    GET /policy/sources     {"platform": "kubernetes", "mesh": {…}, "documents": [{"name": "…", "text": "…"}]}: in force

Documents are written where the platform keeps them, so what would write them is answered 409 with the mend.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from controlplane.hosting.host import PlatformHost
from controlplane.hosting.plain_reading import plain_reading
from controlplane.operate.status import problem_document

_WRITING = (
    ("POST", "/policy/apply"),
    ("POST", "/policy/rollback"),
    ("GET", "/policy/rollout"),
    ("DELETE", "/policy/rollout"),
    ("GET", "/policy/history"),
    ("GET", r"/policy/history/{number:\d{1,9}}"),
)


class PlatformRoutes:
    """The routes."""

    def __init__(self, platform: str, host: PlatformHost) -> None:
        self._platform = platform
        self._host = host

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/policy/documents", self._documents),
            web.get("/policy/sources", self._sources),
            *(web.route(method, path, self._elsewhere) for method, path in _WRITING),
        ]

    async def _documents(self, request: web.Request) -> web.Response:
        del request
        found = [
            {
                "name": name,
                "accepted": one.accepted,
                "problems": [problem_document(problem) for problem in one.problems],
                "stands_in": one.stands_in,
                "workloads": one.workloads,
                "enforcing": one.enforcing,
                "waiting": list(one.waiting),
            }
            for name, one in sorted(self._host.standings().items())
        ]
        return web.json_response({"platform": self._platform, "documents": found})

    async def _sources(self, request: web.Request) -> web.Response:
        del request
        reading = self._host.in_force()
        if reading is None:
            return web.json_response({"error": "no reading of the platform is in force yet"}, status=503)
        # Off the loop: a large mesh has megabytes of policy.
        body = await asyncio.to_thread(lambda: json.dumps(plain_reading(self._platform, reading)).encode())
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async def _elsewhere(self, request: web.Request) -> web.Response:
        del request
        text = (
            f"documents of this mesh are kept by {self._platform}, which is their only source: change them there, for "
            "kubernetes by kubectl apply, and take changes back there, too, for kubernetes by ringfence k8s rollback"
        )
        return web.json_response({"error": text}, status=409)
