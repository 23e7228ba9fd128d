"""What a target is, and how an input is read where it stands for a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

SEPARATOR: Final = b"\x1e"
"""Between the steps of a conversation; the first byte of each step says what it is."""
INPUT_LIMIT_BYTES: Final = 4096
TALK_LIMIT_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``run`` raises what a finding is, and nothing else."""

    name: str
    run: Callable[[bytes], None]
    limit_bytes: int = INPUT_LIMIT_BYTES
    """Of inputs that are made up; small where each byte is fed by itself."""


class Finding(AssertionError):
    """The parser, or its oracle, is wrong about an input."""


def expect(true: bool, story: object) -> None:
    """Like assert, but also where those are left out."""
    if not true:
        raise Finding(story)


def steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each step's kind and the rest of it."""
    for step in data.split(SEPARATOR):
        if step:
            yield step[0], step[1:]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """``data`` cut every ``size`` bytes; 0: whole, and also if it is empty."""
    return [data[at : at + size] for at in range(0, len(data), size)] if size and data else [data]
