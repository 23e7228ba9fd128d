"""A cluster as the commands of an operator need it: objects, logs, and commands in containers. The port; ``live`` is it
on a real API server, tests have one of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from k8s.client.resources import Resource
from k8s.objects.lenient import Json


class ClusterError(Exception):
    """It could not be asked, or said no; the text is one line. ``absent``: there is no such object or kind."""

    def __init__(self, text: str, *, absent: bool = False) -> None:
        super().__init__(text)
        self.absent = absent


class UnusableError(ClusterError):
    """No cluster can be named by what was given; nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command in a container wrote and how it ended."""

    stdout: str
    stderr: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A container of a pod."""

    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}"


class Cluster(Protocol):
    """Every method raises ClusterError."""

    @property
    def namespace(self) -> str:
        """The one that the configuration names."""

    async def objects(self, resource: Resource, namespace: str = "", *, labels: str = "") -> list[Json]:
        """All of a kind, each with its kind and apiVersion; of a kind that is not served there are none."""

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """One object."""

    async def patch(self, resource: Resource, name: str, body: Mapping[str, object], namespace: str = "") -> Json:
        """Merge ``body`` into an object."""

    async def apply(self, resource: Resource, name: str, body: Mapping[str, object], namespace: str = "") -> Json:
        """Have an object say what ``body`` says, made if it is not there."""

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Take an object away; one that is not there is away."""

    async def text(self, path: str, params: Mapping[str, str], limit_bytes: int) -> str:
        """What stands at a path that is no JSON: a log, metrics. Cut at ``limit_bytes``."""

    async def version(self) -> str:
        """Of the API server."""

    async def run(self, place: Place, argv: Sequence[str], *, timeout_seconds: float = 30.0) -> Ran:
        """Run a command to its end."""

    def stream(self, place: Place, argv: Sequence[str]) -> AsyncGenerator[str, None]:
        """The lines that a command writes to standard output; ends with it. What it says last on standard error is the
        error where it fails."""

    def lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[str, None]:
        """The lines of an answer that goes on: a log that is followed."""
