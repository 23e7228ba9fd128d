"""What ``up`` asks the control plane, by the admin socket that only this user may open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import aiohttp

from ringfence.spiffe import SpiffeId

_ANSWER_SECONDS: Final = 5.0


class OperatorError(Exception):
    """The control plane did not answer, or refused; the message says which."""


class Operator:
    """A client of the admin socket. A connection a question: it must outlive every restart of the control plane."""

    def __init__(self, admin_socket: Path) -> None:
        self._socket = admin_socket

    async def ready(self) -> str | None:
        """None once it answers; else why it does not."""
        try:
            await self._ask("GET", "/status")
        except OperatorError as error:
            return str(error)
        return None

    async def mint_join_token(self, spiffe_id: SpiffeId, ttl_seconds: int) -> str:
        """A token good once, for ``spiffe_id``. OperatorError."""
        reply = await self._ask("POST", "/join-tokens", {"spiffe_id": str(spiffe_id), "ttl_seconds": ttl_seconds})
        token = reply.get("token")
        if not isinstance(token, str):
            raise OperatorError("the control plane answered without a token")
        return token

    async def root_fingerprint(self) -> str:
        """SHA-256 of the root's DER, lower-case hex. OperatorError."""
        reply = await self._ask("GET", "/bundle")
        found = reply.get("root_fingerprint")
        if not isinstance(found, str):
            raise OperatorError("the control plane answered without a root's fingerprint")
        return found

    async def _ask(self, method: str, path: str, question: dict[str, object] | None = None) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        connector = aiohttp.UnixConnector(path=str(self._socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://controlplane{path}", json=question) as reply,
            ):
                body = await reply.read()
                if reply.status >= 300:
                    text = body.decode("utf-8", "replace").strip()[:300]
                    raise OperatorError(f"{method} {path} answers {reply.status}: {text}")
                answer = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise OperatorError(f"nobody answers on {self._socket}: {str(error) or type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise OperatorError(f"{method} {path} answers something else than an object")
        return answer
