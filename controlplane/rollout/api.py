"""The admin socket's part for changes of policy: JSON in and out. Adapter.

    POST   /policy/apply      {"files": {"orders.yaml": "…"}, "prune": false, "shadow_seconds": 600, "tolerate": 0,
                               "check": false, "message": "…"}
    POST   /policy/rollback   {"record": 3, "check": false, "message": "…"}; no record: the one before the newest
    GET    /policy/rollout    the change under way, or the last one
    DELETE /policy/rollout    gives up what is tried in shadow
    GET    /policy/history    the records kept;  /policy/history/3: one with its files

A change that is applied, checked or begun is answered 200 or 202, one that is wrong 422 with its problems, one that
must wait for another 409.
"""

from __future__ import annotations

import json
import pwd
import socket
import struct
from typing import Any, Final

from aiohttp import web

from controlplane.intake.sources import POLICY_LIMIT_BYTES
from controlplane.operate.status import problem_document
from controlplane.rollout.evidence import Evidence
from controlplane.rollout.records import MESSAGE_LIMIT, Author, Cause, Origin, Record
from controlplane.rollout.rollouts import (
    SHADOW_LIMIT_SECONDS,
    BusyError,
    RefusedError,
    Rollouts,
    Standing,
    State,
    Wish,
)

# JSON writes a byte of text as six at worst; policy is ASCII nearly throughout.
_BODY_LIMIT_BYTES: Final = 2 * POLICY_LIMIT_BYTES


class _BadRequestError(ValueError):
    """The request is refused with this text."""


class RolloutApi:
    """The routes."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/policy/apply", self._apply),
            web.post("/policy/rollback", self._roll_back),
            web.get("/policy/rollout", self._get_rollout),
            web.delete("/policy/rollout", self._stop),
            web.get("/policy/history", self._get_history),
            web.get(r"/policy/history/{number:\d{1,9}}", self._get_record),
        ]

    async def _apply(self, request: web.Request) -> web.Response:
        try:
            body = await _body(request, {"files", "prune", "shadow_seconds", "tolerate", "check", "message"})
            wish = Wish(
                given=_files(body),
                prune=_flag(body, "prune"),
                origin=Origin(cause=Cause.APPLY, author=_author(request), message=_message(body)),
                shadow_seconds=_number(body, "shadow_seconds", SHADOW_LIMIT_SECONDS),
                tolerate=_number(body, "tolerate", 10**9),
                check_only=_flag(body, "check"),
            )
            return _standing_answer(await self._rollouts.apply(wish))
        except (RefusedError, ValueError, RecursionError) as error:
            return _refusal(error)

    async def _roll_back(self, request: web.Request) -> web.Response:
        try:
            body = await _body(request, {"record", "check", "message"})
            origin = Origin(cause=Cause.ROLLBACK, author=_author(request), message=_message(body))
            number = _number(body, "record", 10**9)
            return _standing_answer(await self._rollouts.roll_back(number, origin, check_only=_flag(body, "check")))
        except (RefusedError, ValueError, RecursionError) as error:
            return _refusal(error)

    async def _get_rollout(self, request: web.Request) -> web.Response:
        del request
        standing = self._rollouts.standing
        return web.json_response(_standing(standing) if standing is not None else {"state": "none"})

    async def _stop(self, request: web.Request) -> web.Response:
        stopped = self._rollouts.stop(_author(request).name)
        return web.json_response({"stopped": stopped}, status=202 if stopped else 200)

    async def _get_history(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"records": [_record(record) for record in self._rollouts.history.records]})

    async def _get_record(self, request: web.Request) -> web.Response:
        record = self._rollouts.history.find(int(request.match_info["number"]))
        if record is None:
            return web.json_response({"error": "no such record"}, status=404)
        files = {name: content.decode("utf-8", "replace") for name, content in record.contents.items()}
        return web.json_response({**_record(record), "files": files})


async def _body(request: web.Request, known: set[str]) -> dict[str, Any]:
    """The JSON object of the request, which may be larger than what else is asked of this socket."""
    pieces: list[bytes] = []
    left = _BODY_LIMIT_BYTES
    async for piece in request.content.iter_any():
        left -= len(piece)
        if left < 0:
            raise _BadRequestError(f"body has more than {_BODY_LIMIT_BYTES} bytes")
        pieces.append(piece)
    body = json.loads(b"".join(pieces))
    if not isinstance(body, dict):
        raise _BadRequestError("body is no JSON object")
    unknown = sorted(str(key) for key in body.keys() - known)
    if unknown:
        raise _BadRequestError(f"unknown fields {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    return body


def _files(body: dict[str, Any]) -> dict[str, bytes]:
    files = body.get("files")
    if not isinstance(files, dict) or not all(isinstance(text, str) for text in files.values()):
        raise _BadRequestError("files is no object of texts")
    return {name: text.encode() for name, text in files.items()}


def _flag(body: dict[str, Any], key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise _BadRequestError(f"{key} is neither true nor false")
    return value


def _number(body: dict[str, Any], key: str, limit: int) -> int:
    value = body.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise _BadRequestError(f"{key} is no whole number from 0 to {limit}")
    return value


def _message(body: dict[str, Any]) -> str:
    message = body.get("message", "")
    if not isinstance(message, str) or len(message) > MESSAGE_LIMIT or not (message.isprintable() or not message):
        raise _BadRequestError(f"message is no line of at most {MESSAGE_LIMIT} characters")
    return message


def _author(request: web.Request) -> Author:
    """Whoever opened the connection, as the kernel tells, not as the request does."""
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None or peer.family != socket.AF_UNIX:
        return Author()
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        return Author(uid=uid, name=pwd.getpwuid(uid).pw_name)
    except KeyError:
        return Author(uid=uid, name=str(uid))


def _standing_answer(standing: Standing) -> web.Response:
    return web.json_response(_standing(standing), status=202 if standing.state is State.SHADOW else 200)


def _refusal(error: Exception) -> web.Response:
    if isinstance(error, BusyError):
        return web.json_response({"error": str(error)}, status=409)
    if isinstance(error, RefusedError):
        problems = [problem_document(problem) for problem in error.problems]
        return web.json_response({"error": str(error), "problems": problems}, status=422)
    return web.json_response({"error": str(error)}, status=400)


def _standing(standing: Standing) -> dict[str, Any]:
    change = standing.change
    return {
        "state": standing.state.value,
        "change": {"added": change.added, "altered": change.altered, "removed": change.removed},
        "by": standing.origin.author.name,
        "message": standing.origin.message,
        "began_at": standing.began_at,
        "ends_at": standing.ends_at or None,
        "evidence": _evidence(standing.evidence),
        "detail": standing.detail,
        "warnings": [str(problem) for problem in standing.warnings],
        "record": standing.record or None,
        "revision": standing.revision or None,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "judged": evidence.judged,
        "would_be_denied": evidence.denied,
        "would_be_permitted": evidence.permitted,
        "examples": evidence.examples,
    }


def _record(record: Record) -> dict[str, Any]:
    return {
        "record": record.number,
        "revision": record.revision,
        "at": record.at,
        "cause": record.origin.cause.value,
        "by": record.origin.author.name,
        "uid": record.origin.author.uid if record.origin.author.uid >= 0 else None,
        "message": record.origin.message,
        "back_to": record.origin.back_to or None,
        "digest": record.digest,
        "file_names": sorted(record.contents),
    }
