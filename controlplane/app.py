"""The control plane process: constructs every adapter, runs their tasks, stops them in order.

Order of starting: what the mesh is read from opened, addresses free, CA open, ledger read, snapshots published, own
SVID issued; only then does anything listen. Order of stopping: sidecars are told to come back elsewhere or later, calls
in hand get a moment, servers close, the CA closes.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import grpc

import ca
from controlplane.administration import Administration
from controlplane.control.caller import CallerCheck
from controlplane.control.server_identity import ServerIdentity
from controlplane.control.servers import JOINING_LIMITS, AddressTakenError, ServerLimits, listen, make_server
from controlplane.control.service import ControlService, StreamLimits
from controlplane.file_origin import open_files
from controlplane.flows.keeping import open_keeper
from controlplane.intake.readying import Readying
from controlplane.metrics import ControlPlaneMetrics
from controlplane.operate.admin import AdminSocketError, open_admin_socket
from controlplane.operate.serving import serve
from controlplane.origins import Opened, Parts
from controlplane.platform_origin import OpenedPlatform
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerDamagedError, LedgerFile
from controlplane.push.readiness import ReadinessBoard
from controlplane.push.revisions import Ledger
from controlplane.rollout.folder import FolderError
from controlplane.settings import ControlPlaneSettings
from controlplane.start import StartRefusedError, open_authority
from controlplane.state_folder import StateFolderError, hold_state_folder
from controlplane.tokens.fetch import KeyFetcher
from controlplane.tokens.keeper import KeyKeeper
from controlplane.tokens.store import KeyStore
from ringfence.kit.addresses import SocketAddress
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.wire.gen import control_pb2_grpc

_DESCRIPTORS: Final = 16_384


def raise_descriptor_limit() -> int:
    """Take as many descriptors as allowed, and say how many these are.

    With the usual 1,024 the mesh would end at about its 500th sidecar.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


async def run_control_plane(settings: ControlPlaneSettings, *, log: Logger, clock: Clock) -> None:
    """Run until SIGTERM or SIGINT. Raises StartRefusedError when it cannot start, and then has started nothing."""
    descriptors = raise_descriptor_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(hold_state_folder(settings.state))
            opened = await _open(settings, clock)
            authority = await asyncio.to_thread(open_authority, settings, opened.document, clock, log)
            stack.push_async_callback(asyncio.to_thread, authority.close)
            admin_listener = stack.enter_context(open_admin_socket(settings.admin_socket))
            stack.callback(settings.admin_socket.unlink, missing_ok=True)
            signals_listener = stack.enter_context(_listening(opened.addresses.signals))
        except (StateFolderError, AdminSocketError, AddressTakenError, FolderError) as error:
            raise StartRefusedError([str(error)]) from error
        process = _Process(settings, opened, authority, descriptors=descriptors, log=log, clock=clock)
        await process.run(stop, admin_listener=admin_listener, signals_listener=signals_listener)


async def _open(settings: ControlPlaneSettings, clock: Clock) -> Opened:
    if settings.platform is not None:
        return OpenedPlatform(settings, settings.platform)
    return await open_files(settings, clock)


class _Process:
    """The parts of a control plane that was checked and may start."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        opened: Opened,
        authority: ca.Authority,
        *,
        descriptors: int,
        log: Logger,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._descriptors = descriptors
        self._addresses = opened.addresses
        self._authority = authority
        self._log = log
        self._clock = clock
        bundle = authority.bundle()
        self._metrics = ControlPlaneMetrics(authority.tally, issuing_not_after=authority.issuing_not_after)
        self._distributor = Distributor(
            clock=clock, limit=settings.subscriptions, identity_limit=settings.subscriptions_an_identity
        )
        self._readiness = ReadinessBoard(changed=lambda: self._readying.changed())
        ledger_file = LedgerFile(settings.state / "revisions.json")
        self._fetcher = KeyFetcher()
        self._keys = KeyKeeper(
            fetch=self._fetcher.fetch,
            store=KeyStore(settings.state / "token-issuers.json"),
            changed=lambda: self._origin.again(),
            metrics=self._metrics,
            log=log.bind("tokens"),
            clock=clock,
            random=random.random,
        )
        self._keys.load()
        self._flows = open_keeper(
            settings.state / "flows.sqlite", metrics=self._metrics, clock=clock, log=log.bind("flows")
        )
        self._identity = ServerIdentity(
            issue=lambda: asyncio.to_thread(authority.issue_control_plane),
            bundle=bundle,
            metrics=self._metrics,
            log=log.bind("identity"),
            clock=clock,
            random=random.random,
        )
        parts = Parts(
            settings=settings,
            authority=authority,
            distributor=self._distributor,
            readiness=self._readiness,
            keys=self._keys,
            flows=self._flows,
            ledger=self._ledger(ledger_file),
            ledger_file=ledger_file,
            metrics=self._metrics,
            log=log,
            clock=clock,
        )
        self._origin = opened.assemble(parts)
        self._administration = Administration(parts, self._origin)
        self._readying = Readying(
            show=self._origin.show_readiness, next_change=lambda: self._readiness.next_change(clock.monotonic())
        )
        self._service = ControlService(
            callers=CallerCheck(bundle, clock),
            distributor=self._distributor,
            readiness=self._readiness,
            metrics=self._metrics,
            log=log.bind("control"),
            clock=clock,
            limits=StreamLimits(),
            flows=self._flows,
            heard=self._origin.stir,
        )
        self._serving = False

    async def run(self, stop: asyncio.Event, *, admin_listener: socket.socket, signals_listener: socket.socket) -> None:
        """Start, serve until ``stop``, drain, stop."""
        if not await self._started(stop):
            await self._origin.close()
            return
        try:
            await self._identity.renew()
        except ca.CaError as error:
            raise StartRefusedError([f"--ca-data: no identity for the control plane: {error}"]) from error
        # A quarter stays for files, the database, signals and operators, whatever strangers and sidecars do.
        joining = make_server(JOINING_LIMITS.within(self._descriptors // 4))
        mesh = make_server(ServerLimits().within(self._descriptors // 2))
        ca.add_joining(joining, self._authority, self._origin.evidence)
        ca.add_renewal(mesh, self._authority, self._origin.evidence)
        control_pb2_grpc.add_ControlServicer_to_server(self._service, mesh)
        try:
            addresses = await self._listen(joining, mesh)
            addresses["signals"] = str(SocketAddress(*signals_listener.getsockname()[:2]))
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._keys.refresh)
            admin = self._administration.admin(addresses).application()
            signals = self._administration.signals(self._waiting_for).application()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(serve(admin, admin_listener), name="admin"),
                    group.create_task(serve(signals, signals_listener), name="signals"),
                    group.create_task(self._border("identity", self._identity.run), name="identity"),
                    group.create_task(self._border("token issuers", self._keys.run), name="token issuers"),
                    group.create_task(self._border("readiness", self._readying.run), name="readiness"),
                ]
                for name, run in self._origin.tasks():
                    tasks.append(group.create_task(self._border(name, run), name=name))
                if self._flows is not None:
                    tasks.append(group.create_task(self._border("flows", self._flows.run), name="flows"))
                self._serving = True
                self._log.info(
                    "control plane ready",
                    **addresses,
                    admin_socket=str(self._settings.admin_socket),
                    trust_domain=self._authority.trust_domain.name,
                    root_fingerprint=self._authority.root_fingerprint,
                    revision=self._distributor.catalog.revision,
                )
                await stop.wait()
                self._serving = False
                self._log.info("control plane stops", sidecars=len(self._distributor))
                self._distributor.drain()
                await asyncio.gather(*(server.stop(self._settings.drain_seconds) for server in (joining, mesh)))
                for task in tasks:
                    task.cancel()
        finally:
            await self._origin.close()
            await asyncio.gather(joining.stop(None), mesh.stop(None))
            self._fetcher.close()
            await self._origin.settle()
            if self._flows is not None:
                self._flows.close()

    async def _started(self, stop: asyncio.Event) -> bool:
        """Whether the first configuration is in force; False when it was told to stop before."""
        starting = asyncio.create_task(self._origin.start(), name="start")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return False
            await starting
            return True
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _listen(self, joining: grpc.aio.Server, mesh: grpc.aio.Server) -> dict[str, str]:
        """Open both servers; the addresses they got, by the settings' names."""
        wanted = self._addresses
        try:
            join = await listen(joining, wanted.join, self._identity.credentials(mutual=False))
            mutual = await listen(mesh, wanted.listen, self._identity.credentials(mutual=True))
        except AddressTakenError as error:
            raise StartRefusedError([str(error)]) from error
        return {"join": str(join), "listen": str(mutual)}

    def _ledger(self, file: LedgerFile) -> Ledger:
        try:
            return file.load()
        except LedgerDamagedError as error:
            # Above any revision that was ever made here, as long as changes are more than a second apart.
            self._log.warning("revision ledger cannot be believed, counting on from the time", error=str(error))
            return Ledger(revision=int(self._clock.now()))
        except OSError as error:
            line = f"--state: {file.path} cannot be read: {error.strerror or error}"
            raise StartRefusedError([line]) from error

    async def _border(self, task: str, run: Callable[[], Awaitable[None]]) -> None:
        """Where an unexpected failure of a task ends: told, counted, and the task goes on after a pause."""
        while True:
            try:
                return await run()
            except Exception as error:
                self._metrics.task_failures.labels(task).inc()
                self._log.error("task failed", task=task, error=repr(error))
                await asyncio.sleep(1.0)

    def _waiting_for(self) -> list[str]:
        missing = []
        if not self._serving:
            missing.append("its servers")
        if not self._identity.valid:
            missing.append("an identity of its own")
        return missing


def _listening(address: SocketAddress) -> socket.socket:
    """A listening TCP socket at ``address``. Raises AddressTakenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=64)
    except OSError as error:
        raise AddressTakenError(f"--signals: {address} cannot be listened on: {error.strerror}") from error
