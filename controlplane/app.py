"""The control plane process: constructs every adapter, runs their tasks, stops them in order.

Order of starting: files judged, addresses free, CA open, ledger read, snapshots published, own SVID issued; only then
does anything listen. Order of stopping: sidecars are told to come back elsewhere or later, calls in hand get a moment,
servers close, the CA closes.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

import grpc

import ca
from controlplane.control.caller import CallerCheck
from controlplane.control.server_identity import ServerIdentity
from controlplane.control.servers import JOINING_LIMITS, AddressTakenError, ServerLimits, listen, make_server
from controlplane.control.service import ControlService, StreamLimits
from controlplane.flows.keeping import open_keeper
from controlplane.intake.applying import Applier
from controlplane.intake.readying import Readying
from controlplane.intake.sources import POLICY_SUFFIXES, SourceFiles, only_change
from controlplane.metrics import ControlPlaneMetrics
from controlplane.operate.admin import (
    AdminApi,
    AdminSocketError,
    BadRequestError,
    UnavailableError,
    open_admin_socket,
)
from controlplane.operate.flows_api import FlowsApi
from controlplane.operate.policy_api import PolicyApi
from controlplane.operate.policy_status import policy_status
from controlplane.operate.serving import serve
from controlplane.operate.signals import SignalsApi
from controlplane.operate.sources_api import SourcesApi
from controlplane.operate.status import standings, status_document
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerDamagedError, LedgerFile
from controlplane.push.readiness import ReadinessBoard
from controlplane.push.revisions import Ledger
from controlplane.rollout.api import RolloutApi
from controlplane.rollout.folder import FolderError, PolicyFolderWriter
from controlplane.rollout.history import HistoryError
from controlplane.rollout.making import make_rollouts, open_history, open_writer, whole
from controlplane.settings import ControlPlaneSettings
from controlplane.start import Readings, StartRefusedError, open_authority, read_first
from controlplane.state_folder import StateFolderError, hold_state_folder
from controlplane.tokens.fetch import KeyFetcher
from controlplane.tokens.keeper import KeyKeeper
from controlplane.tokens.store import KeyStore
from ringfence.kit.addresses import SocketAddress
from ringfence.kit.clock import Clock
from ringfence.kit.hints import FolderHints
from ringfence.kit.log import Logger
from ringfence.kit.watch import Watch
from ringfence.spiffe import SpiffeId, SpiffeIdError
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
            writer = await asyncio.to_thread(open_writer, settings.state)
            readings = await asyncio.to_thread(read_first, settings, clock)
            authority = await asyncio.to_thread(open_authority, settings, readings.configuration.document, clock, log)
            stack.push_async_callback(asyncio.to_thread, authority.close)
            admin_listener = stack.enter_context(open_admin_socket(settings.admin_socket))
            stack.callback(settings.admin_socket.unlink, missing_ok=True)
            signals_listener = stack.enter_context(_listening(readings.addresses.signals))
        except (StateFolderError, AdminSocketError, AddressTakenError, FolderError) as error:
            raise StartRefusedError([str(error)]) from error
        process = _Process(settings, readings, authority, writer, descriptors=descriptors, log=log, clock=clock)
        await process.run(stop, admin_listener=admin_listener, signals_listener=signals_listener)


class _Process:
    """The parts of a control plane that was checked and may start."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        readings: Readings,
        authority: ca.Authority,
        writer: PolicyFolderWriter,
        *,
        descriptors: int,
        log: Logger,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._descriptors = descriptors
        self._readings = readings
        self._authority = authority
        self._log = log
        self._clock = clock
        bundle = authority.bundle()
        self._metrics = ControlPlaneMetrics(authority.tally, issuing_not_after=authority.issuing_not_after)
        self._distributor = Distributor(
            clock=clock, limit=settings.subscriptions, identity_limit=settings.subscriptions_an_identity
        )
        self._readiness = ReadinessBoard(changed=lambda: self._readying.changed())
        self._ledger_file = LedgerFile(settings.state / "revisions.json")
        self._fetcher = KeyFetcher()
        self._keys = KeyKeeper(
            fetch=self._fetcher.fetch,
            store=KeyStore(settings.state / "token-issuers.json"),
            changed=lambda: self._applier.again(),
            metrics=self._metrics,
            log=log.bind("tokens"),
            clock=clock,
            random=random.random,
        )
        self._keys.load()
        self._applier = Applier(
            judge=readings.judge,
            ledger=self._ledger(),
            ledger_file=self._ledger_file,
            distributor=self._distributor,
            readiness=self._readiness,
            bundles=lambda: [authority.bundle()],
            metrics=self._metrics,
            log=log.bind("configuration"),
            clock=clock,
            accepted=lambda files, revision: self._rollouts.accepted(files, revision),
            keys=self._keys,
        )
        self._writer = writer
        try:
            history = open_history(settings.state, log)
        except HistoryError as error:
            raise StartRefusedError([f"--state: {error}"]) from error
        self._rollouts = make_rollouts(
            sources=readings.sources,
            applier=self._applier,
            writer=writer,
            history=history,
            flows=lambda since: self._flows.shadowed(since) if self._flows is not None else (),
            revision=lambda: self._distributor.catalog.revision,
            log=log.bind("rollout"),
            clock=clock,
        )
        self._readying = Readying(
            show=self._applier.show_readiness, next_change=lambda: self._readiness.next_change(clock.monotonic())
        )
        self._identity = ServerIdentity(
            issue=lambda: asyncio.to_thread(authority.issue_control_plane),
            bundle=bundle,
            metrics=self._metrics,
            log=log.bind("identity"),
            clock=clock,
            random=random.random,
        )
        self._flows = open_keeper(
            settings.state / "flows.sqlite", metrics=self._metrics, clock=clock, log=log.bind("flows")
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
        )
        self._serving = False

    async def run(self, stop: asyncio.Event, *, admin_listener: socket.socket, signals_listener: socket.socket) -> None:
        """Start, serve until ``stop``, drain, stop."""
        if not await self._applier.put_in_force(self._readings.configuration, self._readings.files) or (
            self._applier.refused is not None
        ):
            refused = self._applier.refused
            raise StartRefusedError([str(problem) for problem in refused.problems] if refused else [])
        try:
            await self._identity.renew()
        except ca.CaError as error:
            raise StartRefusedError([f"--ca-data: no identity for the control plane: {error}"]) from error
        # A quarter stays for files, the database, signals and operators, whatever strangers and sidecars do.
        joining = make_server(JOINING_LIMITS.within(self._descriptors // 4))
        mesh = make_server(ServerLimits().within(self._descriptors // 2))
        ca.add_joining(joining, self._authority)
        ca.add_renewal(mesh, self._authority)
        control_pb2_grpc.add_ControlServicer_to_server(self._service, mesh)
        try:
            addresses = await self._listen(joining, mesh)
            addresses["signals"] = str(SocketAddress(*signals_listener.getsockname()[:2]))
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._keys.refresh)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(serve(self._admin_api(addresses).application(), admin_listener), name="admin"),
                    group.create_task(serve(self._signals_api().application(), signals_listener), name="signals"),
                    group.create_task(self._border("watch", self._watch().run), name="watch"),
                    group.create_task(self._border("identity", self._identity.run), name="identity"),
                    group.create_task(self._border("token issuers", self._keys.run), name="token issuers"),
                    group.create_task(self._border("readiness", self._readying.run), name="readiness"),
                ]
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
            await self._rollouts.close()
            await asyncio.gather(joining.stop(None), mesh.stop(None))
            self._fetcher.close()
            await self._applier.settle()
            if self._flows is not None:
                self._flows.close()

    async def _listen(self, joining: grpc.aio.Server, mesh: grpc.aio.Server) -> dict[str, str]:
        """Open both servers; the addresses they got, by the settings' names."""
        wanted = self._readings.addresses
        try:
            join = await listen(joining, wanted.join, self._identity.credentials(mutual=False))
            mutual = await listen(mesh, wanted.listen, self._identity.credentials(mutual=True))
        except AddressTakenError as error:
            raise StartRefusedError([str(error)]) from error
        return {"join": str(join), "listen": str(mutual)}

    def _ledger(self) -> Ledger:
        try:
            return self._ledger_file.load()
        except LedgerDamagedError as error:
            # Above any revision that was ever made here, as long as changes are more than a second apart.
            self._log.warning("revision ledger cannot be believed, counting on from the time", error=str(error))
            return Ledger(revision=int(self._clock.now()))
        except OSError as error:
            line = f"--state: {self._ledger_file.path} cannot be read: {error.strerror or error}"
            raise StartRefusedError([line]) from error

    def _watch(self) -> Watch[SourceFiles]:
        files = self._readings.files
        policies = (files.policies.path,) if files.policies is not None else ()
        return Watch(
            whole(self._readings.sources.read, self._writer),
            self._applier.apply,
            last=self._readings.files,
            interval_seconds=self._settings.poll_seconds,
            settle_seconds=self._settings.settle_seconds,
            hints=FolderHints(policies, POLICY_SUFFIXES),
            only_change=only_change,
        )

    async def _border(self, task: str, run: Callable[[], Awaitable[None]]) -> None:
        """Where an unexpected failure of a task ends: told, counted, and the task goes on after a pause."""
        while True:
            try:
                return await run()
            except Exception as error:
                self._metrics.task_failures.labels(task).inc()
                self._log.error("task failed", task=task, error=repr(error))
                await asyncio.sleep(1.0)

    # -------------------------------------------------------------------------------------------- towards operators

    def _signals_api(self) -> SignalsApi:
        return SignalsApi(waiting_for=self._waiting_for, metrics_text=self._metrics_text)

    def _waiting_for(self) -> list[str]:
        missing = []
        if not self._serving:
            missing.append("its servers")
        if not self._identity.valid:
            missing.append("an identity of its own")
        return missing

    def _metrics_text(self) -> bytes:
        found = standings(self._distributor.sessions(), self._clock.monotonic(), self._settings.acknowledgement_seconds)
        self._metrics.show_standings(found)
        return self._metrics.text()

    def _admin_api(self, addresses: Mapping[str, str]) -> AdminApi:
        def status() -> dict[str, object]:
            held = self._applier.held
            if held is None:
                raise AssertionError("nothing is served before a configuration is in force")
            document = status_document(
                configuration=held,
                held_since=self._applier.held_since,
                refused=self._applier.refused,
                catalog=self._distributor.catalog,
                sessions=self._distributor.sessions(),
                readiness=self._readiness,
                now=self._clock.now(),
                monotonic=self._clock.monotonic(),
                acknowledgement_seconds=self._settings.acknowledgement_seconds,
            )
            return {
                **document,
                "token_issuers": self._keys.listed(),
                "addresses": dict(addresses),
                "root_fingerprint": self._authority.root_fingerprint,
            }

        return AdminApi(
            status=status,
            bundle=self._bundle,
            mint_join_token=self._mint_join_token,
            routes=[
                *PolicyApi(self._policy_status).routes(),
                *RolloutApi(self._rollouts).routes(),
                *FlowsApi(self._flows.ask if self._flows is not None else None).routes(),
                *SourcesApi(
                    held=lambda: self._applier.files,
                    tried=lambda: self._rollouts.tried,
                    revision=lambda: self._distributor.catalog.revision,
                ).routes(),
            ],
        )

    def _policy_status(self) -> dict[str, object]:
        held = self._applier.held
        if held is None:
            raise AssertionError("nothing is served before a configuration is in force")
        return policy_status(
            configuration=held,
            refused=self._applier.refused,
            distributor=self._distributor,
            now=self._clock.now(),
            monotonic=self._clock.monotonic(),
            acknowledgement_seconds=self._settings.acknowledgement_seconds,
        )

    def _bundle(self) -> dict[str, object]:
        bundle = self._authority.bundle()
        return {
            "trust_domain": bundle.trust_domain.name,
            "root_fingerprint": self._authority.root_fingerprint,
            "roots_pem": bundle.to_pem().decode(),
        }

    async def _mint_join_token(self, text: str, ttl_seconds: int | None) -> dict[str, object]:
        ttl = self._settings.join_token_seconds if ttl_seconds is None else ttl_seconds
        try:
            spiffe_id = SpiffeId.parse(text)
            expires_at = self._clock.now() + ttl
            token = await asyncio.to_thread(self._authority.mint_join_token, spiffe_id, ttl)
        except ca.StoreError as error:
            raise UnavailableError(str(error)) from error
        except (SpiffeIdError, ca.CaError) as error:
            raise BadRequestError(str(error)) from error
        self._metrics.join_tokens.inc()
        in_mesh = bool(self._distributor.instances(spiffe_id))
        return {"spiffe_id": str(spiffe_id), "token": token, "expires_at": expires_at, "in_mesh": in_mesh}


def _listening(address: SocketAddress) -> socket.socket:
    """A listening TCP socket at ``address``. Raises AddressTakenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=64)
    except OSError as error:
        raise AddressTakenError(f"--signals: {address} cannot be listened on: {error.strerror}") from error
