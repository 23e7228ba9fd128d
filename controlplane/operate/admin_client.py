"""Asks a control plane over its admin socket. Standard library only, since ``ringfence status`` should be quick."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_ANSWER_SECONDS: Final = 5.0
_ANSWER_LIMIT_BYTES: Final = 64 << 20


class AdminUnreachableError(Exception):
    """No control plane answers there, or not as one; the message names the socket and the mend."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("controlplane", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def get_document(admin_socket: Path, path: str) -> dict[str, Any]:
    """The JSON object at ``path``. Raises AdminUnreachableError."""
    status, document = ask(admin_socket, "GET", path)
    if status != http.HTTPStatus.OK:
        raise AdminUnreachableError(f"{admin_socket} answers {status} to {path}")
    return document


def ask(
    admin_socket: Path,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    seconds: float = _ANSWER_SECONDS,
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that ``path`` answers to ``body``. Raises AdminUnreachableError."""
    connection = _UnixConnection(admin_socket, seconds)
    try:
        content = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, content, {"content-type": "application/json"} if content else {})
        response = connection.getresponse()
        answer = response.read(_ANSWER_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        mend = "start it, or name its socket by --admin-socket or its state folder by --state"
        raise AdminUnreachableError(f"no control plane at {admin_socket} ({mend})") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AdminUnreachableError(f"no control plane answers at {admin_socket}: {reason}") from error
    finally:
        connection.close()
    if len(answer) > _ANSWER_LIMIT_BYTES:
        raise AdminUnreachableError(f"{admin_socket} answers more than {_ANSWER_LIMIT_BYTES} bytes to {path}")
    try:
        document = json.loads(answer)
    except ValueError as error:
        status = f"{response.status} and something else than JSON"
        raise AdminUnreachableError(f"{admin_socket} answers {status} to {path}") from error
    if not isinstance(document, dict):
        raise AdminUnreachableError(f"{admin_socket} answers something else than an object")
    return response.status, document
