"""A cluster full of services, pods and rules that are only said to run: written through the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from k8s.client.connection import Connection
from k8s.client.errors import ApiError, ConflictError
from k8s.client.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, SERVICES
from k8s.controller.documents import RESOURCES

ALLOWLISTS: Final = next(one for one in RESOURCES if one.kind == "Allowlist")
_AT_ONCE: Final = 16
_NOBODY: Final = "nobody"
"""A scheduler that there is not, so that no node is troubled with these pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How much there is; ``rules`` of each service's allowlist."""

    services: int = 1000
    pods: int = 5000
    rules: int = 20
    namespaces: int = 20

    def scaled(self, percent: int) -> World:
        """A part of it, for a look."""
        return World(
            services=max(self.services * percent // 100, self.namespaces),
            pods=max(self.pods * percent // 100, self.namespaces),
            rules=self.rules,
            namespaces=self.namespaces,
        )

    def namespace(self, number: int) -> str:
        """Of a service."""
        return f"world-{number % self.namespaces}"

    def service(self, number: int) -> str:
        return f"s{number}"


async def fill(connection: Connection, world: World) -> None:
    """Write all of it; what is there already stays."""
    spaces = [world.namespace(number) for number in range(world.namespaces)]
    await _all(connection.create(NAMESPACES, _namespace(name)) for name in spaces)
    for name in spaces:
        await _there(connection, name)
    numbers = range(world.services)
    await _all(connection.create(SERVICES, _service(world, one), world.namespace(one)) for one in numbers)
    await _all(connection.create(ALLOWLISTS, _allowlist(world, one), world.namespace(one)) for one in numbers)
    await _all(_pod(connection, world, one) for one in range(world.pods))


async def _all(work: Iterable[Awaitable[Any]]) -> None:
    permits = asyncio.Semaphore(_AT_ONCE)

    async def one(what: Awaitable[Any]) -> None:
        async with permits:
            try:
                await what
            except ConflictError:
                return

    await asyncio.gather(*(one(what) for what in work))


async def _there(connection: Connection, namespace: str) -> None:
    """No pod can be made before its account is."""
    async with asyncio.timeout(60):
        while True:
            try:
                await connection.get(SERVICE_ACCOUNTS, "default", namespace)
                return
            except ApiError:
                await asyncio.sleep(0.2)


def _namespace(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"ringfence.io/inject": "enabled"}}}


def _service(world: World, number: int) -> dict[str, Any]:
    name = world.service(number)
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}


def allowlist_rules(world: World, number: int, *, path: str = "") -> list[dict[str, Any]]:
    """The rules of a service's allowlist; ``path``: of the first one."""
    found = []
    for rule in range(world.rules):
        caller = (number * 7 + rule * world.namespaces + rule) % world.services
        name = f"{world.namespace(caller)}/{world.service(caller)}"
        to = {"methods": ["GET"], "paths": [path if path and not rule else f"/api/{number}/{rule}/{{id}}"]}
        found.append({"name": f"r{rule}", "from": [name], "to": to})
    return found


def _allowlist(world: World, number: int) -> dict[str, Any]:
    spec = {"service": world.service(number), "rules": allowlist_rules(world, number)}
    return {"metadata": {"name": world.service(number)}, "spec": spec}


async def _pod(connection: Connection, world: World, number: int) -> None:
    service = number % world.services
    namespace, app = world.namespace(service), world.service(service)
    name = f"{app}-{number // world.services}"
    container = {"name": "app", "image": "nothing", "ports": [{"containerPort": 8080}]}
    spec = {"schedulerName": _NOBODY, "containers": [container]}
    try:
        await connection.create(PODS, {"metadata": {"name": name, "labels": {"app": app}}, "spec": spec}, namespace)
    except ConflictError:
        return
    await connection.patch(PODS, name, {"status": running(number)}, namespace, subresource="status")


def running(number: int, *, ready: bool = True) -> dict[str, Any]:
    """The status of a pod that runs, at an address of its own."""
    address = f"10.{100 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
