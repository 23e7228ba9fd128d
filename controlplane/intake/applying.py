"""Applies changes of the files: judged whole, recorded, published; or refused whole, and the old one stays.

What changes with no file, which workloads can serve, is put into the same snapshots and published the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from controlplane.control.servers import SNAPSHOT_LIMIT_BYTES
from controlplane.intake.configuration import Configuration, RefusedChange, unappliable
from controlplane.intake.judging import Judge
from controlplane.intake.sources import SourceFiles
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerFile
from controlplane.push.readiness import Callers, ReadinessBoard, Verdict
from controlplane.push.revisions import Catalog, Ledger, advance, amend, resumed, settled
from controlplane.push.snapshots import build_snapshots
from controlplane.push.workload_key import WorkloadKey
from controlplane.tokens.keeper import KeyKeeper
from controlplane.tokens.needs import with_needs
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.mesh import workload_name
from ringfence.policy.problems import Problem, errors
from ringfence.snapshot import Snapshot
from ringfence.spiffe import TrustBundle
from ringfence.wire.convert import WireError, snapshot_from_wire, snapshot_to_wire

_LOGGED_PROBLEMS: Final = 20
_KEPT_PROBLEMS: Final = 200
_FRAME_BYTES: Final = 1024
_NOT_READY_BYTES: Final = 8  # what an endpoint that is not ready costs beyond one that is: a field, longer lengths


class Applier:
    """Holds the configuration in force and, where the files differ from it, why they are refused."""

    def __init__(
        self,
        *,
        judge: Judge,
        ledger: Ledger,
        ledger_file: LedgerFile,
        distributor: Distributor,
        readiness: ReadinessBoard,
        bundles: Callable[[], Iterable[TrustBundle]],
        metrics: ControlPlaneMetrics,
        log: Logger,
        clock: Clock,
        accepted: Callable[[SourceFiles, int], None] = lambda files, revision: None,
        keys: KeyKeeper | None = None,
    ) -> None:
        """``accepted`` is told, in a thread, of each reading that was put in force, and at which revision. ``keys``
        keeps those of token issuers, and is told which."""
        self._accepted = accepted
        self._keys = keys
        self._candidate: Configuration | None = None
        self._files: SourceFiles | None = None
        self._judge = judge
        self._ledger = ledger
        self._ledger_file = ledger_file
        self._distributor = distributor
        self._readiness = readiness
        self._callers = Callers.index({})
        self._not_ready: Mapping[WorkloadKey, Verdict] = {}
        self._one_at_a_time = asyncio.Lock()
        self._bundles = bundles
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._held: Configuration | None = None
        self._held_since = 0.0
        self._refused: RefusedChange | None = None

    @property
    def held(self) -> Configuration | None:
        """The configuration in force; None before the first."""
        return self._held

    @property
    def files(self) -> SourceFiles | None:
        """What the configuration in force was made of; None before the first."""
        return self._files

    @property
    def held_since(self) -> float:
        """When it was put in force by this process, in Unix seconds."""
        return self._held_since

    @property
    def refused(self) -> RefusedChange | None:
        """Why the files as they are now are not in force; None when they are."""
        return self._refused

    async def apply(self, files: SourceFiles) -> bool:
        """Take a change of the files in; False to be offered it again, because not it but the disk was at fault."""
        try:
            configuration, problems = await asyncio.to_thread(self._judge.judge, files)
        except Exception as error:  # a border: what cannot be judged is refused
            self._metrics.task_failures.labels("judge").inc()
            self._log.error("change cannot be judged", error=repr(error))
            problems, configuration = [_at_mesh(files, f"the change cannot be judged: {error!r}", "")], None
        if configuration is None:
            self._refuse(errors(problems))
            return True
        return await self.put_in_force(configuration, files)

    async def put_in_force(self, configuration: Configuration, files: SourceFiles) -> bool:
        """Record and publish what was judged good; False when it cannot be recorded."""
        async with self._one_at_a_time:
            return await self._put_in_force(configuration, files)

    async def _put_in_force(self, configuration: Configuration, files: SourceFiles) -> bool:
        if self._held is not None:
            problems = unappliable(self._held.document, configuration.document)
            if problems:
                self._refuse(problems)
                return True
        contents = self._contents(configuration)
        held = self._ledger if self._held is not None else resumed(self._ledger, contents)
        callers = Callers.index(contents)
        not_ready = self._readiness.not_ready(contents, self._clock.monotonic())
        ledger, catalog = await asyncio.to_thread(advance, held, callers.told(contents, not_ready))
        unsendable = await asyncio.to_thread(_unsendable, catalog, self._distributor.catalog)
        if unsendable:
            self._refuse([_at_mesh(files, text, "give it fewer upstreams, rules or callers") for text in unsendable])
            return True
        if ledger != self._ledger:
            try:
                await asyncio.to_thread(self._ledger_file.save, ledger)
            except OSError as error:
                what = f"revision cannot be recorded in {self._ledger_file.path}: {error.strerror or error}"
                self._refuse([_at_mesh(files, what, "make room on the disk, or let this process write there")])
                return False
        self._callers, self._not_ready = callers, not_ready
        self._readiness.keep(contents)
        self._metrics.workloads_not_ready.set(len(not_ready))
        self._publish(configuration, ledger, catalog)
        if self._keys is not None:
            needs = configuration.issuer_needs
            self._keys.want(set(needs.urls.values()), needs.rules)
        self._files = files
        await asyncio.to_thread(self._accepted, files, catalog.revision)
        return True

    async def offer(self, candidate: Configuration | None) -> bool:
        """Have ``candidate``'s policy judged in shadow beside the one in force, None to end that; False when that
        cannot be recorded or sent. What the files are refused for stays as it is."""
        if self._held is None or self._files is None:
            return False
        async with self._one_at_a_time:
            before, refused = self._candidate, self._refused
            self._candidate = candidate
            self._refused = None
            done = await self._put_in_force(self._held, self._files) and self._refused is None
            if not done and candidate is not None:
                self._candidate = before
            self._refused = refused
            self._metrics.change_refused.set(refused is not None)
            return done

    async def again(self) -> bool:
        """Put what is in force in force anew, with the keys that token issuers have now; False when that cannot be
        recorded or sent. What the files are refused for stays as it is."""
        if self._held is None or self._files is None:
            return True
        async with self._one_at_a_time:
            refused, self._refused = self._refused, None
            done = await self._put_in_force(self._held, self._files) and self._refused is None
            self._refused = refused
            self._metrics.change_refused.set(refused is not None)
            return done

    def _contents(self, configuration: Configuration) -> dict[WorkloadKey, Snapshot]:
        fetched = self._keys.keys if self._keys is not None else {}
        contents = _snapshots(configuration, self._bundles(), fetched)
        if self._candidate is None:
            return contents
        tried = _snapshots(self._candidate, self._bundles(), fetched)
        return {
            key: replace(snapshot, shadow=tried[key].policy) if key in tried else snapshot
            for key, snapshot in contents.items()
        }

    async def show_readiness(self) -> bool:
        """Tell callers which workloads can serve now; False when the revision that it needs cannot be recorded."""
        async with self._one_at_a_time:
            not_ready = self._readiness.not_ready(self._callers.contents, self._clock.monotonic())
            concerned = self._callers.concerned(self._not_ready, not_ready)
            contents = self._callers.told(concerned, not_ready)
            ledger, catalog = await asyncio.to_thread(amend, self._ledger, self._distributor.catalog, contents)
            if ledger.reserved != self._ledger.reserved:
                try:
                    await asyncio.to_thread(self._ledger_file.save, ledger)
                except OSError as error:
                    what = f"{self._ledger_file.path}: {error.strerror or error}"
                    self._log.error("readiness not told, as its revision cannot be recorded", detail=what)
                    return False
            changed = catalog.revision != self._distributor.catalog.revision
            self._ledger, self._not_ready = ledger, not_ready
            self._metrics.workloads_not_ready.set(len(not_ready))
            if changed:
                offered = self._distributor.publish(catalog)
                self._metrics.revision.set(catalog.revision)
                self._metrics.readiness_changes.inc()
                names = sorted(map(str, not_ready))[:_LOGGED_PROBLEMS]
                self._log.info(
                    "readiness in force", revision=catalog.revision, not_ready=names, offered_sidecars=offered
                )
            return True

    async def settle(self) -> None:
        """Record the revisions used since the last save, as no more will be; then a restart need not count them up."""
        async with self._one_at_a_time:
            if not self._ledger.reserved:
                return
            self._ledger = settled(self._ledger)
            try:
                await asyncio.to_thread(self._ledger_file.save, self._ledger)
            except OSError as error:
                self._log.warning("revisions not recorded", detail=str(error.strerror or error))

    def _publish(self, configuration: Configuration, ledger: Ledger, catalog: Catalog) -> None:
        changed = catalog.revision != self._distributor.catalog.revision
        mended = self._refused is not None
        if configuration.warnings and (self._held is None or self._held.warnings != configuration.warnings):
            self._log.warning(
                "configuration with warnings",
                problems=[str(problem) for problem in configuration.warnings[:_LOGGED_PROBLEMS]],
                problem_count=len(configuration.warnings),
                revision=catalog.revision,
            )
        self._ledger = ledger
        self._held = configuration
        self._refused = None
        offered = self._distributor.publish(catalog)
        self._metrics.change_refused.set(0)
        self._metrics.revision.set(catalog.revision)
        self._metrics.workloads.set(len(catalog.snapshots))
        if changed or mended or not self._held_since:
            self._held_since = self._clock.now()
            self._metrics.changes.labels("applied").inc()
            self._log.info(
                "configuration in force",
                revision=catalog.revision,
                workloads=len(catalog.snapshots),
                offered_sidecars=offered,
            )

    def _refuse(self, problems: list[Problem]) -> None:
        told = tuple(sorted(problems)[:_KEPT_PROBLEMS])
        if self._refused is not None and self._refused.problems == told:
            return
        self._refused = RefusedChange(at=self._clock.now(), problems=told)
        self._metrics.change_refused.set(1)
        self._metrics.changes.labels("refused").inc()
        self._log.error(
            "change refused, the older configuration stays in force",
            problems=[str(problem) for problem in told[:_LOGGED_PROBLEMS]],
            problem_count=len(problems),
            revision=self._distributor.catalog.revision,
        )


def _snapshots(
    configuration: Configuration, bundles: Iterable[TrustBundle], fetched: Mapping[str, str]
) -> dict[WorkloadKey, Snapshot]:
    """Of revision 1, whatever their revision will be; ``fetched``: key sets by URL."""
    policies = with_needs(configuration.policies, configuration.issuer_needs, fetched)
    return build_snapshots(configuration.document.mesh, policies, bundles, 1, configuration.routes)


def _unsendable(catalog: Catalog, held: Catalog) -> list[str]:
    """Own output, read as its sidecar will: what is too large for a message or would be refused there."""
    found: list[str] = []
    for workload, snapshot in catalog.snapshots.items():
        before = held.snapshots.get(workload)
        if before is not None and before.revision == snapshot.revision:
            continue
        name = workload_name(f"{snapshot.workload.namespace}/{snapshot.workload.service}", workload.instance)
        message = snapshot_to_wire(snapshot)
        unready = _NOT_READY_BYTES * sum(len(upstream.endpoints) for upstream in snapshot.upstreams)
        if message.ByteSize() + unready > SNAPSHOT_LIMIT_BYTES - _FRAME_BYTES:
            found.append(f"what {name} must be told is larger than {SNAPSHOT_LIMIT_BYTES} bytes")
            continue
        try:
            snapshot_from_wire(message)
        except WireError as error:
            found.append(f"what {name} must be told would be refused by its sidecar: {error}")
    return found


def _at_mesh(files: SourceFiles, message: str, mend: str) -> Problem:
    """A problem of the whole, told at the head of the mesh file."""
    return Problem(str(files.mesh.path), 1, 1, message, mend)
