"""Rolls changes of policy out: judged whole, tried in shadow for a while if asked, then written, kept, or given up.

The policy folder stays the one source of documents: a change that is applied is in it, and so is one taken back. One
change is under way at a time. What is tried in shadow does not outlive this process: after a restart it is not applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.intake.judging import Judge
from controlplane.intake.sources import PolicyFolder, SourceFiles
from controlplane.rollout.evidence import NO_EVIDENCE, Evidence
from controlplane.rollout.files import Change, Contents, FilesError, candidate, difference, digest
from controlplane.rollout.folder import FolderError, PolicyFolderWriter
from controlplane.rollout.history import History, HistoryError
from controlplane.rollout.records import Cause, Origin, Record
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.kit.watch import FileContent
from ringfence.policy.problems import Problem

SHADOW_LIMIT_SECONDS: Final = 7 * 86_400
_WARNINGS_TOLD: Final = 200
_LATE_SECONDS: Final = 15.0  # sidecars report what they saw every ten seconds


class State(StrEnum):
    """Where a change stands."""

    UNCHANGED = "unchanged"  # the folder holds it already
    CHECKED = "checked"  # it could be applied; that was all that was asked
    SHADOW = "shadow"  # it is judged beside the policy in force
    APPLIED = "applied"
    GIVEN_UP = "given_up"  # calls that pass today would be refused, or somebody stopped it, or the folder changed


class RefusedError(Exception):
    """The change is not applied; ``problems``, if any, say where it is wrong."""

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class BusyError(RefusedError):
    """Another change is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for. ``shadow_seconds`` 0: at once. ``tolerate``: how many calls that pass today may be refused in
    shadow before the change is given up."""

    given: Contents
    prune: bool
    origin: Origin
    shadow_seconds: float = 0.0
    tolerate: int = 0
    check_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a change goes. ``detail`` says why it was given up; ``ends_at`` is when shadow ends, Unix seconds;
    ``warnings``: what the change would put in force, and is surely not meant."""

    state: State
    change: Change
    origin: Origin
    began_at: float
    ends_at: float = 0.0
    evidence: Evidence = NO_EVIDENCE
    detail: str = ""
    warnings: tuple[Problem, ...] = ()
    record: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What rolling out needs of the rest of the process.

    ``read``: the files as they are now, blocking. ``take``: puts a reading in force. ``refused``: why the files as they
    are now are not. ``offer``: has a configuration judged in shadow, None to end that; False when it cannot be.
    ``evidence``: what calls since a moment say.
    """

    read: Callable[[], SourceFiles]
    take: Callable[[SourceFiles], Awaitable[bool]]
    refused: Callable[[], RefusedChange | None]
    offer: Callable[[Configuration | None], Awaitable[bool]]
    evidence: Callable[[float], Evidence]
    revision: Callable[[], int]


class Rollouts:
    """One for the process; everything on its loop."""

    def __init__(
        self, *, ports: Ports, writer: PolicyFolderWriter, history: History, log: Logger, clock: Clock
    ) -> None:
        self._ports = ports
        self._writer = writer
        self._history = history
        self._log = log
        self._clock = clock
        self._judge = Judge()
        self._busy = asyncio.Lock()
        self._trial: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._stopped_by = ""
        self._standing: Standing | None = None
        self._tried: PolicyFolder | None = None
        self._expected: tuple[str, Origin] | None = None  # digest of what is being written, and why

    @property
    def tried(self) -> PolicyFolder | None:
        """The folder as the change would make it that is tried in shadow; None where none is."""
        return self._tried if self._under_way() else None

    @property
    def history(self) -> History:
        return self._history

    @property
    def standing(self) -> Standing | None:
        """The change under way, with what calls say so far, or the last one; None before the first."""
        standing = self._standing
        if standing is not None and standing.state is State.SHADOW:
            return replace(standing, evidence=self._ports.evidence(standing.began_at))
        return standing

    async def apply(self, wish: Wish) -> Standing:
        """Judge and, unless it is only to be checked, put in force or begin to try in shadow.

        Raises RefusedError, BusyError; then nothing is changed.
        """
        if self._busy.locked() or self._under_way():
            raise BusyError("another change is under way (wait for it, or stop it: ringfence policy rollout --stop)")
        async with self._busy:
            files = await asyncio.to_thread(self._ports.read)
            folder, held = _contents(files)
            try:
                wanted = candidate(held, wish.given, prune=wish.prune)
            except FilesError as error:
                raise RefusedError(str(error)) from error
            configuration = await self._judged(files, folder, wanted)
            change = difference(held, wanted)
            now = self._clock.now()
            standing = Standing(
                state=State.UNCHANGED,
                change=change,
                origin=wish.origin,
                began_at=now,
                warnings=configuration.warnings[:_WARNINGS_TOLD],
            )
            if not change:
                return replace(standing, revision=self._ports.revision())
            if wish.check_only:
                return replace(standing, state=State.CHECKED)
            if not wish.shadow_seconds:
                return await self._commit(standing, folder, held, wanted)
            if not await self._ports.offer(configuration):
                raise RefusedError("the change cannot be judged in shadow now (see the control plane's log)")
            self._stop.clear()
            self._tried = _folder(folder, wanted)
            self._standing = standing = replace(standing, state=State.SHADOW, ends_at=now + wish.shadow_seconds)
            self._trial = asyncio.create_task(self._try(standing, wish, folder, held, wanted), name="policy trial")
            self._log.info("change tried in shadow", until=standing.ends_at, by=wish.origin.author.name)
            return standing

    async def roll_back(self, number: int, origin: Origin, *, check_only: bool = False) -> Standing:
        """Make the folder what it was in record ``number``; 0: in the one before the newest. As ``apply``."""
        records = self._history.records
        before = records[-2] if len(records) > 1 else None
        record = self._history.find(number) if number else before
        if record is None:
            kept = f"{records[0].number} to {records[-1].number}" if records else "none"
            raise RefusedError(f"there is no record {number or 'before the newest'} to go back to (kept: {kept})")
        origin = replace(origin, cause=Cause.ROLLBACK, back_to=record.number)
        return await self.apply(Wish(given=record.contents, prune=True, origin=origin, check_only=check_only))

    def stop(self, by: str) -> bool:
        """Give up what is tried in shadow; whether there is anything."""
        if not self._under_way():
            return False
        self._stopped_by = by
        self._stop.set()
        return True

    def accepted(self, files: SourceFiles, revision: int) -> None:
        """These files are in force at ``revision``: kept, if they are others than before. Blocking, so call it off the
        loop; a record that cannot be kept is told and stops nothing."""
        try:
            _, contents = _contents(files)
        except RefusedError as error:
            self._log.error("policy history not kept", detail=str(error))
            return
        made = digest(contents)
        newest = self._history.newest
        if newest is not None and newest.digest == made:
            return
        expected, cause = self._expected, Cause.START if newest is None else Cause.FILES
        origin = expected[1] if expected is not None and expected[0] == made else Origin(cause=cause)
        try:
            self._history.add(revision=revision, at=self._clock.now(), origin=origin, contents=contents)
        except HistoryError as error:
            self._log.error("policy history not kept", detail=str(error))

    async def close(self) -> None:
        """The process ends: what is tried in shadow is not applied."""
        if self._trial is not None and not self._trial.done():
            self._trial.cancel()
            await asyncio.gather(self._trial, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------------------

    def _under_way(self) -> bool:
        return self._trial is not None and not self._trial.done()

    async def _judged(self, files: SourceFiles, folder: Path, wanted: Contents) -> Configuration:
        reading = replace(files, policies=_folder(folder, wanted))
        configuration, problems = await asyncio.to_thread(self._judge.judge, reading)
        if configuration is None:
            raise RefusedError("the change is wrong", tuple(problems))
        return configuration

    async def _try(self, standing: Standing, wish: Wish, folder: Path, held: Contents, wanted: Contents) -> None:
        try:
            try:
                async with asyncio.timeout(wish.shadow_seconds):
                    await self._stop.wait()
            except TimeoutError:
                # What sidecars saw at the end of the time is told a little later.
                try:
                    async with asyncio.timeout(min(_LATE_SECONDS, wish.shadow_seconds)):
                        await self._stop.wait()
                except TimeoutError:
                    pass
            evidence = self._ports.evidence(standing.began_at)
            standing = replace(standing, evidence=evidence)
            if self._stop.is_set():
                raise RefusedError(f"stopped by {self._stopped_by}")
            if evidence.denied > wish.tolerate:
                raise RefusedError(f"calls that pass today would be refused, {evidence.denied} of them")
            async with self._busy:
                self._standing = await self._commit(standing, folder, held, wanted)
        except RefusedError as error:
            self._standing = replace(standing, state=State.GIVEN_UP, detail=str(error))
            self._log.warning("change given up", detail=str(error))
        except Exception as error:  # the task's border
            self._standing = replace(standing, state=State.GIVEN_UP, detail="a defect of the control plane")
            self._log.error("change failed", error=repr(error))
        finally:
            await self._ports.offer(None)

    async def _commit(self, standing: Standing, folder: Path, held: Contents, wanted: Contents) -> Standing:
        files = await asyncio.to_thread(self._ports.read)
        if _contents(files)[1] != held:
            raise RefusedError("the policy folder was changed by somebody else meanwhile (look, and apply again)")
        self._expected = (digest(wanted), standing.origin)
        try:
            await asyncio.to_thread(self._writer.write, folder, held, wanted)
            if not await self._ports.take(await asyncio.to_thread(self._ports.read)):
                raise RefusedError("the change is in the folder, and will be in force when it can be recorded")
        except FolderError as error:
            raise RefusedError(str(error)) from error
        finally:
            self._expected = None
        refused = self._ports.refused()
        if refused is not None:
            # Judged good before, so it is the mesh that says otherwise; the folder goes back to what is in force.
            await asyncio.to_thread(self._writer.write, folder, wanted, held)
            await self._ports.take(await asyncio.to_thread(self._ports.read))
            raise RefusedError("the change cannot be put in force", refused.problems)
        newest = self._history.newest
        self._log.info("change applied", by=standing.origin.author.name, cause=standing.origin.cause.value)
        return self._kept(replace(standing, state=State.APPLIED, revision=self._ports.revision()), newest)

    def _kept(self, standing: Standing, newest: Record | None) -> Standing:
        self._standing = replace(standing, record=newest.number if newest is not None else 0)
        return self._standing


def _folder(folder: Path, contents: Contents) -> PolicyFolder:
    files = (FileContent(path=folder / name, content=content) for name, content in sorted(contents.items()))
    return PolicyFolder(path=folder, files=tuple(files))


def _contents(files: SourceFiles) -> tuple[Path, dict[str, bytes]]:
    """The folder and what it holds. Raises RefusedError for one that cannot be read whole."""
    folder = files.policies
    if folder is None:
        raise RefusedError("the mesh file is too broken to say where its policies are (mend it first)")
    broken = next((file for file in folder.files if file.error), None)
    if folder.error or broken is not None:
        what = f"{broken.path}: {broken.error}" if broken is not None else f"{folder.path}: {folder.error}"
        raise RefusedError(f"the policy folder cannot be read: {what} (mend that first)")
    return folder.path, {file.path.relative_to(folder.path).as_posix(): file.content for file in folder.files}
