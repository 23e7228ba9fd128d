"""An API server for tests: objects in memory, versions, lists by pages, watches with bookmarks, patches, conflicts.

It answers as the real one does in what the product uses (``tests/cluster`` holds that against the real one), and can
be made to fail as the real one does: forget old versions, cut watches, answer with errors, hang.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from k8s.client.connection import Connection
from k8s.client.resources import Resource

Json = dict[str, Any]


@dataclass
class _Watcher:
    collection: str
    queue: asyncio.Queue[Json | str | None] = field(default_factory=asyncio.Queue)


class FakeApiServer:
    """``requests``: method and path of each; ``fail``: asked before each request, a response or None;
    ``listed_texts``: further items of every page, as text."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.requests: list[tuple[str, str]] = []
        self.patches: list[tuple[str, Any]] = []
        self.fail: Callable[[web.Request], web.StreamResponse | None] = lambda request: None
        self.answers: dict[str, Callable[[Json], Json]] = {}
        self.page_limit = 500
        self.listed_texts: list[str] = []
        self.exec_result: tuple[bytes, bytes, int] = (b"", b"", 0)
        self.exec_commands: list[list[str]] = []
        self._version = 1
        self._history: list[tuple[int, str, Json]] = []
        self._oldest = 0
        self._watchers: list[_Watcher] = []
        self._pages: dict[str, list[Json]] = {}
        self.url = ""

    # What tests do.

    def put(self, resource: Resource, body: Json) -> Json:
        """Write an object as if somebody else had."""
        metadata = body.setdefault("metadata", {})
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(body)}
        return self._write(path, body)

    def remove(self, resource: Resource, name: str, namespace: str = "") -> None:
        self._delete(resource.path(namespace, name))

    def object(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        return self.objects.get(resource.path(namespace, name))

    def forget(self) -> None:
        """From now on every version seen so far is too old; watches that are open end."""
        self._version += 1
        self._oldest = self._version
        self._history.clear()
        self.cut()

    def cut(self) -> None:
        """End every open watch."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(None)

    def send(self, event: Json | str) -> None:
        """To every watch, whatever it is of; text is sent as it is."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(event)

    @property
    def watching(self) -> int:
        return len(self._watchers)

    # The server.

    def app(self) -> web.Application:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        failed = self.fail(request)
        if failed is not None:
            return failed
        path = request.path
        if path.endswith("/exec"):
            return await self._exec(request)
        if request.method == "GET":
            return await self._get(request, path)
        if request.method == "DELETE":
            return self._answer(self._delete(path)) if path in self.objects else _status(404, "NotFound", path)
        body = json.loads(await request.read())
        if path in self.answers:
            return web.json_response(self.answers[path](body), status=201)
        if request.method == "POST":
            return self._create(path, body)
        if request.method == "PUT":
            return self._replace(path, body)
        return self._patch(request, path, body)

    async def _get(self, request: web.Request, path: str) -> web.StreamResponse:
        if path in self.objects:
            return self._answer(self.objects[path])
        if request.query.get("watch") == "true":
            return await self._watch(request, path)
        if not _is_collection(path):
            return _status(404, "NotFound", path)
        token = request.query.get("continue", "")
        if token:
            if token not in self._pages:
                return _status(410, "Expired", "the continue token is too old")
            items = self._pages[token]
        else:
            items = sorted(self._in(path, request.query), key=lambda item: item["metadata"]["name"])
        limit = min(int(request.query.get("limit", "500")), self.page_limit)
        metadata: Json = {"resourceVersion": str(self._version)}
        if len(items) > limit:
            metadata["continue"] = f"c{len(self._pages)}-{self._version}-{len(items)}"
            self._pages[metadata["continue"]] = items[limit:]
        told = ", ".join([*(json.dumps(one) for one in items[:limit]), *self.listed_texts])
        text = f'{{"kind": "List", "metadata": {json.dumps(metadata)}, "items": [{told}]}}'
        return web.Response(text=text, content_type="application/json")

    async def _watch(self, request: web.Request, path: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self._oldest:
            return _status(410, "Expired", f"too old resource version: {since} ({self._oldest})")
        response = web.StreamResponse()
        await response.prepare(request)
        watcher = _Watcher(collection=path)
        for version, key, event in self._history:
            if version > since and _within(key, path):
                watcher.queue.put_nowait(event)
        self._watchers.append(watcher)
        try:
            while (event := await watcher.queue.get()) is not None:
                said = event if isinstance(event, str) else json.dumps(event)
                await response.write(said.encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watchers.remove(watcher)
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        self.exec_commands.append(request.query.getall("command"))
        stdout, stderr, code = self.exec_result
        await socket.send_bytes(b"\x01" + stdout)
        await socket.send_bytes(b"\x02" + stderr)
        status: Json = {"status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        async for message in socket:
            if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
                break
        return socket

    def _create(self, path: str, body: Json) -> web.Response:
        metadata = body.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = f"{metadata['generateName']}{self._version}"
        full = f"{path}/{metadata['name']}"
        if full in self.objects:
            return _status(409, "AlreadyExists", full)
        parts = path.split("/")
        if "namespaces" in parts:
            metadata["namespace"] = parts[parts.index("namespaces") + 1]
        return self._answer(self._write(full, body), 201)

    def _replace(self, path: str, body: Json) -> web.Response:
        held = self.objects.get(path)
        if held is None:
            return _status(404, "NotFound", path)
        said = body.get("metadata", {}).get("resourceVersion")
        if said and said != held["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        return self._answer(self._write(path, body))

    def _patch(self, request: web.Request, path: str, body: Any) -> web.Response:
        self.patches.append((path, body))
        parent, _, last = path.rpartition("/")
        status = last == "status" and parent in self.objects
        target = parent if status else path
        held = self.objects.get(target)
        apply = "apply" in request.headers["Content-Type"]
        if held is None:
            if not apply or status:
                return _status(404, "NotFound", path)
            body.setdefault("metadata", {})["name"] = path.rpartition("/")[2]
            return self._create(path.rpartition("/")[0], body)
        if isinstance(body, list):
            changed = _json_patched(held, body)
            return self._answer(self._write(target, changed)) if changed else _status(422, "Invalid", "a test failed")
        said = body.get("metadata", {}).get("resourceVersion")
        if said and said != held["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        if status:
            body = {"status": body.get("status")}
        merged = _merged(held, body)
        annotations = merged["metadata"].get("annotations") or {}
        if sum(len(name) + len(value) for name, value in annotations.items()) > 256 * 1024:
            return _status(422, "Invalid", "metadata.annotations: Too long: may not be more than 262144 bytes")
        return self._answer(self._write(target, merged))

    def _write(self, path: str, body: Json) -> Json:
        held = self.objects.get(path)
        self._version += 1
        body = copy.deepcopy(body)
        metadata = body.setdefault("metadata", {})
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", held["metadata"]["uid"] if held else f"uid-{self._version}")
        generation = held["metadata"].get("generation", 1) if held else 1
        metadata["generation"] = generation + 1 if held and held.get("spec") != body.get("spec") else generation
        self.objects[path] = body
        self._tell("MODIFIED" if held else "ADDED", path, body)
        return body

    def _delete(self, path: str) -> Json:
        body = copy.deepcopy(self.objects.pop(path))
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", path, body)
        return body

    def _tell(self, kind: str, path: str, body: Json) -> None:
        event = {"type": kind, "object": copy.deepcopy(body)}
        self._history.append((self._version, path, event))
        for watcher in self._watchers:
            if _within(path, watcher.collection):
                watcher.queue.put_nowait(event)

    def _in(self, collection: str, query: Any) -> list[Json]:
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if "=" in pair)
        found = [body for path, body in self.objects.items() if _within(path, collection)]
        fields = [pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if "=" in pair]
        found = [one for one in found if all(_at(one, path) == value for path, value in fields)]
        return [one for one in found if wanted.items() <= one["metadata"].get("labels", {}).items()]

    def _answer(self, body: Json, status: int = 200) -> web.Response:
        return web.json_response(body, status=status)


def _within(path: str, collection: str) -> bool:
    """Whether an object belongs to a collection, of a namespace or of all."""
    parent = path.rpartition("/")[0]
    if parent == collection:
        return True
    before, found, after = parent.partition("/namespaces/")
    return bool(found) and f"{before}/{after.partition('/')[2]}" == collection


def _is_collection(path: str) -> bool:
    """By the number of its parts: a path of an object has a name at its end."""
    parts = path.strip("/").split("/")
    base = 2 if parts[0] == "api" else 3
    rest = parts[base:]
    return len(rest) == 1 or (len(rest) == 3 and rest[0] == "namespaces")


def _at(body: Any, path: str) -> Any:
    """What stands at a dotted path."""
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _json_patched(held: Json, patch: list[Json]) -> Json | None:
    """With ``test``, ``add`` and ``replace`` alone; None where a test fails."""
    made = copy.deepcopy(held)
    for step in patch:
        *way, last = step["path"].strip("/").split("/")
        at: Any = made
        for one in way:
            at = at[int(one)] if isinstance(at, list) else at[one]
        if step["op"] == "test" and at.get(last) != step["value"]:
            return None
        at[last] = step["value"]
    return made


def _merged(held: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    result = dict(held) if isinstance(held, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)


status_response = _status


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[FakeApiServer, Connection]]:
    """A fake server that is served, and a connection to it by a kubeconfig in ``folder``."""
    fake = FakeApiServer()
    server = TestServer(fake.app())
    await server.start_server()
    fake.url = str(server.make_url("/")).rstrip("/")
    connection = Connection.open(str(kubeconfig_of(fake.url, folder)))
    try:
        yield fake, connection
    finally:
        await connection.close()
        fake.cut()
        await server.close()


def kubeconfig_of(url: str, folder: Path) -> Path:
    """A kubeconfig that leads to ``url``."""
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "fake", "user": {"token": "fake"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "shop"}}],
        "current-context": "fake",
    }
    file.write_text(json.dumps(config))
    return file
