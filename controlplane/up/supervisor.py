"""Keeps children running, says which ended and how, and ends all of them in order.

It knows nothing of a mesh: a child is a name, a tier and what to launch. Tiers stop from the highest to the lowest, all
children of one tier at once: first a SIGTERM and a time of grace, then a SIGKILL, always to the whole process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from controlplane.up.groups import GroupKeeper
from controlplane.up.process import Launch, Process
from controlplane.up.restarts import RestartPolicy, Restarts
from ringfence.kit.clock import Clock, SystemClock

_KEPT_LINES: Final = 20
_CANNOT_RUN: Final = 126


class Tier(IntEnum):
    """What needs what: a child needs all of the lower tiers, and so starts after and stops before them."""

    CONTROL_PLANE = 0
    SIDECAR = 1
    APP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child to keep running."""

    name: str
    tier: Tier
    launch: Launch
    grace_seconds: float = 5.0
    """Between SIGTERM and SIGKILL."""

    prepare: Callable[[], Awaitable[None]] | None = None
    """Awaited before every start; what it raises (OSError) counts as a failed start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildExit:
    """A child ended that should not have; it is started again after ``delay_seconds``."""

    name: str
    code: int
    delay_seconds: float
    restarts: Restarts
    crash_loop: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told: every line that a child writes, and every end of one."""

    on_line: Callable[[str, str], None]
    on_exit: Callable[[ChildExit], None]


class Child:
    """One child over all of its runs. Made and ended by its ``Supervisor``."""

    def __init__(self, spec: ChildSpec, keeper: GroupKeeper, listener: Listener, policy: RestartPolicy) -> None:
        self.spec = spec
        self.restarts = Restarts()
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.last_code: int | None = None
        self._keeper = keeper
        self._listener = listener
        self._policy = policy
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the run that is under way; None between two."""
        return self._process.pid if self._process else None

    async def run(self, clock: Clock, draw: Callable[[], float]) -> None:
        """Start, await the end, start again; until ``stop``."""
        try:
            while not self._stopping.is_set():
                started = clock.monotonic()
                code = await self._run_once()
                if self._stopping.is_set():
                    return
                self.last_code = code
                self.restarts = self.restarts.after_exit(self._policy, clock.monotonic() - started)
                delay = self.restarts.delay(self._policy, draw)
                looping = self.restarts.crash_looping(self._policy)
                self._listener.on_exit(
                    ChildExit(
                        name=self.spec.name, code=code, delay_seconds=delay, restarts=self.restarts, crash_loop=looping
                    )
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
        finally:
            self.kill()
            self._ended.set()

    async def stop(self) -> bool:
        """End it for good; False if it had to be killed because its grace ran out."""
        self._stopping.set()
        process, in_grace = self._process, True
        if process is not None:
            process.signal_group(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.spec.grace_seconds):
                    await process.group_gone()
            except TimeoutError:
                in_grace = False
                process.signal_group(signal.SIGKILL)
        await self._ended.wait()
        return in_grace

    def kill(self) -> None:
        """End it at once and for good."""
        self._stopping.set()
        if self._process is not None:
            self._process.signal_group(signal.SIGKILL)

    async def _run_once(self) -> int:
        try:
            if self.spec.prepare is not None:
                await self.spec.prepare()
            if self._stopping.is_set():
                return 0
            self._process = process = await Process.start(self.spec.launch, self._on_line)
        except OSError as error:
            self._on_line(f"cannot be started: {error}")
            return _CANNOT_RUN
        self._keeper.add(process.pid)
        try:
            code = await process.wait()
            if self._stopping.is_set():  # what it started itself has the same time of grace; stop() ends it by killing
                await process.group_gone()
            return code
        finally:
            await process.close()
            self._keeper.remove(process.pid)
            self._process = None

    def _on_line(self, line: str) -> None:
        self.last_lines.append(line)
        self._listener.on_line(self.spec.name, line)


class Supervisor:
    """All children of one mesh; ``tasks`` owns their tasks, and its owner calls ``stop`` before it leaves."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        keeper: GroupKeeper,
        listener: Listener,
        *,
        policy: RestartPolicy | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._tasks = tasks
        self._keeper = keeper
        self._listener = listener
        self._policy = policy or RestartPolicy()
        self._clock = clock or SystemClock()
        self._draw = draw
        self._stopping = False
        self.children: dict[str, Child] = {}

    def start(self, spec: ChildSpec) -> Child:
        """Start a child and keep it running; ValueError if there is one of that name."""
        if spec.name in self.children:
            raise ValueError(f"two children are named {spec.name!r}")
        child = Child(spec, self._keeper, self._listener, self._policy)
        if self._stopping:
            raise RuntimeError("the supervisor is stopping")
        self.children[spec.name] = child
        self._tasks.create_task(child.run(self._clock, self._draw), name=f"child {spec.name}")
        return child

    async def stop(self) -> list[str]:
        """End all children, tier by tier; the names of those that outlived their grace and were killed."""
        self._stopping = True
        killed: list[str] = []
        for tier in sorted(Tier, reverse=True):
            children = [child for child in self.children.values() if child.spec.tier is tier]
            for child, in_grace in zip(children, await asyncio.gather(*(c.stop() for c in children)), strict=True):
                if not in_grace:
                    killed.append(child.spec.name)
        return killed

    def kill(self) -> None:
        """End all children at once; ``stop`` then returns soon."""
        self._stopping = True
        for child in self.children.values():
            child.kill()
