"""How far a walk through a target's inputs goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Whichever comes first; ``inputs``: 0 for no bound. ``seed``: of the walk, 0 for another each time."""

    seconds: float
    inputs: int = 0
    seed: int = 0
