"""What differs between two policies of a mesh, as calls that become permitted or denied. Pure.

Both are cut into cells together, so what is not named as a change does not change: that is complete, not sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from ringfence.policy.analysis.cells.callers import Identity
from ringfence.policy.analysis.cells.cell import Cell
from ringfence.policy.analysis.cells.dimensions import Side
from ringfence.policy.analysis.cells.refine import Looking, cells
from ringfence.policy.analysis.realising import Realiser
from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.model import PolicySet


class Became(StrEnum):
    """How a call's verdict differs."""

    PERMITTED = "permitted"
    DENIED = "denied"
    REASON = "reason"  # denied before and after, or would be, for another reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Calls whose verdict differs, one of which is ``cell.call``.

    ``certain``: that call was judged by both policies as they are and differs. Otherwise it hangs on the cell's
    conditions, and no call was found for which they come to that.
    """

    service: str
    became: Became
    cell: Cell
    certain: bool

    @property
    def old(self) -> Decision:
        return self.cell.decisions[0]

    @property
    def new(self) -> Decision:
        return self.cell.decisions[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """How to compare; ``now``: Unix seconds at which both are looked at; ``reasons``: changes of these alone, too."""

    now: float
    reasons: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that differs. ``looked_at``: the services whose calls were cut into ``cells``; others are the same.
    ``notes``: what differs and is not seen in calls."""

    looked_at: tuple[str, ...]
    cells: int
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def compare(old: World, new: World, comparing: Comparing) -> Comparison:
    """Every change from ``old`` to ``new``; raises CellsError where a service cannot be looked at whole."""
    looked_at: list[str] = []
    notes: list[str] = []
    count = 0
    changes: list[Change] = []
    for name in sorted({service.full_name for world in (old, new) for service in world.services}):
        if old.trust_domain == new.trust_domain and _is_same(old.service(name), new.service(name)):
            continue
        looked_at.append(name)
        notes += _issuers_that_differ(name, old.service(name), new.service(name))
        realiser = Realiser(sides_of(old, new, name))
        for cell in service_cells(old, new, name, comparing):
            count += 1
            became = _became(cell, comparing.reasons)
            if became is not None:
                call = realiser.call(cell)
                found = replace(cell, call=call) if call is not None else cell
                changes.append(Change(service=name, became=became, cell=found, certain=call is not None))
    return Comparison(looked_at=tuple(looked_at), cells=count, changes=tuple(changes), notes=tuple(notes))


def service_cells(old: World, new: World, name: str, comparing: Comparing) -> Iterator[Cell]:
    """The cells of the calls to one service under both policies."""
    looking = Looking(known=known_callers(new, old), now=comparing.now, reasons=comparing.reasons)
    return cells(name, sides_of(old, new, name), looking)


def sides_of(old: World, new: World, name: str) -> tuple[Side, Side]:
    """Both policies of one service; a world without it permits nothing there."""
    first, second = (_side(world, name) for world in (old, new))
    return first, second


def known_callers(*worlds: World) -> tuple[Identity, ...]:
    """The services of the mesh as callers, by their names."""
    named: dict[object, Identity] = {}
    for world in worlds:
        for service in world.services:
            named.setdefault(service.spiffe_id, Identity(service.spiffe_id, service.full_name))
    return tuple(named.values())


def _side(world: World, name: str) -> Side:
    service = world.service(name)
    policy = service.policy if service is not None else PolicySet()
    return Side(trust_domain=world.trust_domain, service=service, policy=policy)


def _is_same(old: WorldService | None, new: WorldService | None) -> bool:
    if old is None or new is None:
        return old is new
    return (old.policy, old.ports, old.token_issuers, old.has_sidecar, old.labels) == (
        new.policy,
        new.ports,
        new.token_issuers,
        new.has_sidecar,
        new.labels,
    )


def _issuers_that_differ(name: str, old: WorldService | None, new: WorldService | None) -> Iterator[str]:
    """Whose tokens are believed is compared; by which keys, audiences and headers a token is found valid is not."""
    if old is None or new is None:
        return
    before = {issuer.name: issuer for issuer in old.token_issuers}
    for issuer in new.token_issuers:
        if before.get(issuer.name, issuer) != issuer:
            yield f"{name}: TokenIssuer {issuer.name} is another; which of its tokens are valid is not compared"


def _became(cell: Cell, reasons: bool) -> Became | None:
    old, new = cell.decisions
    if old.permitted != new.permitted:
        return Became.PERMITTED if new.permitted else Became.DENIED
    return Became.REASON if reasons and reason_word(old) != reason_word(new) else None


def reason_word(decision: Decision) -> str:
    """Why it is, or would be, refused; empty for what a rule permits."""
    if isinstance(decision, Deny):
        return decision.reason.value
    return decision.would_deny.value if decision.would_deny is not None else ""


def rule_of(decision: Decision) -> str:
    """The rule that permits, or that refuses or came nearest; may be empty."""
    if isinstance(decision, Permit) and decision.would_deny is None:
        return decision.rule_name
    return decision.nearest or ""
