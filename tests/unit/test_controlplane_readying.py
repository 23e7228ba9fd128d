"""When callers are told of readiness: at once, and not more often than is good for them."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.intake import readying as module
from controlplane.intake.readying import Readying
from tests.data_path import until


class Shown:
    """Counts what was shown; fails as often as it is told to."""

    def __init__(self, fail: int = 0) -> None:
        self.count = 0
        self._fail = fail

    async def show(self) -> bool:
        self.count += 1
        return self.count > self._fail


@pytest.mark.parametrize(("least_seconds", "again"), [(3600.0, False), (0.01, True)], ids=["within", "after"])
async def test_changes_that_come_together_are_shown_together(
    monkeypatch: pytest.MonkeyPatch, least_seconds: float, again: bool
) -> None:
    monkeypatch.setattr(module, "_LEAST_SECONDS", least_seconds)
    shown = Shown()
    readying = Readying(show=shown.show, next_change=lambda: None)
    task = asyncio.ensure_future(readying.run())
    for _ in range(100):
        readying.changed()
    await until(lambda: shown.count == 1)
    for _ in range(100):
        readying.changed()
        await asyncio.sleep(0)
    if again:
        await until(lambda: shown.count >= 2)
    else:
        assert shown.count == 1  # the next waits its time
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_end_of_a_grace_is_shown_without_a_word_from_anybody() -> None:
    shown = Shown()
    task = asyncio.ensure_future(Readying(show=shown.show, next_change=lambda: 0.01 if not shown.count else None).run())
    await until(lambda: shown.count == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_could_not_be_shown_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRY_AGAIN_SECONDS", 0.01)
    shown = Shown(fail=2)
    readying = Readying(show=shown.show, next_change=lambda: None)
    task = asyncio.ensure_future(readying.run())
    readying.changed()
    await until(lambda: shown.count == 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_grace_that_ends_while_another_is_shown_or_rested_after_is_shown_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of two sidecars that were lost together with their machine."""
    monkeypatch.setattr(module, "_LEAST_SECONDS", 0.1)
    now = asyncio.get_running_loop().time
    ends = [now() + 0.05, now() + 0.06]
    seen: set[float] = set()

    async def show() -> bool:
        seen.update(end for end in ends if end <= now())
        return True

    def next_change() -> float | None:
        return min((end - now() for end in ends if end > now()), default=None)

    task = asyncio.ensure_future(Readying(show=show, next_change=next_change).run())
    await until(lambda: len(seen) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
