"""What tells or changes more than health: HTTP on a Unix socket that only its owner may open.

A port of loopback would not do: in a pod loopback is shared with the app.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

# sun_path holds 108 bytes with its closing NUL.
_PATH_LIMIT_BYTES: Final = 107
_BODY_LIMIT_BYTES: Final = 16 << 10
_TTL_MAXIMUM_SECONDS: Final = 2**31  # any more overflows what adds it to the time; the CA permits far less


class AdminSocketError(Exception):
    """The socket cannot be opened; the message names it and the mend."""


class BadRequestError(ValueError):
    """The request is refused with this text."""


class UnavailableError(Exception):
    """The request is good, but cannot be served now; this text says why."""


class AdminApi:
    """The routes; each answer is JSON, each refusal ``{"error": "…"}``."""

    def __init__(
        self,
        *,
        status: Callable[[], Mapping[str, object]],
        bundle: Callable[[], Mapping[str, object]],
        mint_join_token: Callable[[str, int | None], Awaitable[Mapping[str, object]]],
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        """``mint_join_token`` gets a SPIFFE ID and a time to live in seconds; BadRequestError, UnavailableError.
        ``routes`` are those of other parts, which bound what they read themselves."""
        self._routes = tuple(routes)
        self._status = status
        self._bundle = bundle
        self._mint_join_token = mint_join_token

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        application.router.add_get("/status", self._get_status)
        application.router.add_get("/bundle", self._get_bundle)
        application.router.add_post("/join-tokens", self._post_join_token)
        application.router.add_routes(self._routes)
        return application

    async def _get_status(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(dict(self._status()))

    async def _get_bundle(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(dict(self._bundle()))

    async def _post_join_token(self, request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read())
            spiffe_id, ttl_seconds = _join_token_request(body)
            return web.json_response(dict(await self._mint_join_token(spiffe_id, ttl_seconds)), status=201)
        except UnavailableError as error:
            return web.json_response({"error": str(error)}, status=503)
        except (ValueError, RecursionError) as error:  # also what is no JSON, no UTF-8, or a number without end
            return web.json_response({"error": str(error)}, status=400)


def _join_token_request(body: object) -> tuple[str, int | None]:
    if not isinstance(body, dict):
        raise BadRequestError("body is no JSON object")
    unknown = sorted(str(key) for key in body.keys() - {"spiffe_id", "ttl_seconds"})
    if unknown:
        raise BadRequestError(f"unknown fields {', '.join(unknown)}: send spiffe_id and ttl_seconds")
    spiffe_id, ttl_seconds = body.get("spiffe_id"), body.get("ttl_seconds")
    if not isinstance(spiffe_id, str):
        raise BadRequestError("spiffe_id is missing or no text")
    if ttl_seconds is not None and (not isinstance(ttl_seconds, int) or isinstance(ttl_seconds, bool)):
        raise BadRequestError("ttl_seconds is no whole number")
    if ttl_seconds is not None and abs(ttl_seconds) > _TTL_MAXIMUM_SECONDS:
        raise BadRequestError("ttl_seconds is out of range")
    return spiffe_id, ttl_seconds


def open_admin_socket(path: Path) -> socket.socket:
    """A listening Unix socket at ``path``, mode 0600 in a folder of mode 0700. Raises AdminSocketError.

    The folder's mode is what protects it: between bind and chmod the socket may have another. A socket left by a
    process that died is replaced, one that answers is not.
    """
    if len(os.fsencode(path)) > _PATH_LIMIT_BYTES:
        raise AdminSocketError(f"{path} is longer than {_PATH_LIMIT_BYTES} bytes (give a shorter --admin-socket)")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.parent.stat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise AdminSocketError(f"folder {path.parent} is open to others (make it yours alone: chmod 700)")
        _remove_dead(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(path))
            path.chmod(0o600)
            listener.listen(64)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise AdminSocketError(f"{path} cannot be opened: {error.strerror or error}") from error
    return listener


def _remove_dead(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AdminSocketError(f"{path} is there and no socket (remove it, or give another --admin-socket)")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AdminSocketError(f"{path} cannot be probed: {error.strerror or error}") from error
    raise AdminSocketError(f"{path} is in use by another process (stop it, or give another --admin-socket)")
