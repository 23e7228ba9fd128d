"""The port on a real API server, by ``k8s.client``."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

from k8s.client.connection import Connection
from k8s.client.errors import ConfigurationError, KubernetesError, NotFoundError
from k8s.client.execution import STDERR, STDOUT, Command, run_in, stream_of
from k8s.client.resources import Resource
from k8s.daytwo.cluster import ClusterError, Place, Ran, UnusableError
from k8s.objects.lenient import Json

OBJECTS_LIMIT: Final = 200_000
_LINE_LIMIT_BYTES: Final = 1 << 20
_MANAGER: Final = "ringfence-ramp"


class LiveCluster:
    """``Cluster`` over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def namespace(self) -> str:
        return self._connection.namespace

    async def objects(self, resource: Resource, namespace: str = "", *, labels: str = "") -> list[Json]:
        found: list[Json] = []
        try:
            async for one in self._connection.all(resource, namespace, labels=labels):
                found.append({"apiVersion": resource.api_version, "kind": resource.kind, **one})
                if len(found) > OBJECTS_LIMIT:
                    raise ClusterError(f"there are more than {OBJECTS_LIMIT} {resource.plural} (give a namespace)")
        except NotFoundError:
            return []
        except KubernetesError as error:
            raise _mapped(error) from error
        return found

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        try:
            return await self._connection.get(resource, name, namespace)
        except (KubernetesError, ValueError) as error:
            raise _mapped(error) from error

    async def patch(self, resource: Resource, name: str, body: Mapping[str, object], namespace: str = "") -> Json:
        try:
            return await self._connection.patch(resource, name, dict(body), namespace)
        except (KubernetesError, ValueError) as error:
            raise _mapped(error) from error

    async def apply(self, resource: Resource, name: str, body: Mapping[str, object], namespace: str = "") -> Json:
        # The server finds no name in the path where it makes the object.
        named = {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **body}
        try:
            return await self._connection.apply(resource, name, named, namespace, manager=_MANAGER)
        except (KubernetesError, ValueError) as error:
            raise _mapped(error) from error

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        try:
            await self._connection.delete(resource, name, namespace)
        except NotFoundError:
            return
        except (KubernetesError, ValueError) as error:
            raise _mapped(error) from error

    async def text(self, path: str, params: Mapping[str, str], limit_bytes: int) -> str:
        parts: list[bytes] = []
        size = 0
        try:
            async with self._connection.lines(path, params, silence_seconds=30.0) as lines:
                async for line in lines:
                    parts.append(line)
                    size += len(line) + 1
                    if size >= limit_bytes:
                        break
        except KubernetesError as error:
            raise _mapped(error) from error
        return b"\n".join([*parts, b""])[:limit_bytes].decode("utf-8", "replace")

    async def version(self) -> str:
        try:
            said = (await self._connection.ask("GET", "/version")).get("gitVersion")
        except KubernetesError as error:
            raise _mapped(error) from error
        return said if isinstance(said, str) and said else "unknown"

    async def run(self, place: Place, argv: Sequence[str], *, timeout_seconds: float = 30.0) -> Ran:
        try:
            outcome = await run_in(self._connection, _command(place, argv), timeout_seconds=timeout_seconds)
        except (KubernetesError, ValueError) as error:
            raise _mapped(error) from error
        return Ran(
            stdout=outcome.stdout.decode("utf-8", "replace"),
            stderr=outcome.stderr.decode("utf-8", "replace"),
            status=outcome.exit_code,
        )

    async def stream(self, place: Place, argv: Sequence[str]) -> AsyncGenerator[str, None]:
        pending, complaint = b"", b""
        try:
            async with aclosing(stream_of(self._connection, _command(place, argv))) as outputs:
                async for output in outputs:
                    if output.channel == STDERR:
                        complaint = (complaint + output.content)[-4096:]
                    elif output.channel == STDOUT:
                        *whole, pending = (pending + output.content).split(b"\n")
                        for line in whole:
                            yield line.decode("utf-8", "replace")
                        if len(pending) > _LINE_LIMIT_BYTES:
                            raise ClusterError(f"{place} writes a line of more than {_LINE_LIMIT_BYTES} bytes")
                    elif output.exit_code:
                        said = complaint.decode("utf-8", "replace").strip().splitlines() or ["it says no more"]
                        raise ClusterError(f"{place}: {said[-1]}")
        except (KubernetesError, ValueError) as error:
            raise _mapped(error) from error

    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[str, None]:
        try:
            async with self._connection.lines(path, params, silence_seconds=None) as lines:
                async for line in lines:
                    yield line.decode("utf-8", "replace")
        except KubernetesError as error:
            raise _mapped(error) from error


@asynccontextmanager
async def open_cluster(kubeconfig: str, context: str) -> AsyncIterator[LiveCluster]:
    """The cluster that ``kubeconfig`` names, or by the usual rules: $KUBECONFIG (of several files the first that is
    there), ~/.kube/config, the account of the pod that this runs in. Raises UnusableError."""
    try:
        connection = Connection.open(kubeconfig or _from_environment(), context)
    except ConfigurationError as error:
        raise UnusableError(str(error)) from error
    try:
        yield LiveCluster(connection)
    finally:
        await connection.close()


def _from_environment() -> str:
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    if len(named) < 2:
        return ""  # the client reads it by itself
    return next((one for one in named if one and Path(one).is_file()), "")


def _command(place: Place, argv: Sequence[str]) -> Command:
    return Command(namespace=place.namespace, pod=place.pod, container=place.container, arguments=tuple(argv))


def _mapped(error: Exception) -> ClusterError:
    return ClusterError(str(error), absent=isinstance(error, NotFoundError))
