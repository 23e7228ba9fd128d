"""A mesh in the foreground: runs until a signal, and tells on standard error what its processes say."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from controlplane.up.children import MeshLaunch
from controlplane.up.console import Console
from controlplane.up.restarts import describe_exit
from controlplane.up.running import RunningMesh, running_mesh
from controlplane.up.supervisor import ChildExit, Listener, Supervisor

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP for one task: the first cancels it, so that it stops in order; the next one kills.

    ``say`` is told when the first one came.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.asked = False
        self._supervisor: Supervisor | None = None

    def supervising(self, supervisor: Supervisor) -> None:
        """``supervisor`` has the children; what else is to be killed ends with them."""
        self._supervisor = supervisor

    @contextmanager
    def caught(self) -> Iterator[None]:
        """For the length of the block, of which the current task is the one that is cancelled."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def interrupt() -> None:
            if self.asked and self._supervisor is not None:
                self._supervisor.kill()
            elif not self.asked and task is not None:
                self.asked = True
                self._say(
                    "stopping the apps, then the sidecars, then the control plane; once more to kill them at once"
                )
                task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, interrupt)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


def tell_exit(ended: ChildExit) -> str:
    """One line about a child that ended by itself."""
    words = f"{ended.name} {describe_exit(ended.code)}; starting it again in {ended.delay_seconds:.1f} s"
    if ended.crash_loop:
        return f"{words} (crash loop: {ended.restarts.in_a_row} times in a row)"
    return f"{words} (restart {ended.restarts.total})"


async def run_until_stopped(
    launch: MeshLaunch,
    on_ready: Callable[[RunningMesh], None],
    work: Callable[[RunningMesh], Awaitable[None]] | None = None,
) -> None:
    """Run the mesh until a signal asks for its end, or until ``work`` is done if there is some.

    Raises StartError if it does not become ready.
    """
    with Console(sys.stderr) as console:
        interrupts = Interrupts(lambda line: console.line("up", line))
        listener = Listener(on_line=console.line, on_exit=lambda ended: console.line("up", tell_exit(ended)))
        with interrupts.caught():
            try:
                async with running_mesh(launch, listener, interrupts.supervising) as running:
                    on_ready(running)
                    if work is not None:
                        await work(running)
                    else:
                        await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if not interrupts.asked:
                    raise
        if interrupts.asked:
            console.line("up", "stopped, as asked; nothing is left running")
