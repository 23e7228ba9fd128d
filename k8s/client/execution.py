"""Runs a command in a container, by the WebSocket form of ``pods/exec``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import httpx2
from httpx2.websockets import HTTPXWSException

from k8s.client.connection import Connection
from k8s.client.errors import UnreachableError, error_of, error_of_body
from k8s.client.resources import PODS
from k8s.objects.lenient import objects, text

OUTPUT_LIMIT_BYTES: Final = 16 * 1024 * 1024
_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDOUT: Final = 1
STDERR: Final = 2
_ERROR: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and where."""

    namespace: str
    pod: str
    container: str
    arguments: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command wrote and how it ended."""

    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A piece of what a command writes; or how it ended: then ``channel`` is 0."""

    channel: int
    content: bytes
    exit_code: int = 0


async def run_in(connection: Connection, command: Command, *, timeout_seconds: float = 30.0) -> Outcome:
    """Run a command to its end. Raises UnreachableError, ApiError."""
    written: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    size = 0
    try:
        async with asyncio.timeout(timeout_seconds), aclosing(stream_of(connection, command)) as outputs:
            async for output in outputs:
                if not output.channel:
                    return Outcome(
                        stdout=b"".join(written[STDOUT]), stderr=b"".join(written[STDERR]), exit_code=output.exit_code
                    )
                size += len(output.content)
                if size > OUTPUT_LIMIT_BYTES:
                    raise UnreachableError(f"the command writes more than {OUTPUT_LIMIT_BYTES} bytes")
                written[output.channel].append(output.content)
    except TimeoutError as error:
        raise UnreachableError(f"the command did not end within {timeout_seconds:g} s") from error
    raise UnreachableError("the connection to the command ended before it did")


async def stream_of(connection: Connection, command: Command) -> AsyncGenerator[Output]:
    """What a command writes as it comes, and at last how it ended. Raises UnreachableError, ApiError."""
    path = PODS.path(command.namespace, command.pod, "exec")
    params: list[tuple[str, str | int | float | bool | None]] = [
        ("container", command.container),
        ("stdout", "true"),
        ("stderr", "true"),
    ]
    params += [("command", argument) for argument in command.arguments]
    try:
        async with connection.http.websocket(path, params=params, subprotocols=list(_PROTOCOLS)) as session:
            while True:
                message = await session.receive_bytes()
                if message[:1] == bytes((_ERROR,)):
                    yield Output(channel=0, content=b"", exit_code=_exit_code(message[1:]))
                    return
                if message[:1] in (b"\x01", b"\x02") and len(message) > 1:
                    yield Output(channel=message[0], content=message[1:])
    except BaseExceptionGroup as group:
        raise _mapped(_innermost(group)) from group
    except (httpx2.HTTPError, HTTPXWSException, OSError) as error:
        raise _mapped(error) from error


def _exit_code(status: bytes) -> int:
    """Of the Status that ends a command; raises ApiError where it never ran."""
    try:
        said = json.loads(status)
    except ValueError as error:
        raise UnreachableError("the end of the command cannot be read") from error
    if isinstance(said, dict) and said.get("status") == "Success":
        return 0
    if isinstance(said, dict) and said.get("reason") == "NonZeroExitCode":
        for cause in objects(said, "details", "causes"):
            code = text(cause, "message")
            if text(cause, "reason") == "ExitCode" and code.isascii() and code.isdigit() and len(code) <= 3:
                return int(code)
        return 1
    raise error_of(said)


def _innermost(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1:
        group = group.exceptions[0]
    return group


def _mapped(error: BaseException) -> BaseException:
    response = getattr(error, "response", None)
    if isinstance(response, httpx2.Response):
        try:
            body = response.content
        except httpx2.StreamError:
            body = b'{"message": "the command was refused"}'
        return error_of_body(body, response.status_code)
    if isinstance(error, httpx2.HTTPError | HTTPXWSException | OSError):
        return UnreachableError(
            f"the command cannot be reached: {' '.join(str(error).split()) or type(error).__name__}"
        )
    return error
