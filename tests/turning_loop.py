"""An event loop whose time a test can turn forward: deadlines pass at once, sockets and order stay real."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ringfence.kit.clock import FakeClock


class TurningLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with a clock for its timers that can be put forward; ``clock`` goes along."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0
        self.clock = FakeClock()
        super().__init__()

    def time(self) -> float:
        return super().time() + self._ahead_seconds

    def turn(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._ahead_seconds += seconds
        self.clock.advance(seconds)


def run_turning(test: Callable[[TurningLoop], Awaitable[None]]) -> None:
    """Run ``test`` on a loop of its own, which it is handed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurningLoop)
        await test(loop)

    with asyncio.Runner(loop_factory=TurningLoop) as runner:
        runner.run(main())
