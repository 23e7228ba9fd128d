"""How much one source may have read."""

from __future__ import annotations

import json

import pytest

from k8s.admission.pace import Pace, values_of


class Time:
    """It goes on only where somebody waits for it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def paced(time: Time) -> Pace:
    return Pace(per_second=1_000.0, at_once=10_000.0, monotonic=time.monotonic, pause=time.pause)


async def waited(pace: Pace, time: Time, source: str, values: int) -> float:
    before = time.now
    await pace.take(source, values)
    return time.now - before


async def test_what_is_usual_is_not_waited_for() -> None:
    time = Time()
    pace = paced(time)
    for _ in range(100):
        assert await waited(pace, time, "10.0.0.1", 600) == 0
        time.now += 0.8


async def test_who_has_too_much_read_waits_and_nobody_with_him() -> None:
    time = Time()
    pace = paced(time)
    assert await waited(pace, time, "10.0.0.1", 9_800) == 0
    assert await waited(pace, time, "10.0.0.1", 9_800) == pytest.approx(10.0)
    assert await waited(pace, time, "10.0.0.2", 9_800) == 0
    assert await waited(pace, time, "10.0.0.1", 9_800) == pytest.approx(10.0)
    time.now += 20.0
    assert await waited(pace, time, "10.0.0.1", 9_800) == 0


async def test_small_questions_cost_something_too() -> None:
    time = Time()
    pace = paced(time)
    begun = time.now
    for _ in range(1_000):
        await pace.take("10.0.0.1", 1)
    assert time.now - begun == pytest.approx(1_000 * 0.201 - 10.0)


async def test_who_owes_nothing_is_forgotten_and_of_too_many_the_first() -> None:
    time = Time()
    pace = paced(time)
    for number in range(5_000):
        await pace.take(f"10.0.{number // 256}.{number % 256}", 100)
    assert pace.sources == 1_024
    time.now += 60.0
    await pace.take("10.9.9.9", 100)
    assert pace.sources == 1


@pytest.mark.parametrize("document", [{}, [], "a", 7, None, [[]] * 50, {"a": [1, {"b": {}}], "c": [[], [], ""]}])
def test_a_text_says_no_more_values_than_are_found(document: object) -> None:
    def count(value: object) -> int:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return 1 + sum(map(count, inside))

    for text in (json.dumps(document), json.dumps(document, indent=2)):
        assert values_of(text.encode()) >= count(document)
