"""Makes the demo's calls against the running shop, and tells what really came of each.

A permitted call is told from the answer and, for which rule permitted it, from the log of the side that did. A refused
one is told from the refusal that came back; where TLS refused, or an opaque connection was closed, the caller is told
nothing, and the reason is the one in the log.
"""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Final

from controlplane.demo.calls import Observed, Stopwatch, failed, permitted, refused
from controlplane.demo.logbook import Fields, Logbook
from controlplane.demo.rogue import Attempt, Credentials, attempt_connect, attempt_plaintext
from controlplane.up.children import sidecar_name
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import Mesh, Service

_CALL_SECONDS: Final = 10.0
_REFUSAL_HEADER: Final = "x-ringfence-refusal"
_NAMESPACE: Final = "shop"


class Stage:
    """The shop as it runs, seen from whoever calls."""

    def __init__(self, mesh: Mesh, logbook: Logbook) -> None:
        self._mesh = mesh
        self._logbook = logbook

    def service(self, name: str) -> Service:
        found = self._mesh.service(f"{_NAMESPACE}/{name}")
        if found is None:
            raise LookupError(f"the shop has no service {name!r}")
        return found

    def mesh_address(self, target: str) -> SocketAddress:
        return self.service(target).instances[0].mesh

    def own_authority(self, target: str) -> str:
        """What a rightful CONNECT to ``target`` names."""
        service = self.service(target)
        return str(SocketAddress(service.instances[0].address, service.ports[0].port))

    # -- through the caller's sidecar, as its app would ---------------------------------------------------------------

    async def http(
        self,
        watch: Stopwatch,
        source: str,
        target: str,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Observed:
        """One request by the local port that the sidecar of ``source`` keeps for ``target``."""
        mark = self._logbook.mark(self._log_of(target))
        status, reply = await asyncio.to_thread(
            _request, self._upstream(source, target), method, path, body, headers or {}
        )
        watch.stop()
        if status >= 400 and reply.keys() >= {"error", "reason", "request_id"}:
            return await self._refused(target, mark, str(reply["reason"]), str(reply["request_id"]))
        told_caller = reply.get("caller")
        if told_caller is not None and told_caller != str(self.service(source).spiffe_id):
            return failed(f"the app was told that its caller is {told_caller}")
        line = await self._logbook.find(
            self._log_of(target), mark, lambda f: f.get("msg") == "request" and f.get("target") == path
        )
        return permitted(str(status), reason=_rule(line), told_by=self._log_of(target) if line else "")

    async def tcp(self, watch: Stopwatch, source: str, target: str, words: str) -> Observed:
        """One line, and one back, by the local port that the sidecar of ``source`` keeps for ``target``."""
        near, far = self._log_of(source), self._log_of(target)
        near_mark, far_mark = self._logbook.mark(near), self._logbook.mark(far)
        try:
            reply = await _line(self._upstream(source, target), words)
        except ConnectionError:
            reply = ""
        watch.stop()
        if reply:
            line = await self._logbook.find(far, far_mark, lambda f: f.get("msg") == "connection ended")
            return permitted(reply.split()[0], reason=_rule(line), told_by=far if line else "")
        service = self.service(target).full_name  # the last call's connection may end only now, and is not meant
        line = await self._logbook.find(
            near, near_mark, lambda f: f.get("msg") == "connection ended" and f.get("service") == service
        )
        if line is None or not line.get("reason"):
            return failed("the connection was closed, and no log says why")
        return await self._refused(target, far_mark, str(line["reason"]), str(line.get("request_id")))

    async def front(self, watch: Stopwatch, method: str, path: str, body: object) -> Observed:
        """One request to the shop's web app, as a browser makes it; the rest of the shop is called by the apps."""
        status, reply = await asyncio.to_thread(
            _request, self.service("web").instances[0].apps[0], method, path, body, {}
        )
        watch.stop()
        if status >= 300:
            return failed(f"{status} {json.dumps(reply)}")
        return permitted(str(status), story=json.dumps(reply))

    # -- at the mesh port, past all rules -----------------------------------------------------------------------------

    async def rogue(self, watch: Stopwatch, target: str, credentials: Credentials | None, authority: str) -> Observed:
        """A TLS connection of our own to the mesh port of ``target``, and a CONNECT to ``authority``."""
        name = self._log_of(target)
        mark = self._logbook.mark(name)
        attempt = await attempt_connect(self.mesh_address(target), credentials, authority)
        watch.stop()
        if attempt.answer is None:
            return await self._refused_handshake(name, mark, attempt)
        told = attempt.answer.get(_REFUSAL_HEADER)
        if told is None:
            status = attempt.answer.get(":status", "?")
            return permitted(status) if status.startswith("2") else failed(f"CONNECT was answered {status}")
        refusal = dict(part.strip().partition("=")[::2] for part in told.split(";"))
        return await self._refused(target, mark, refusal.get("reason", ""), refusal.get("id", ""))

    async def plaintext(self, watch: Stopwatch, target: str) -> Observed:
        """An HTTP request in plain text to the mesh port of ``target``."""
        name = self._log_of(target)
        mark = self._logbook.mark(name)
        attempt = await attempt_plaintext(
            self.mesh_address(target), b"GET /orders HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n"
        )
        watch.stop()
        if attempt.answer is not None:
            return permitted(attempt.answer.get(":status", "?"))
        return await self._refused_handshake(name, mark, attempt)

    # -- telling why --------------------------------------------------------------------------------------------------

    async def _refused(self, target: str, mark: int, reason: str, request_id: str) -> Observed:
        """What the caller was told counts only if the log of the side that refused says the same under the same id."""
        name = self._log_of(target)
        line = await self._logbook.find(name, mark, lambda f: f.get("request_id") == request_id)
        if line is None:
            return failed(f"told {reason} under {request_id!r}, of which the log of {name} knows nothing")
        if line.get("reason") != reason:
            return failed(f"told {reason}, where the log of {name} says {line.get('reason')}")
        return refused(reason, told_by=name, story=_story(line))

    async def _refused_handshake(self, name: str, mark: int, attempt: Attempt) -> Observed:
        line = await self._logbook.find(
            name, mark, lambda f: f.get("msg") == "handshake refused" and f.get("remote") == attempt.local
        )
        if line is None:
            return failed(f"no answer, and no log line of {name} about {attempt.local}")
        saw = f"; the caller saw {attempt.alert!r}" if attempt.alert else "; the caller saw the connection close"
        return refused(str(line.get("reason")), told_by=name, story=_story(line) + saw)

    def _upstream(self, source: str, target: str) -> SocketAddress:
        service, name = self.service(source), f"{_NAMESPACE}/{target}"
        listens = zip(service.upstreams, service.instances[0].listens, strict=True)
        return next(listen for one, listen in listens if one.service == name and listen is not None)

    def _log_of(self, service: str) -> str:
        found = self.service(service)
        return sidecar_name(found, found.instances[0])


def _request(
    address: SocketAddress, method: str, path: str, body: object, headers: dict[str, str]
) -> tuple[int, dict[str, object]]:
    """Status and JSON object of the answer. Blocking."""
    connection = HTTPConnection(address.host, address.port, timeout=_CALL_SECONDS)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response: HTTPResponse = connection.getresponse()
        text = response.read()
    except HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    try:
        reply = json.loads(text)
    except ValueError:
        reply = {}
    return response.status, reply if isinstance(reply, dict) else {}


async def _line(address: SocketAddress, words: str) -> str:
    """The line that answers ``words``; empty if the connection was closed instead."""
    async with asyncio.timeout(_CALL_SECONDS):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(words.encode() + b"\n")
            await writer.drain()
            return (await reader.readline()).decode("ascii", "replace").strip()
        finally:
            writer.close()


def _rule(line: Fields | None) -> str:
    return f"{line.get('policy')}: {line.get('rule')}" if line and line.get("policy") else ""


def _story(line: Fields) -> str:
    """A refusal as the log of the side that refused tells it."""
    words = [str(line.get("msg", ""))]
    words += [f"{key} {line[key]}" for key in ("peer", "detail", "nearest", "request_id") if line.get(key)]
    return ", ".join(words)
