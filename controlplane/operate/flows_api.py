"""``GET /flows`` on the admin socket: what sidecars judged, as JSON. Adapter."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from controlplane.flows.query import ANSWER_LIMIT, FlowAnswer, FlowQuery
from controlplane.flows.store import FlowStoreError
from ringfence.policy.learning.flow import Verdict
from ringfence.policy.learning.flow_file import flow_document


class FlowsApi:
    """The route; ``ask`` is None where no flows are kept, and why is in the log."""

    def __init__(self, ask: Callable[[FlowQuery], Awaitable[FlowAnswer]] | None) -> None:
        self._ask = ask

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/flows", self._get_flows)]

    async def _get_flows(self, request: web.Request) -> web.Response:
        if self._ask is None:
            return web.json_response({"error": "this control plane keeps no flows (its log says why)"}, status=503)
        try:
            query = query_of(request.query)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        try:
            answer = await self._ask(query)
        except FlowStoreError as error:
            return web.json_response({"error": str(error)}, status=503)
        # Tens of thousands of flows take a moment to write out, which is not the loop's.
        text = await asyncio.to_thread(_text, answer)
        return web.Response(text=text, content_type="application/json")


def query_of(words: Mapping[str, str]) -> FlowQuery:
    """The query that a request's parameters say. Raises ValueError for what is none."""
    unknown = sorted(words.keys() - {"since", "service", "caller", "verdict", "limit"})
    if unknown:
        raise ValueError(f"unknown parameters {', '.join(unknown)}")
    since = float(words.get("since", "0"))
    limit = int(words.get("limit", str(ANSWER_LIMIT)))
    if not math.isfinite(since):
        raise ValueError("since is no time")
    if not 1 <= limit <= ANSWER_LIMIT:
        raise ValueError(f"limit is not from 1 to {ANSWER_LIMIT}")
    return FlowQuery(
        since=since,
        service=words.get("service"),
        caller=words.get("caller"),
        verdict=Verdict(words["verdict"]) if "verdict" in words else None,
        limit=limit,
    )


def _text(answer: FlowAnswer) -> str:
    return json.dumps(
        {
            "flows": [flow_document(flow) for flow in answer.flows],
            "unrecorded": answer.unrecorded,
            "truncated": answer.truncated,
        }
    )
