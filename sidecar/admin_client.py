"""Asks a sidecar over its admin socket, for ``ringfence proxy`` and ``ringfence tap``. Standard library only."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

_ANSWER_SECONDS: Final = 5.0
_ANSWER_LIMIT_BYTES: Final = 64 << 20
_LINE_LIMIT_BYTES: Final = 1 << 20


class AdminUnreachableError(Exception):
    """No sidecar answers there, or not as one; the message names the socket and the mend."""


class AdminRefusedError(Exception):
    """The sidecar answers that the question is wrong; the message is its own."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("sidecar", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.made = self.sock  # the connection forgets its socket when an answer goes on to its end
        self.sock.connect(os.fspath(self._path))


def ask(admin_socket: Path, path: str, post: dict[str, object] | None = None) -> dict[str, Any]:
    """The JSON object at ``path``; ``post``: what to POST, empty for no body. Raises the errors of this module."""
    connection = _UnixConnection(admin_socket)
    try:
        response = _asked(connection, admin_socket, path, post)
        body = response.read(_ANSWER_LIMIT_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(admin_socket, error) from error
    finally:
        connection.close()
    if len(body) > _ANSWER_LIMIT_BYTES:
        raise AdminUnreachableError(f"{admin_socket} answers more than {_ANSWER_LIMIT_BYTES} bytes")
    return _object(admin_socket, body)


def follow(admin_socket: Path, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of a tap, until the sidecar ends it. Raises the errors of this module."""
    connection = _UnixConnection(admin_socket)
    try:
        response = _asked(connection, admin_socket, "/tap" + (f"?{urlencode(filters)}" if filters else ""), None)
        connection.made.settimeout(None)  # between two events any time may pass
        with response:
            while (line := response.readline(_LINE_LIMIT_BYTES)).endswith(b"\n"):
                yield _object(admin_socket, line)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(admin_socket, error) from error
    finally:
        connection.close()


def _asked(
    connection: _UnixConnection, admin_socket: Path, path: str, post: dict[str, object] | None
) -> http.client.HTTPResponse:
    if post is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, body=json.dumps(post).encode() if post else b"")
    response = connection.getresponse()
    if response.status == http.HTTPStatus.OK:
        return response
    told = response.read(_LINE_LIMIT_BYTES).decode("utf-8", "backslashreplace").strip()
    if response.status == http.HTTPStatus.BAD_REQUEST:
        raise AdminRefusedError(told)
    raise AdminUnreachableError(f"{admin_socket} answers {response.status} to {path}: {told}")


def _unreachable(admin_socket: Path, error: Exception) -> AdminUnreachableError:
    if isinstance(error, FileNotFoundError):
        return AdminUnreachableError(
            f"no sidecar at {admin_socket} (start it, or name the path that it was given by --admin-socket)"
        )
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return AdminUnreachableError(f"no sidecar answers at {admin_socket}: {reason.lower()}")


def _object(admin_socket: Path, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise AdminUnreachableError(f"{admin_socket} answers something else than JSON") from error
    if not isinstance(document, dict):
        raise AdminUnreachableError(f"{admin_socket} answers something else than an object")
    return document
