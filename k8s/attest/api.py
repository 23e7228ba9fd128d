"""The attestor's questions, put to the API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from k8s.attest.attestor import QUESTION_SECONDS, KubernetesAttestor
from k8s.attest.keys import ApiUnavailableError, KeyKeeper
from k8s.client.connection import Connection
from k8s.client.errors import ApiError, KubernetesError, NotFoundError, UnreachableError
from k8s.client.resources import PODS, TOKEN_REVIEWS
from k8s.objects.pods import Pod, read_pod
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger

HeldPod = Callable[[str, str], Pod | None]
"""Namespace and name to the pod as the watch has it."""
_AWAY: Final = frozenset((429, 500, 502, 503, 504))
"""What a server answers that is busy, going, or without its store."""
_CONFIGURATION: Final = "/.well-known/openid-configuration"
_KEY_SET: Final = "/openid/v1/jwks"


class ApiCluster:
    """``attestor.Cluster`` and ``keys.Discovery`` over a connection."""

    def __init__(self, connection: Connection, held_pod: HeldPod) -> None:
        self._connection = connection
        self._held_pod = held_pod

    async def review(self, body: dict[str, Any]) -> dict[str, Any]:
        with _unavailable():
            return await self._connection.create(TOKEN_REVIEWS, body)

    async def pod(self, namespace: str, name: str) -> Pod | None:
        try:
            with _unavailable():
                return read_pod(await self._connection.get(PODS, name, namespace))
        except ApiUnavailableError as error:
            if isinstance(error.__cause__, NotFoundError):
                return None
            raise

    def held_pod(self, namespace: str, name: str) -> Pod | None:
        return self._held_pod(namespace, name)

    async def openid_configuration(self) -> dict[str, Any]:
        with _unavailable():
            return await self._connection.ask("GET", _CONFIGURATION)

    async def key_set(self) -> dict[str, Any]:
        with _unavailable():
            return await self._connection.ask("GET", _KEY_SET)


def open_attestor(
    connection: Connection,
    held_pod: HeldPod,
    key_file: Path | None,
    *,
    clock: Clock,
    log: Logger,
    random: Callable[[], float],
) -> tuple[KubernetesAttestor, KeyKeeper]:
    """The attestor of the cluster at ``connection``, and the keeper of its keys, whose ``run`` is to be a task."""
    cluster = ApiCluster(connection.within(QUESTION_SECONDS), held_pod)
    keys = KeyKeeper(cluster, key_file, clock=clock, log=log, random=random)
    keys.load()
    return KubernetesAttestor(cluster, keys, clock=clock, log=log), keys


@contextmanager
def _unavailable() -> Iterator[None]:
    """An answer that is none, whatever the reason: no permission is no "no" to whoever showed a token."""
    try:
        yield
    except (KubernetesError, ValueError) as error:
        away = isinstance(error, UnreachableError) or (isinstance(error, ApiError) and error.code in _AWAY)
        raise ApiUnavailableError(str(error), answered=not away) from error
