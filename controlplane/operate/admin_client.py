"""Asks a control plane over its admin socket. Standard library only, since ``ringfence status`` should be quick."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Final

_ANSWER_SECONDS: Final = 5.0
_ANSWER_LIMIT_BYTES: Final = 64 << 20


class AdminUnreachableError(Exception):
    """No control plane answers there, or not as one; the message names the socket and the mend."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("controlplane", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.sock.connect(os.fspath(self._path))


def get_document(admin_socket: Path, path: str) -> dict[str, Any]:
    """The JSON object at ``path``. Raises AdminUnreachableError."""
    connection = _UnixConnection(admin_socket)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(_ANSWER_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        mend = "start it, or name its socket by --admin-socket or its state folder by --state"
        raise AdminUnreachableError(f"no control plane at {admin_socket} ({mend})") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AdminUnreachableError(f"no control plane answers at {admin_socket}: {reason}") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK or len(body) > _ANSWER_LIMIT_BYTES:
        raise AdminUnreachableError(f"{admin_socket} answers {response.status} to {path}")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise AdminUnreachableError(f"{admin_socket} answers something else than JSON") from error
    if not isinstance(document, dict):
        raise AdminUnreachableError(f"{admin_socket} answers something else than an object")
    return document
