"""``GET /policy`` on the admin socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web


class PolicyApi:
    """Answers with what ``status`` makes, which is JSON."""

    def __init__(self, status: Callable[[], Mapping[str, object]]) -> None:
        self._status = status

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/policy", self._get)]

    async def _get(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(dict(self._status()))
