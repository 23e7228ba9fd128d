"""One probe, asked as the kubelet would ask it, of the app at the pod's own address. Adapter.

A redirect is followed where the kubelet follows it, within the host, and only as long as it stays at the declared port
and scheme: a probe opens nothing else of the pod. Any other redirect is an answer, and counts as the kubelet counts one
that leads to another host: as success. What is read of an answer is bounded, and none of it goes any further.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

import httptools
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sidecar.probes.model import GrpcProbe, HttpProbe, Probe, TcpProbe
from sidecar.probes.reading import request_target
from sidecar.rpc import Limits, Method, RpcError, connected
from sidecar.rpc.plain import PlainEngine

_AGENT: Final = "kube-probe/1.0"
_REDIRECTS: Final = 10
_HEAD_LIMIT_BYTES: Final = 64 * 1024
_BODY_LIMIT_BYTES: Final = 10 * 1024  # the kubelet reads so much, and minds a body that is cut short before it
_CHUNK_BYTES: Final = 16 * 1024
_GRPC_ANSWER_BYTES: Final = 4 * 1024
_REDIRECTING: Final = frozenset({301, 302, 303, 307, 308})
_SERVING: Final = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus

# On the wire these two are grpc.health.v1's HealthCheckRequest (``string service = 1``) and HealthCheckResponse (an
# enumeration, ``status = 1``); its own .proto would clash with the app's if both were ever in one process.
_CHECK: Final[Method[StringValue, Int32Value]] = Method(
    path="/grpc.health.v1.Health/Check", answer=Int32Value, is_stream=False
)


class NoAnswerError(Exception):
    """The app gave none: nobody took the connection, or it ended, or the time did. The message is for the log."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the app said, as far as it matters; ``detail``: for the log, empty where all is well."""

    success: bool
    detail: str = ""


class Asker:
    """Asks the app at ``address``, an IP address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, probe: Probe) -> Answered:
        """Raises NoAnswerError, at the probe's deadline at the latest."""
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                match probe.does:
                    case HttpProbe() as http:
                        return await self._http(http)
                    case TcpProbe() as tcp:
                        return await self._tcp(tcp)
                    case GrpcProbe() as grpc:
                        return await self._grpc(grpc, probe.timeout_seconds)
        except TimeoutError as error:
            raise NoAnswerError(f"no answer within {probe.timeout_seconds:g} s") from error
        except OSError as error:  # ssl.SSLError is one
            known = error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError)
            words = os.strerror(error.errno or 0) if known else str(error)
            raise NoAnswerError(words.lower()) from error

    def _authority(self, port: int) -> str:
        return f"[{self._address}]:{port}" if ":" in self._address else f"{self._address}:{port}"

    @contextlib.asynccontextmanager
    async def _connected(
        self, port: int, context: ssl.SSLContext | None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        # An address is no server name, so a hello over TLS has none, as the kubelet's has none.
        reader, writer = await asyncio.open_connection(self._address, port, ssl=context, limit=_CHUNK_BYTES)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _tcp(self, probe: TcpProbe) -> Answered:
        _, writer = await asyncio.open_connection(self._address, probe.port)
        writer.close()  # not abort: a server may log a reset
        return Answered(True)

    async def _grpc(self, probe: GrpcProbe, timeout_seconds: float) -> Answered:
        limits = Limits(answer_bytes=_GRPC_ANSWER_BYTES, connect_seconds=timeout_seconds)
        authority = self._authority(probe.port)
        try:
            async with connected(self._address, probe.port, PlainEngine(), authority=authority, limits=limits) as app:
                question = StringValue(value=probe.service)
                answer = await app.unary(_CHECK, question, deadline_seconds=timeout_seconds)
        except RpcError as error:
            raise NoAnswerError(f"gRPC: {error}"[:200]) from error
        if answer.value != _SERVING:
            return Answered(False, f"gRPC health status {answer.value}")
        return Answered(True)

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _http(self, probe: HttpProbe) -> Answered:
        context = self._context() if probe.tls else None
        base = f"{'https' if probe.tls else 'http'}://{self._authority(probe.port)}"
        target, host = probe.target, _declared(probe, "host") or self._authority(probe.port)
        for _ in range(_REDIRECTS):
            async with self._connected(probe.port, context) as (reader, writer):
                writer.write(request_of(probe, target, host))
                answer = await read_answer(reader)
            if answer.status not in _REDIRECTING or answer.location is None:
                break
            found = followed(base, target, answer.location)
            if found is None:
                break
            target, is_absolute = found
            if is_absolute:
                host = self._authority(probe.port)
        else:
            return Answered(False, f"more than {_REDIRECTS} redirects")
        if 200 <= answer.status < 400:
            return Answered(True)
        return Answered(False, f"status {answer.status}")

    def _context(self) -> ssl.SSLContext:
        """It verifies nothing, so no algorithm is too weak for it."""
        if self._tls is None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE
            self._tls.set_ciphers("DEFAULT:@SECLEVEL=0")
        return self._tls


def _declared(probe: HttpProbe, name: str) -> str | None:
    return next((value for declared, value in probe.headers if declared.lower() == name), None)


def request_of(probe: HttpProbe, target: str, host: str) -> bytes:
    """The kubelet says its name and what it takes unless the pod declares them; declared empty, they are left out."""
    fields = [("host", host)]
    for name, value in (("user-agent", _AGENT), ("accept", "*/*")):
        declared = _declared(probe, name)
        if declared is None or declared:
            fields.append((name, declared or value))
    fields += [(name, value) for name, value in probe.headers if name.lower() not in ("host", "user-agent", "accept")]
    fields.append(("connection", "close"))
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode()


def followed(base: str, target: str, location: bytes) -> tuple[str, bool] | None:
    """The target that a redirect leads to, and whether it named the host; None if it leads elsewhere."""
    text = location.decode("latin-1")
    try:
        url = urlsplit(urljoin(base + target, text))
        is_absolute = bool(urlsplit(text).netloc)
        default = 443 if url.scheme == "https" else 80
        here, there = urlsplit(base), (url.scheme, url.hostname, url.port or default)
    except ValueError:
        return None
    if there != (here.scheme, here.hostname, here.port):
        return None
    return request_target((url.path or "/") + (f"?{url.query}" if url.query else "")), is_absolute


class Answer:
    """What httptools reads of a response."""

    def __init__(self) -> None:
        self.status = 0
        self.location: bytes | None = None
        self.body_bytes = 0
        self.head_complete = False
        self.complete = False
        self._ends_with_connection = True
        self._parser: httptools.HttpResponseParser

    def of(self, parser: httptools.HttpResponseParser) -> None:
        self._parser = parser

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"location":
            self.location = value
        elif lower in (b"content-length", b"transfer-encoding"):
            self._ends_with_connection = False

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.head_complete = True

    def on_body(self, piece: bytes) -> None:
        self.body_bytes += len(piece)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200 and self.status != 101:  # an interim answer (RFC 9110, section 15.2)
            self.head_complete, self.location, self._ends_with_connection = False, None, True
        else:
            self.complete = True

    @property
    def is_whole_at_eof(self) -> bool:
        return self.head_complete and self._ends_with_connection


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    answer.of(parser)
    size = 0
    while not answer.complete and answer.body_bytes < _BODY_LIMIT_BYTES:
        piece = await reader.read(_CHUNK_BYTES)
        if not piece:
            if answer.is_whole_at_eof:
                break
            raise NoAnswerError("the answer is cut short")
        size += len(piece)
        if size > _HEAD_LIMIT_BYTES + _BODY_LIMIT_BYTES:
            raise NoAnswerError("the answer's head is too large")
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            break
        except httptools.HttpParserError as error:
            raise NoAnswerError(f"not HTTP: {error}"[:200]) from error
    return answer
