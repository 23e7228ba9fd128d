"""Fuzzing without coverage, where there is no atheris for the platform: kept inputs, cut, joined and damaged."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.bounds import Bounds
from tests.fuzz.budget import within_budget
from tests.fuzz.target import SEPARATOR, Target

_ODD: Final = [SEPARATOR, b"\0", b"\r\n", b"\n", b" ", b":", b"%2e", b"\xff", b"\x7f", b"\x80", b"-1", b"\x00\x00\x00"]


def mutated(inputs: list[bytes], chance: random.Random) -> bytes:
    """One input made of some."""
    data = bytearray(chance.choice(inputs))
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 4):
            case 0 if data:
                data[at % len(data)] = chance.randrange(256)
            case 1:
                data[at:at] = chance.choice(_ODD)
            case 2:
                del data[at : at + chance.randint(1, 16)]
            case 3:
                other = chance.choice(inputs)
                start = chance.randint(0, len(other))
                data[at:at] = other[start : start + chance.randint(1, 64)]
            case _:
                data[at:at] = data[at : at + chance.randint(1, 32)]
    return bytes(data)


def _all(inputs: list[bytes], chance: random.Random) -> Iterator[bytes]:
    yield from inputs
    while True:
        yield mutated(inputs, chance)


def fuzz(target: Target, inputs: list[bytes], bounds: Bounds, found: Path) -> int:
    """Run mutations within ``bounds``; the number of inputs. A finding is written to ``found`` and raised."""
    chance = random.Random(bounds.seed or time.time_ns())
    end, count = time.monotonic() + bounds.seconds, 0
    for data in _all(inputs or [b""], chance):
        try:
            within_budget(target.run, data[: target.limit_bytes])
        except BaseException:
            found.write_bytes(data)
            raise
        count += 1
        if count == bounds.inputs or time.monotonic() >= end:
            break
    return count
