"""A cluster of plain objects for commands that ask one: lists, changes, logs, and commands in containers."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import yaml

from k8s.client.resources import Resource
from k8s.daytwo.cluster import Cluster, ClusterError, Place, Ran

Answer = Ran | ClusterError


def ran(stdout: str = "", *, stderr: str = "", status: int = 0) -> Ran:
    return Ran(stdout=stdout, stderr=stderr, status=status)


class FakeCluster:
    """``answers``: what a command in a container gives; ``texts``: what stands at a path. What was changed, run and
    asked for is kept in order."""

    def __init__(self, *manifests: str, gitversion: str = "v1.36.3") -> None:
        self.items: list[dict[str, Any]] = [one for text in manifests for one in yaml.safe_load_all(text) if one]
        self.answers: Callable[[Place, Sequence[str]], Answer] = lambda place, argv: ClusterError(f"{place} is away")
        self.texts: dict[str, str] = {}
        self.changes: list[tuple[str, str, dict[str, Any]]] = []
        self.changed: Callable[[dict[str, Any]], None] = lambda one: None
        self.ran: list[tuple[str, list[str]]] = []
        self.forbidden: set[str] = set()
        self._version = gitversion

    @property
    def namespace(self) -> str:
        return "shop"

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Cluster]:
        yield self

    def opener(self, kubeconfig: str, context: str) -> Any:
        return self._opened()

    def _allowed(self, resource: Resource) -> None:
        if resource.plural in self.forbidden:
            raise ClusterError(f"{resource.plural} is forbidden")

    async def objects(self, resource: Resource, namespace: str = "", *, labels: str = "") -> list[Mapping[str, Any]]:
        self._allowed(resource)
        wanted = [one.partition("=") for one in labels.split(",")] if labels else []

        def has(held: Mapping[str, str]) -> bool:
            return all(name in held and (not equals or held[name] == value) for name, equals, value in wanted)

        return [
            copy.deepcopy(one)
            for one in self.items
            if one["kind"] == resource.kind
            and (not namespace or one["metadata"].get("namespace") == namespace)
            and has(one["metadata"].get("labels", {}))
        ]

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Mapping[str, Any]:
        self._allowed(resource)
        return copy.deepcopy(self._found(resource, name, namespace))

    def _found(self, resource: Resource, name: str, namespace: str) -> dict[str, Any]:
        for one in self.items:
            where = one["metadata"].get("namespace", "")
            if (one["kind"], one["metadata"]["name"], where) == (resource.kind, name, namespace):
                return one
        raise ClusterError(f"{resource.plural} {name} not found", absent=True)

    async def patch(
        self, resource: Resource, name: str, body: Mapping[str, object], namespace: str = ""
    ) -> Mapping[str, Any]:
        found = self._found(resource, name, namespace)
        self.changes.append((resource.kind, name, dict(body)))
        _merge(found, body)
        self.changed(found)
        return copy.deepcopy(found)

    async def apply(
        self, resource: Resource, name: str, body: Mapping[str, object], namespace: str = ""
    ) -> Mapping[str, Any]:
        self.changes.append((resource.kind, name, dict(body)))
        made = {"kind": resource.kind, "metadata": {}, **dict(body)}
        metadata = {**dict(made["metadata"]), "name": name, "namespace": namespace}
        self.items = [
            one
            for one in self.items
            if (one["kind"], one["metadata"]["name"], one["metadata"].get("namespace", ""))
            != (resource.kind, name, namespace)
        ]
        self.items.append({**made, "metadata": metadata})
        return copy.deepcopy(self.items[-1])

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        self.changes.append((resource.kind, name, {}))
        key = (resource.kind, name, namespace)
        self.items = [
            one
            for one in self.items
            if (one["kind"], one["metadata"]["name"], one["metadata"].get("namespace", "")) != key
        ]

    async def text(self, path: str, params: Mapping[str, str], limit_bytes: int) -> str:
        if path not in self.texts:
            raise ClusterError(f"nothing at {path}", absent=True)
        return self.texts[path][:limit_bytes]

    async def version(self) -> str:
        return self._version

    async def run(self, place: Place, argv: Sequence[str], *, timeout_seconds: float = 30.0) -> Ran:
        self.ran.append((str(place), list(argv)))
        answer = self.answers(place, argv)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    async def stream(self, place: Place, argv: Sequence[str]) -> AsyncGenerator[str, None]:
        answer = await self.run(place, argv)
        for line in answer.stdout.splitlines():
            yield line
        if answer.status:
            raise ClusterError(answer.stderr)

    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[str, None]:
        for line in (await self.text(path, params, 1 << 30)).splitlines():
            yield line


def _merge(into: dict[str, Any], body: Mapping[str, Any]) -> None:
    """RFC 7396."""
    for name, value in body.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        elif isinstance(value, Mapping):
            into[name] = {}
            _merge(into[name], value)
        else:
            into[name] = value
