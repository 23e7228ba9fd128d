"""Applies changes of the files: judged whole and put in force; or refused whole, and the old one stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from controlplane.intake.configuration import Configuration, RefusedChange, unappliable
from controlplane.intake.force import Force
from controlplane.intake.judging import Judge
from controlplane.intake.sources import SourceFiles
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerFile
from controlplane.push.readiness import ReadinessBoard
from controlplane.push.revisions import Ledger
from controlplane.tokens.keeper import KeyKeeper
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.problems import Problem, errors
from ringfence.spiffe import TrustBundle

_LOGGED_PROBLEMS: Final = 20
_KEPT_PROBLEMS: Final = 200


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
        self._candidate: Configuration | None = None
        self._files: SourceFiles | None = None
        self._judge = judge
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._refused: RefusedChange | None = None
        self._force = Force(
            ledger=ledger,
            ledger_file=ledger_file,
            distributor=distributor,
            readiness=readiness,
            bundles=bundles,
            metrics=metrics,
            log=log,
            clock=clock,
            keys=keys,
        )

    @property
    def held(self) -> Configuration | None:
        """The configuration in force; None before the first."""
        return self._force.held

    @property
    def files(self) -> SourceFiles | None:
        """What the configuration in force was made of; None before the first."""
        return self._files

    @property
    def held_since(self) -> float:
        """When it was put in force by this process, in Unix seconds."""
        return self._force.held_since

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
        async with self._force.lock:
            return await self._put_in_force(configuration, files)

    async def _put_in_force(self, configuration: Configuration, files: SourceFiles) -> bool:
        held = self._force.held
        if held is not None:
            problems = unappliable(held.document, configuration.document)
            if problems:
                self._refuse(problems)
                return True
        outcome = await self._force.put(configuration, tried=self._candidate, mended=self._refused is not None)
        if not outcome.done:
            self._refuse(list(outcome.problems))
            return not outcome.again
        self._refused = None
        self._files = files
        await asyncio.to_thread(self._accepted, files, self._force.catalog.revision)
        return True

    async def offer(self, candidate: Configuration | None) -> bool:
        """Have ``candidate``'s policy judged in shadow beside the one in force, None to end that; False when that
        cannot be recorded or sent. What the files are refused for stays as it is."""
        if self._force.held is None or self._files is None:
            return False
        async with self._force.lock:
            before, refused = self._candidate, self._refused
            self._candidate = candidate
            self._refused = None
            done = await self._put_in_force(self._force.held, self._files) and self._refused is None
            if not done and candidate is not None:
                self._candidate = before
            self._refused = refused
            self._metrics.change_refused.set(refused is not None)
            return done

    async def again(self) -> bool:
        """Put what is in force in force anew, with the keys that token issuers have now; False when that cannot be
        recorded or sent. What the files are refused for stays as it is."""
        if self._force.held is None or self._files is None:
            return True
        async with self._force.lock:
            refused, self._refused = self._refused, None
            done = await self._put_in_force(self._force.held, self._files) and self._refused is None
            self._refused = refused
            self._metrics.change_refused.set(refused is not None)
            return done

    async def show_readiness(self) -> bool:
        """Tell callers which workloads can serve now; False when the revision that it needs cannot be recorded."""
        return await self._force.show_readiness()

    async def settle(self) -> None:
        """Record the revisions used since the last save, as no more will be."""
        await self._force.settle()

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
            revision=self._force.catalog.revision,
        )


def _at_mesh(files: SourceFiles, message: str, mend: str) -> Problem:
    """A problem of the whole, told at the head of the mesh file."""
    return Problem(str(files.mesh.path), 1, 1, message, mend)
