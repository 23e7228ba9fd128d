"""A change in shadow: applied, tolerated or given up by what calls say; and what cannot be written is told."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.intake.judging import policy_folder_named
from controlplane.intake.sources import SourceFiles, Sources
from controlplane.rollout.evidence import Evidence
from controlplane.rollout.folder import PolicyFolderWriter
from controlplane.rollout.history import History
from controlplane.rollout.records import Author, Cause, Origin
from controlplane.rollout.rollouts import BusyError, Ports, RefusedError, Rollouts, State, Wish
from ringfence.kit.clock import FakeClock, SystemClock
from ringfence.kit.log import Logger
from ringfence.kit.watch import ContentReader
from ringfence.policy.problems import Problem
from tests.mesh_files import MeshFolder, allowlist_text

ORIGIN = Origin(cause=Cause.APPLY, author=Author(uid=7, name="ada"))
CARTS = {"orders.yaml": allowlist_text("orders", ["web"], path="/carts").encode()}


class Process:
    """What rolling out needs, in memory; ``evidence`` and the rest are set by tests."""

    def __init__(self, folder: Path) -> None:
        self.files = MeshFolder(folder)
        self.files.allow("orders", "web")
        self.evidence = Evidence()
        self.refused: RefusedChange | None = None
        self.offers: list[Configuration | None] = []
        self.offered = True
        self.revision = 1
        reader = ContentReader(clock=SystemClock(), limit_bytes=1 << 20)
        self.sources = Sources(self.files.mesh_file, reader, policy_folder_named)
        history = History(folder / "history", lambda path, why: None)
        history.load()
        self.rollouts = Rollouts(
            ports=Ports(
                read=self.sources.read,
                take=self._take,
                refused=lambda: self.refused,
                offer=self._offer,
                evidence=lambda since: self.evidence,
                revision=lambda: self.revision,
            ),
            writer=PolicyFolderWriter(folder / "journal"),
            history=history,
            log=Logger("rollout", stream=io.StringIO()),
            clock=FakeClock(),
        )
        self.rollouts.accepted(self.sources.read(), 1)

    async def _take(self, files: SourceFiles) -> bool:
        if self.refused is None:
            self.revision += 1
            self.rollouts.accepted(files, self.revision)
        return True

    async def _offer(self, candidate: Configuration | None) -> bool:
        self.offers.append(candidate)
        return self.offered

    @property
    def held(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.files.policies.iterdir()}

    async def tried(self, *, tolerate: int = 0) -> State:
        """How a trial of a moment ends."""
        wish = Wish(given=CARTS, prune=False, origin=ORIGIN, shadow_seconds=0.02, tolerate=tolerate)
        assert (await self.rollouts.apply(wish)).state is State.SHADOW
        async with asyncio.timeout(10):
            while self.rollouts._under_way():  # noqa: ASYNC110 - a moment
                await asyncio.sleep(0.01)
        standing = self.rollouts.standing
        assert standing is not None
        assert len(self.offers) == 2
        assert self.offers[0] is not None
        assert self.offers[1] is None
        return standing.state


async def test_what_calls_do_not_speak_against_is_applied(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.evidence = Evidence(judged=10, permitted=4)
    assert await process.tried() is State.APPLIED
    assert process.held == CARTS
    newest = process.rollouts.history.newest
    assert newest is not None
    assert (newest.number, newest.origin, newest.revision) == (2, ORIGIN, 2)


async def test_what_would_refuse_calls_that_pass_is_given_up_and_nothing_written(tmp_path: Path) -> None:
    process = Process(tmp_path)
    before = process.held
    process.evidence = Evidence(judged=10, denied=3, examples=("web",))
    assert await process.tried(tolerate=2) is State.GIVEN_UP
    standing = process.rollouts.standing
    assert standing is not None
    assert standing.detail == "calls that pass today would be refused, 3 of them"
    assert standing.evidence.examples == ("web",)
    assert process.held == before
    assert len(process.rollouts.history.records) == 1


async def test_what_is_tolerated_is_applied(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.evidence = Evidence(judged=10, denied=3)
    assert await process.tried(tolerate=3) is State.APPLIED


async def test_a_trial_that_cannot_be_offered_is_refused_and_another_can_follow(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.offered = False
    wish = Wish(given=CARTS, prune=False, origin=ORIGIN, shadow_seconds=60)
    with pytest.raises(RefusedError, match="cannot be judged in shadow"):
        await process.rollouts.apply(wish)
    process.offered = True
    await process.rollouts.apply(wish)
    with pytest.raises(BusyError):
        await process.rollouts.apply(wish)
    with pytest.raises(BusyError):
        await process.rollouts.roll_back(1, ORIGIN)
    await asyncio.sleep(0)  # the trial begins
    await process.rollouts.close()
    assert process.offers[-1] is None


async def test_what_the_mesh_refuses_after_all_is_taken_out_of_the_folder(tmp_path: Path) -> None:
    process = Process(tmp_path)
    before = process.held
    process.refused = RefusedChange(at=0.0, problems=(Problem("mesh.yaml", 1, 1, "too large"),))
    with pytest.raises(RefusedError, match="cannot be put in force") as caught:
        await process.rollouts.apply(Wish(given=CARTS, prune=False, origin=ORIGIN))
    assert [problem.message for problem in caught.value.problems] == ["too large"]
    assert process.held == before


async def test_a_folder_that_cannot_be_read_whole_is_not_changed(tmp_path: Path) -> None:
    process = Process(tmp_path)
    (process.files.policies / "pipe.yaml").mkdir()
    (process.files.policies / "gone.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RefusedError, match=r"gone\.yaml: No such file"):
        await process.rollouts.apply(Wish(given=CARTS, prune=False, origin=ORIGIN))


async def test_there_is_nothing_to_go_back_to_before_the_first_record(tmp_path: Path) -> None:
    process = Process(tmp_path)
    with pytest.raises(RefusedError, match=r"no record before the newest to go back to \(kept: 1 to 1\)"):
        await process.rollouts.roll_back(0, ORIGIN)
