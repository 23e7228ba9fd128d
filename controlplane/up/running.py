"""A running mesh: started in order, each part waited for before the next, and stopped in the opposite one.

Control plane, then a join token for each sidecar, the sidecars, the apps. What cannot be ready says why, and nothing of
what was started stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp

from controlplane.up.children import (
    MeshLaunch,
    app_child,
    control_plane_child,
    sidecar_child,
    sidecar_name,
)
from controlplane.up.groups import GroupKeeper
from controlplane.up.operator import Operator, OperatorError
from controlplane.up.probes import listening, ready_over_http
from controlplane.up.restarts import describe_exit
from controlplane.up.sockets import free_addresses, wanted_sockets
from controlplane.up.supervisor import Child, ChildSpec, Listener, Supervisor, Tier
from ringfence.kit.addresses import SocketAddress
from ringfence.kit.private_file import replace_private
from ringfence.mesh import Instance, Mesh, Service
from ringfence.spiffe import SpiffeId

READY_SECONDS: Final = 60.0
_ASK_AGAIN_SECONDS: Final = 0.05
_EXITS_WHILE_STARTING: Final = 3
_BAD_INPUT: Final = 2
_TOKEN_SECONDS: Final = 300

Probe = Callable[[], Awaitable[str | None]]


class StartError(Exception):
    """A part of the mesh did not become ready; the message names it and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMesh:
    """What runs, once all of it is ready."""

    launch: MeshLaunch
    supervisor: Supervisor
    root_fingerprint: str
    signals: dict[str, SocketAddress]
    """Where the sidecar of each workload (``<namespace>/<service>`` or that and ``/<instance>``) serves /readyz and
    /metrics."""

    waiting_apps: tuple[str, ...] = ()
    """Apps that were started and do not listen yet."""


@asynccontextmanager
async def running_mesh(
    launch: MeshLaunch, listener: Listener, on_supervisor: Callable[[Supervisor], None]
) -> AsyncIterator[RunningMesh]:
    """Start the mesh, hand it out when it is ready, stop it at the end of the block.

    ``on_supervisor`` gets the supervisor before anything is started, to kill all at once if a person insists.
    Raises StartError when a part does not become ready.
    """
    with GroupKeeper() as keeper:
        try:
            async with asyncio.TaskGroup() as tasks, aiohttp.ClientSession() as session:
                supervisor = Supervisor(tasks, keeper, listener)
                on_supervisor(supervisor)
                try:
                    yield await _Start(launch, supervisor, session, listener).run()
                finally:
                    for name in await supervisor.stop():
                        listener.on_line(name, "was killed: it did not end in time")
                    for line in await keeper.end_orphans():
                        listener.on_line("up", line)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:  # a task group wraps even the one error of its own block
                raise group.exceptions[0] from None
            raise


class _Start:
    """The way from nothing to a RunningMesh."""

    def __init__(
        self, launch: MeshLaunch, supervisor: Supervisor, session: aiohttp.ClientSession, listener: Listener
    ) -> None:
        self._launch = launch
        self._supervisor = supervisor
        self._session = session
        self._listener = listener
        self._operator = Operator(launch.places.admin_socket)

    async def run(self) -> RunningMesh:
        workloads = list(self._launch.mesh.workloads)
        control_plane = self._supervisor.start(control_plane_child(self._launch))
        await self._until_ready(control_plane, self._operator.ready)
        root_fingerprint = await self._root_fingerprint()
        signals = _signals(self._launch.mesh)
        await asyncio.gather(
            *(self._sidecar(*one, signals[one[0].name_of(one[1])], root_fingerprint) for one in workloads)
        )
        late = await asyncio.gather(*(self._app(*one) for one in workloads))
        return RunningMesh(
            launch=self._launch,
            supervisor=self._supervisor,
            root_fingerprint=root_fingerprint,
            signals=signals,
            waiting_apps=tuple(name for name in late if name is not None),
        )

    async def _root_fingerprint(self) -> str:
        try:
            return await self._operator.root_fingerprint()
        except OperatorError as error:
            raise StartError(f"the control plane did not tell its root: {error}") from error

    async def _sidecar(
        self, service: Service, instance: Instance, signals: SocketAddress, root_fingerprint: str
    ) -> None:
        name = sidecar_name(service, instance)
        token_file = self._launch.places.join_token_file(service.namespace, service.name, instance.name)

        async def prepare() -> None:
            try:
                await self._mint(service.spiffe_id, token_file)
            except OperatorError as error:
                # It may not need one: after its first start it has a host key. If it does, it says so itself.
                self._listener.on_line(name, f"starts without a new join token: {error}")

        spec: ChildSpec = sidecar_child(self._launch, service, instance, signals, root_fingerprint)
        child = self._supervisor.start(replace(spec, prepare=prepare))
        await self._until_ready(child, lambda: ready_over_http(self._session, signals))

    async def _mint(self, spiffe_id: SpiffeId, token_file: Path) -> None:
        token = await self._operator.mint_join_token(spiffe_id, _TOKEN_SECONDS)
        replace_private(token_file, token.encode() + b"\n")

    async def _app(self, service: Service, instance: Instance) -> str | None:
        """Start it and wait until it listens; an app that does not is no reason to end the mesh, but is named."""
        if instance.run is None:
            return None
        child = self._supervisor.start(app_child(self._launch, service, instance, instance.run))
        for address in dict.fromkeys(instance.apps):
            try:
                await self._until_ready(child, lambda address=address: listening(address))  # type: ignore[misc]
            except StartError as error:
                self._listener.on_line(child.spec.name, str(error))
                return child.spec.name
        return None

    async def _until_ready(self, child: Child, probe: Probe) -> None:
        name = child.spec.name
        reason: str | None = "it was not asked yet"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while (reason := await probe()) is not None:
                    if (code := child.last_code) is not None and _hopeless(child, code):
                        raise StartError(f"{name} does not start: it {_ends(child, code)}")
                    await asyncio.sleep(_ASK_AGAIN_SECONDS)
        except TimeoutError:
            raise StartError(f"{name} is not ready after {READY_SECONDS:.0f} s: {reason}") from None


def _hopeless(child: Child, code: int) -> bool:
    """Our own commands say by their status that their input is bad; another try would find it no better."""
    ours = child.spec.tier is not Tier.APP
    return child.restarts.total >= _EXITS_WHILE_STARTING or (ours and code == _BAD_INPUT)


def _ends(child: Child, code: int) -> str:
    last = next((line for line in reversed(child.last_lines) if line.strip()), "")
    times = child.restarts.total
    words = describe_exit(code) if times == 1 else f"{describe_exit(code)} {times} times"
    return f"{words}, and last said: {last}" if last else words


def _signals(mesh: Mesh) -> dict[str, SocketAddress]:
    """Where each sidecar serves its signals: as the mesh says, else where there is room. StartError."""
    told = {service.name_of(instance): instance.signals for service, instance in mesh.workloads}
    missing = sum(address is None for address in told.values())
    try:
        free = iter(free_addresses(missing, but={one.address.port for one in wanted_sockets(mesh)}))
    except OSError as error:
        raise StartError(f"no address for the signals of every sidecar: {error}") from error
    return {name: address or next(free) for name, address in told.items()}
