"""Ways through a mesh: who may call a service that may call another, and so on. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.policy.analysis.cells.callers import Identity
from ringfence.policy.analysis.cells.cell import Cell
from ringfence.policy.analysis.world import World
from ringfence.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class Step:
    """``caller`` may call ``service``, by ``cell``. ``begins``: a way may begin with that caller. ``judged``: whether
    anybody enforces policy there."""

    service: str
    caller: Identity
    begins: bool
    cell: Cell
    judged: bool = True


def ways_to(
    world: World, steps: Iterable[Step], targets: frozenset[str], through: frozenset[str]
) -> tuple[Step, ...] | None:
    """A shortest way that begins where one may, ends in one of ``targets`` and is by way of none of ``through``; None
    if there is none.

    A service that is called can call whatever its identity may, and, as anybody can, what may be called without one.
    """
    identities = {service.full_name: service.spiffe_id for service in world.services}
    # A way is into the targets from without, and one that begins in a service of ``through`` goes by way of it.
    outside = {identities[name] for name in (*targets, *through) if name in identities}
    from_whom: dict[SpiffeId | None, list[Step]] = {}
    ways: deque[tuple[Step, ...]] = deque()
    for step in steps:
        identity = step.caller.spiffe_id
        from_whom.setdefault(identity, []).append(step)
        if identity is None or (step.begins and identity not in outside):
            ways.append((step,))
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        at = way[-1].service
        if at in targets:
            return way
        if at not in seen and at not in through:
            seen.add(at)
            # Without an identity all that can be called was among the beginnings.
            ways.extend((*way, step) for step in from_whom.get(identities[at], ()))
    return None
