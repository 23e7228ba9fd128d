"""The admin socket's part for questions: the files that are in force, as they were accepted. Adapter.

    GET /policy/sources   {"revision": 7, "mesh": {"file": "mesh.yaml", "text": "…"},
                           "policies": {"folder": "policies", "files": [{"file": "policies/orders.yaml", "text": "…"}]},
                           "tried": null}

``tried`` has the form of ``policies``: what a change on trial would make of them.

A file that was changed on the disk and refused, or not read yet, is told as it was: as sidecars enforce it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from controlplane.intake.sources import PolicyFolder, SourceFiles
from ringfence.kit.watch import FileContent


class SourcesApi:
    """The route."""

    def __init__(
        self,
        *,
        held: Callable[[], SourceFiles | None],
        tried: Callable[[], PolicyFolder | None],
        revision: Callable[[], int],
    ) -> None:
        self._held = held
        self._tried = tried
        self._revision = revision

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/policy/sources", self._get)]

    async def _get(self, request: web.Request) -> web.Response:
        del request
        held = self._held()
        if held is None:
            return web.json_response({"error": "no configuration is in force yet"}, status=503)
        # Off the loop: a large mesh has megabytes of policy.
        body = await asyncio.to_thread(_body, held, self._tried(), self._revision())
        return web.Response(body=body, content_type="application/json", charset="utf-8")


def _body(held: SourceFiles, tried: PolicyFolder | None, revision: int) -> bytes:
    document = {
        "revision": revision,
        "mesh": _file(held.mesh),
        "policies": _folder(held.policies or PolicyFolder(path=Path())),
        "tried": _folder(tried) if tried is not None else None,
    }
    return json.dumps(document).encode()


def _folder(folder: PolicyFolder) -> dict[str, object]:
    return {"folder": str(folder.path), "files": [_file(file) for file in folder.files]}


def _file(file: FileContent) -> dict[str, str]:
    # What was accepted is UTF-8 throughout.
    return {"file": str(file.path), "text": file.content.decode()}
