"""Asks the API server: one object, a page of a list, a change, the lines of a watch or of a log.

Every wait has a deadline and every answer a limit. Errors of the library and of the network become those of ``errors``
here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import yaml
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from k8s.client.decoding import decode
from k8s.client.errors import ConfigurationError, ForbiddenError, TooLargeError, UnreachableError, error_of_body
from k8s.client.resources import Resource

Json = dict[str, Any]
"""An object as the API serves it."""

ANSWER_LIMIT_BYTES: Final = 16 * 1024 * 1024
LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Of a watch: an object is at most 1.5 MiB in the server's own store, and the server writes six bytes for some."""
PAGE_SIZE: Final = 500
"""Objects of a list that are asked for at once, unless they are so large that an answer would be beyond its limit."""
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ERROR_LIMIT_BYTES: Final = 65_536
_AT_ONCE_BYTES: Final = 1024 * 1024
"""What is larger is read in a thread: what is nested too deep (``decoding``) takes long, and would keep all else
waiting."""
# All that a kubeconfig can make the library raise.
_WRONG: Final = (
    ConfigError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    httpx2.InvalidURL,
    msgspec.MsgspecError,
    yaml.YAMLError,
)


class Connection:
    """An API server. ``namespace``: the one that the configuration names, of the pod's own or of the context."""

    def __init__(self, client: httpx2.AsyncClient, namespace: str = "default", timeout_seconds: float = 30.0) -> None:
        self.namespace = namespace
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._limits = httpx2.Timeout(timeout_seconds)

    @classmethod
    def open(cls, kubeconfig: str = "", context: str = "", timeout_seconds: float = 30.0) -> Connection:
        """By the account of the pod that this runs in; else by ``kubeconfig``, $KUBECONFIG or the file in the home
        folder. Raises ConfigurationError."""
        try:
            config = _configuration(kubeconfig, context)
            client = AsyncClient(config, ConnectionParams(timeout=httpx2.Timeout(timeout_seconds)))
        except _WRONG as error:
            shown = " ".join(str(error).split()) or type(error).__name__
            raise ConfigurationError(
                f"no connection to a cluster can be set up: {shown}; name a kubeconfig, or run in a pod with an account"
            ) from error
        client.headers["User-Agent"] = "ringfence"
        client.event_hooks = {"request": [_keep_no_lost_socket]}
        return cls(client, config.namespace or "default", timeout_seconds)

    async def close(self) -> None:
        await self._client.aclose()

    def within(self, seconds: float) -> Connection:
        """The same, with less patience; it is closed with this one."""
        return Connection(self._client, self.namespace, seconds)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """One object. Raises NotFoundError, and what every other method raises: UnreachableError, ApiError."""
        return await self.ask("GET", resource.path(namespace, name))

    async def page(self, resource: Resource, params: Mapping[str, str], namespace: str = "") -> Json:
        """One page of a list; ``params`` such as limit, continue, labelSelector."""
        return await self.ask("GET", resource.path(namespace), params=params)

    async def pages(
        self, resource: Resource, params: Mapping[str, str], namespace: str = "", *, page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Json]:
        """A list, page by page; ``params`` such as labelSelector. Pages are smaller where objects are large: whoever
        may write some large ones must not keep anybody from all others. Raises ExpiredError where it took too long."""
        size, following = page_size, ""
        while True:
            asked = {**params, "limit": str(size), **({"continue": following} if following else {})}
            try:
                answer = await self.page(resource, asked, namespace)
            except TooLargeError:
                if size == 1:
                    raise
                size = max(size // 8, 1)
                continue
            yield answer
            following = (answer.get("metadata") or {}).get("continue") or ""
            if not following:
                return
            size = min(size * 2, page_size)

    async def all(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Json]:
        """Each object of a list, asked for by pages. Raises ExpiredError where it took too long."""
        params = {"labelSelector": labels} if labels else {}
        params |= {"fieldSelector": fields} if fields else {}
        async for answer in self.pages(resource, params, namespace, page_size=page_size):
            for item in answer.get("items") or ():
                yield item

    async def create(self, resource: Resource, body: Json, namespace: str = "", *, dry_run: bool = False) -> Json:
        """Raises ConflictError where it is there already."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return await self.ask("POST", resource.path(namespace), body=body, params={"dryRun": "All"} if dry_run else {})

    async def replace(
        self, resource: Resource, name: str, body: Json, namespace: str = "", *, subresource: str = ""
    ) -> Json:
        """Raises ConflictError where ``body`` has another resourceVersion than the object."""
        return await self.ask("PUT", resource.path(namespace, name, subresource), body=body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: object,
        namespace: str = "",
        *,
        subresource: str = "",
        kind: str = MERGE_PATCH,
    ) -> Json:
        """Change an object; with a resourceVersion in a merge patch only if it is still that version."""
        return await self.ask("PATCH", resource.path(namespace, name, subresource), body=body, content_type=kind)

    async def apply(
        self, resource: Resource, name: str, body: Json, namespace: str = "", *, manager: str, subresource: str = ""
    ) -> Json:
        """Server-side apply, taking the fields over from whoever had them."""
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return await self.ask(
            "PATCH",
            resource.path(namespace, name, subresource),
            body=full,
            content_type=APPLY_PATCH,
            params={"fieldManager": manager, "force": "true"},
        )

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Raises NotFoundError where it is not there."""
        await self.ask("DELETE", resource.path(namespace, name))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Json:
        """Whatever else there is to ask; the answer must be a JSON object."""
        content = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        headers = {"Accept": "application/json, */*;q=0.1"} | (
            {"Content-Type": content_type} if content is not None else {}
        )
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream(
                    method, path, params=dict(params or {}), content=content, headers=headers, timeout=self._limits
                ) as response,
            ):
                await _raise_for(response)
                said = await _whole(response, ANSWER_LIMIT_BYTES)
            answer = await read_json(said)
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        except ConfigError as error:
            raise ForbiddenError(401, "Unauthorized", " ".join(str(error).split())) from error
        except ValueError as error:
            raise UnreachableError(f"the API server's answer to {method} {path} is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise UnreachableError(f"the API server's answer to {method} {path} is no object")
        return answer

    @asynccontextmanager
    async def lines(
        self, path: str, params: Mapping[str, str], *, silence_seconds: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on, such as a watch or a log that is followed. After ``silence_seconds``
        without a byte it counts as lost."""
        timeout = httpx2.Timeout(self._timeout_seconds, read=silence_seconds)
        try:
            async with self._client.stream(
                "GET", path, params=dict(params), timeout=timeout, headers={"Accept-Encoding": "identity"}
            ) as response:
                await _raise_for(response)
                yield _split(response)
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        except ConfigError as error:
            raise ForbiddenError(401, "Unauthorized", " ".join(str(error).split())) from error

    @property
    def http(self) -> httpx2.AsyncClient:
        """For ``k8s.client.execution`` alone."""
        return self._client


async def read_json(content: bytes) -> Any:
    """The value of a text. Raises ValueError."""
    return decode(content) if len(content) <= _AT_ONCE_BYTES else await asyncio.to_thread(decode, content)


async def _keep_no_lost_socket(request: httpx2.Request) -> None:
    """The library closes the socket of a TLS handshake that failed or took too long, not of one that was cancelled:
    such a socket stays open until it is collected, and so does the server's end. This closes it at once."""
    socket: Any = None

    async def trace(event: str, told: Mapping[str, Any]) -> None:
        nonlocal socket
        if event == "connection.connect_tcp.complete":
            socket = told["return_value"]
        elif event == "connection.start_tls.failed" and socket is not None:
            await socket.aclose()

    request.extensions["trace"] = trace


def _configuration(kubeconfig: str, context: str) -> SingleConfig:
    if not kubeconfig and not context and (_ACCOUNT / "token").exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
        found = KubeConfig.from_service_account()
    else:
        found = KubeConfig.from_file(kubeconfig or os.environ.get("KUBECONFIG", "") or "~/.kube/config")
    config = found.get(context or None)
    if config is None:
        raise ConfigError("the kubeconfig has no current context")
    user = config.user
    if user is not None and user.exec is not None and user.exec.apiVersion == "client.authentication.k8s.io/v1":
        # The library knows only the beta of the same answer.
        user.exec.apiVersion = "client.authentication.k8s.io/v1beta1"
    if config.user is None:
        raise ConfigError("the context of the kubeconfig names no user")
    return config


async def _raise_for(response: httpx2.Response) -> None:
    if response.status_code < 300:
        return
    try:
        body = await _whole(response, _ERROR_LIMIT_BYTES)
    except UnreachableError:
        body = b""
    raise error_of_body(body, response.status_code, _retry_seconds(response))


def _retry_seconds(response: httpx2.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0.0


async def _whole(response: httpx2.Response, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > limit_bytes:
            raise TooLargeError(f"the API server's answer is larger than {limit_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


async def _split(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Whole lines without their end; what stands behind the last end of a line was cut off and is dropped."""
    pending: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        lines = part.split(b"\n")
        for line in lines[:-1]:
            pending.append(line)
            yield b"".join(pending)
            pending.clear()
            size = 0
        pending.append(lines[-1])
        size += len(lines[-1])
        if size > LINE_LIMIT_BYTES:
            raise TooLargeError(f"the API server sent a line larger than {LINE_LIMIT_BYTES} bytes")


def _unreachable(error: BaseException) -> UnreachableError:
    shown = " ".join(str(error).split())[:256]
    return UnreachableError(f"the API server does not answer: {shown or type(error).__name__}")
