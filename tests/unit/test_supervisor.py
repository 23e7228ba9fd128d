"""The supervisor with real children: restarts, names, order of stopping, grace, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controlplane.up.groups import GroupKeeper
from controlplane.up.process import Launch, Process
from controlplane.up.restarts import RestartPolicy
from controlplane.up.supervisor import ChildExit, ChildSpec, Listener, Supervisor, Tier
from ringfence.kit.backoff import Backoff
from tests.processes import Marked

QUICK = RestartPolicy(backoff=Backoff(first_seconds=0.01, cap_seconds=0.01), crash_loop_exits=3)


@dataclass
class Heard:
    """What the supervisor told."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    exits: list[ChildExit] = field(default_factory=list)
    lines_before_first_exit: int | None = None

    def on_exit(self, ended: ChildExit) -> None:
        if self.lines_before_first_exit is None:
            self.lines_before_first_exit = len(self.lines)
        self.exits.append(ended)

    def of(self, name: str) -> list[str]:
        return [line for speaker, line in self.lines if speaker == name]


def shell(
    name: str,
    script: str,
    *,
    tier: Tier = Tier.APP,
    grace_seconds: float = 20.0,
    prepare: Callable[[], Awaitable[None]] | None = None,
    directory: Path = Path("/"),
) -> ChildSpec:
    launch = Launch(command=("sh", "-c", script), directory=directory, environment={"PATH": os.environ["PATH"]})
    return ChildSpec(name=name, tier=tier, launch=launch, grace_seconds=grace_seconds, prepare=prepare)


@asynccontextmanager
async def supervising(policy: RestartPolicy = QUICK) -> AsyncIterator[tuple[Supervisor, Heard]]:
    heard = Heard()
    listener = Listener(on_line=lambda name, line: heard.lines.append((name, line)), on_exit=heard.on_exit)
    with GroupKeeper() as keeper:
        async with asyncio.TaskGroup() as tasks:
            supervisor = Supervisor(tasks, keeper, listener, policy=policy, draw=lambda: 0.5)
            try:
                yield supervisor, heard
            finally:
                supervisor.kill()
                await supervisor.stop()


async def until(predicate: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not predicate():  # noqa: ASYNC110 (what it waits for is the kernel's or a child's doing)
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_lines_of_both_streams_come_under_the_child_s_name() -> None:
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("talker", "echo out; echo err >&2; exec sleep 1000"))
        await until(lambda: len(heard.lines) == 2)
        assert heard.of("talker") == ["out", "err"]


async def test_a_killed_child_is_started_again_and_named_with_its_signal() -> None:
    async with supervising() as (supervisor, heard):
        child = supervisor.start(shell("worker", "echo up; exec sleep 1000"))
        await until(lambda: heard.lines)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(heard.lines) == 2)
        assert [(ended.name, ended.code) for ended in heard.exits] == [("worker", -signal.SIGKILL)]
        assert child.pid not in (first, None)


async def test_a_child_that_keeps_failing_is_called_a_crash_loop() -> None:
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("broken", "echo why; exit 7"))
        await until(lambda: len(heard.exits) >= 4)
        assert [ended.crash_loop for ended in heard.exits[:4]] == [False, False, True, True]
        assert {ended.code for ended in heard.exits} == {7}


async def test_the_last_words_of_a_child_come_before_its_end_is_told() -> None:
    async with supervising() as (supervisor, heard):
        child = supervisor.start(shell("speaker", "printf 'no line end'; exit 1"))
        await until(lambda: heard.exits)
        assert heard.lines_before_first_exit == 1
        assert child.last_lines[0] == "no line end"


async def test_a_command_that_is_not_there_is_an_exit_with_a_line_and_not_a_crash() -> None:
    async with supervising() as (supervisor, heard):
        launch = Launch(command=("no-such-program-here",), directory=Path("/"), environment={"PATH": "/bin"})
        supervisor.start(ChildSpec(name="ghost", tier=Tier.APP, launch=launch))
        await until(lambda: heard.exits)
        assert heard.exits[0].code == 127
        assert "'no-such-program-here' is not there" in heard.of("ghost")[0]


async def test_a_start_that_is_cancelled_leaves_neither_child_nor_descriptor() -> None:
    marked, before = Marked(), open_descriptors()
    launch = Launch(command=("sleep", "1000"), directory=Path("/"), environment=marked.environment)
    starting = asyncio.ensure_future(Process.start(launch, print))
    await asyncio.sleep(0)  # up to its first wait, by when the child is there
    assert marked.pids()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not marked.pids() and open_descriptors() <= before)


async def test_a_directory_that_is_not_there_is_an_exit_with_a_line(tmp_path: Path) -> None:
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("lost", "true", directory=tmp_path / "gone"))
        await until(lambda: heard.exits)
        assert "cannot be started" in heard.of("lost")[0]


async def test_what_a_child_left_in_its_group_is_ended_before_its_next_start() -> None:
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("parent", "sleep 1000 & echo $!; kill -9 $$"))
        await until(lambda: len(heard.exits) >= 2)
        grandchildren = [int(line) for line in heard.of("parent")[:2]]
        assert not any(alive(pid) for pid in grandchildren)


async def test_tiers_stop_from_the_highest_to_the_lowest() -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with supervising() as (supervisor, heard):
        for name, tier in (("plane", Tier.CONTROL_PLANE), ("sidecar", Tier.SIDECAR), ("app", Tier.APP)):
            supervisor.start(shell(name, script, tier=tier))
        await until(lambda: len(heard.lines) == 3)
        killed = await supervisor.stop()
        assert killed == []
        assert [name for name, line in heard.lines if line == "bye"] == ["app", "sidecar", "plane"]
        assert heard.exits == []


async def test_a_child_that_ignores_sigterm_is_killed_and_named() -> None:
    async with supervising() as (supervisor, heard):
        child = supervisor.start(shell("deaf", "trap '' TERM; echo $$; while :; do sleep 1; done", grace_seconds=0.1))
        await until(lambda: heard.lines)
        assert await supervisor.stop() == ["deaf"]
        assert child.pid is None
        assert not alive(int(heard.of("deaf")[0]))


async def test_a_grandchild_has_the_same_grace_to_end_by_itself(tmp_path: Path) -> None:
    slow = f"trap 'echo saved > {tmp_path}/state; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("wrapper", f'sh -c "{slow}" & wait'))
        await until(lambda: heard.lines)
        assert await supervisor.stop() == []
    assert (tmp_path / "state").read_text() == "saved\n"


async def test_kill_ends_all_at_once_while_a_stop_waits() -> None:
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("deaf", "trap '' TERM; echo up; while :; do sleep 1; done", grace_seconds=1000.0))
        await until(lambda: heard.lines)
        stopping = asyncio.ensure_future(supervisor.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        supervisor.kill()
        await asyncio.wait_for(stopping, 30)


async def test_a_child_that_waits_for_its_next_start_is_stopped_without_one() -> None:
    patient = RestartPolicy(backoff=Backoff(first_seconds=1000.0, cap_seconds=1000.0))
    async with supervising(patient) as (supervisor, heard):
        supervisor.start(shell("once", "echo ran"))
        await until(lambda: heard.exits)
        assert await asyncio.wait_for(supervisor.stop(), 30) == []
    assert heard.of("once") == ["ran"]


async def test_preparation_runs_before_each_start_and_its_failure_counts_as_one() -> None:
    attempts: list[int] = []

    async def prepare() -> None:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise OSError("the token could not be written")

    async with supervising() as (supervisor, heard):
        supervisor.start(shell("careful", "echo up; exec sleep 1000", prepare=prepare))
        await until(lambda: "up" in heard.of("careful"))
        assert heard.of("careful") == ["cannot be started: the token could not be written", "up"]
        assert len(heard.exits) == 1


async def test_two_children_of_one_name_are_refused() -> None:
    async with supervising() as (supervisor, _):
        supervisor.start(shell("twin", "exec sleep 1000"))
        with pytest.raises(ValueError, match="two children are named 'twin'"):
            supervisor.start(shell("twin", "exec sleep 1000"))


async def test_nothing_is_started_once_it_is_stopping() -> None:
    async with supervising() as (supervisor, _):
        await supervisor.stop()
        with pytest.raises(RuntimeError):
            supervisor.start(shell("late", "exec sleep 1000"))


async def test_descriptors_return_to_their_baseline() -> None:
    before = open_descriptors()
    async with supervising() as (supervisor, heard):
        supervisor.start(shell("flapping", "exit 1"))
        await until(lambda: len(heard.exits) >= 5)
    assert open_descriptors() <= before
