"""Puts a configuration in force: snapshots made, revisions recorded, published; or says why it cannot be.

What changes with no document, which workloads can serve, is put into the same snapshots and published the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlplane.intake.configuration import Configuration
from controlplane.intake.notices import CLOSED, LEFT_OUT, notices_of
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.digests import Digests
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerFile
from controlplane.push.readiness import Callers, ReadinessBoard, Verdict
from controlplane.push.revisions import Catalog, Ledger, advance, amend, resumed, settled
from controlplane.push.sending import Sendable
from controlplane.push.snapshots import SNAPSHOT_LIMIT_BYTES, Built, Inputs, build, build_snapshots
from controlplane.push.workload_key import WorkloadKey
from controlplane.tokens.keeper import KeyKeeper
from controlplane.tokens.needs import with_needs
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.platform import Notice
from ringfence.policy.problems import Problem
from ringfence.snapshot import Snapshot
from ringfence.spiffe import TrustBundle

_LOGGED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a configuration. ``problems``: why it is not in force; ``again``: because of the disk and not of
    itself."""

    problems: tuple[Problem, ...] = ()
    again: bool = False
    changed: bool = False

    @property
    def done(self) -> bool:
        """Whether it is in force."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """A platform's ways: workloads are told what policy could let them call, and one that cannot be told what it should
    be holds up no other. ``least``: the revision to go on from; revisions grow over several control planes by it."""

    least: Callable[[], int]


class Force:
    """Holds the configuration in force. Whoever uses it takes ``lock`` around what belongs together."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        ledger_file: LedgerFile,
        distributor: Distributor,
        readiness: ReadinessBoard,
        bundles: Callable[[], Iterable[TrustBundle]],
        metrics: ControlPlaneMetrics,
        log: Logger,
        clock: Clock,
        keys: KeyKeeper | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        """``keys`` keeps those of token issuers, and is told which. ``isolation``: None where one workload that cannot
        be told is a reason to refuse the whole."""
        self._keys = keys
        self._isolation = isolation
        self._ledger = ledger
        self._ledger_file = ledger_file
        self._distributor = distributor
        self._readiness = readiness
        self._built = Built()
        self._digested = Digests()
        self._sendable = Sendable(SNAPSHOT_LIMIT_BYTES)
        self._callers = Callers.index({})
        self._not_ready: Mapping[WorkloadKey, Verdict] = {}
        self._bundles = bundles
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self.lock = asyncio.Lock()
        self.held: Configuration | None = None
        self.held_since = 0.0
        """When it was put in force by this process, in Unix seconds."""
        self.notices: tuple[Notice, ...] = ()
        """What owners of services should know of what is in force."""

    @property
    def catalog(self) -> Catalog:
        """The snapshots in force."""
        return self._distributor.catalog

    async def put(
        self, configuration: Configuration, *, tried: Configuration | None = None, mended: bool = False
    ) -> Outcome:
        """Record and publish it. ``tried``: one whose policy is judged in shadow beside; ``mended``: tell that it is in
        force although it alters nothing."""
        built = await asyncio.to_thread(self._build, configuration)
        contents = built.contents
        if tried is not None:
            contents = await asyncio.to_thread(self._beside, contents, tried)
        held = self._ledger if self.held is not None else resumed(self._ledger, contents)
        callers = await asyncio.to_thread(Callers.index, contents)
        not_ready = self._readiness.not_ready(contents, self._clock.monotonic())
        least = self._isolation.least() if self._isolation is not None else 0
        told = await asyncio.to_thread(callers.told, contents, not_ready)
        ledger, catalog = await asyncio.to_thread(advance, held, told, least, self._digested)
        unsendable = await asyncio.to_thread(self._sendable.unsendable, catalog, self._distributor.catalog)
        if unsendable and self._isolation is None:
            mend = "give it fewer upstreams, rules or callers"
            problems = tuple(_at_head(configuration, text, mend) for text in unsendable.values())
            return Outcome(problems=problems)
        notices = notices_of(built.left_out, unsendable, contents)
        if unsendable:
            # From now on also where readiness alone changes.
            contents = {**contents, **{key: _closed(contents[key]) for key in unsendable}}
            callers = await asyncio.to_thread(Callers.index, contents)
            told = await asyncio.to_thread(callers.told, contents, not_ready)
            ledger, catalog = await asyncio.to_thread(advance, held, told, least, self._digested)
        if ledger != self._ledger:
            try:
                await asyncio.to_thread(self._ledger_file.save, ledger)
            except OSError as error:
                what = f"revision cannot be recorded in {self._ledger_file.path}: {error.strerror or error}"
                mend = "make room on the disk, or let this process write there"
                return Outcome(problems=(_at_head(configuration, what, mend),), again=True)
        self._built, self._callers, self._not_ready = built, callers, not_ready
        self._readiness.keep(contents)
        self._metrics.workloads_not_ready.set(len(not_ready))
        self._metrics.workloads_closed.set(len(unsendable))
        self._metrics.services_left_out.set(len(built.left_out))
        self._take_notice(notices)
        changed = self._publish(configuration, ledger, catalog, mended=mended)
        if self._keys is not None:
            needs = configuration.issuer_needs
            self._keys.want(set(needs.urls.values()), needs.rules)
        return Outcome(changed=changed)

    def _build(self, configuration: Configuration) -> Built:
        """The snapshots, with what is as it was taken over."""
        fetched = self._keys.keys if self._keys is not None else {}
        inputs = Inputs(
            mesh=configuration.document.mesh,
            policies=with_needs(configuration.policies, configuration.issuer_needs, fetched),
            bundles=tuple(self._bundles()),
            routes=configuration.routes,
            pruned=self._isolation is not None,
            limit_bytes=SNAPSHOT_LIMIT_BYTES,
        )
        return build(inputs, self._built)

    def _beside(self, contents: Mapping[WorkloadKey, Snapshot], tried: Configuration) -> Mapping[WorkloadKey, Snapshot]:
        """``contents`` with what would be in force by ``tried`` in their shadow."""
        fetched = self._keys.keys if self._keys is not None else {}
        policies = with_needs(tried.policies, tried.issuer_needs, fetched)
        beside = build_snapshots(tried.document.mesh, policies, self._bundles(), 1, tried.routes)
        return {
            key: replace(snapshot, shadow=beside[key].policy) if key in beside else snapshot
            for key, snapshot in contents.items()
        }

    def _take_notice(self, notices: tuple[Notice, ...]) -> None:
        """Log what was not told before."""
        new = [one for one in notices if one not in self.notices]
        self.notices = notices
        closed = [one.message for one in new if one.reason == CLOSED]
        if closed:
            self._log.error("workloads closed, as they cannot be told", problems=closed[:_LOGGED])
        left = [one.message for one in new if one.reason == LEFT_OUT]
        if left:
            self._log.warning("services left out of what callers are told", problems=left[:_LOGGED])

    async def show_readiness(self) -> bool:
        """Tell callers which workloads can serve now; False when the revision that it needs cannot be recorded."""
        async with self.lock:
            not_ready = self._readiness.not_ready(self._callers.contents, self._clock.monotonic())
            concerned = self._callers.concerned(self._not_ready, not_ready)
            contents = self._callers.told(concerned, not_ready)
            least = self._isolation.least() if self._isolation is not None else 0
            held = self._distributor.catalog
            ledger, catalog = await asyncio.to_thread(amend, self._ledger, held, contents, least, self._digested)
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
                names = sorted(map(str, not_ready))[:_LOGGED]
                self._log.info(
                    "readiness in force", revision=catalog.revision, not_ready=names, offered_sidecars=offered
                )
            return True

    async def settle(self) -> None:
        """Record the revisions used since the last save, as no more will be; then a restart need not count them up."""
        async with self.lock:
            if not self._ledger.reserved:
                return
            self._ledger = settled(self._ledger)
            try:
                await asyncio.to_thread(self._ledger_file.save, self._ledger)
            except OSError as error:
                self._log.warning("revisions not recorded", detail=str(error.strerror or error))

    def _publish(self, configuration: Configuration, ledger: Ledger, catalog: Catalog, *, mended: bool) -> bool:
        changed = catalog.revision != self._distributor.catalog.revision
        if configuration.warnings and (self.held is None or self.held.warnings != configuration.warnings):
            self._log.warning(
                "configuration with warnings",
                problems=[str(problem) for problem in configuration.warnings[:_LOGGED]],
                problem_count=len(configuration.warnings),
                revision=catalog.revision,
            )
        self._ledger = ledger
        self.held = configuration
        offered = self._distributor.publish(catalog)
        self._metrics.change_refused.set(0)
        self._metrics.revision.set(catalog.revision)
        self._metrics.workloads.set(len(catalog.snapshots))
        if changed or mended or not self.held_since:
            self.held_since = self._clock.now()
            self._metrics.changes.labels("applied").inc()
            self._log.info(
                "configuration in force",
                revision=catalog.revision,
                workloads=len(catalog.snapshots),
                offered_sidecars=offered,
            )
        return changed


def _closed(snapshot: Snapshot) -> Snapshot:
    """What is always sendable: it calls nobody, and refuses everybody."""
    workload = replace(snapshot.workload, ports=(), labels=())
    closed = replace(snapshot, workload=workload, upstreams=(), allowlists=(), denylists=(), egress=())
    return replace(closed, observe_until=None, shadow=None, token_issuers=())


def _at_head(configuration: Configuration, message: str, mend: str) -> Problem:
    """A problem of the whole, told at the head of what the mesh is read from."""
    return Problem(configuration.document.file, 1, 1, message, mend)
