"""Cells and diff against brute force: each call of a small world is of just one cell and gets its verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ringfence.policy.analysis.cells.cell import Cell
from ringfence.policy.analysis.cells.cuts import CUTS
from ringfence.policy.analysis.cells.dimensions import Dimension, Kind
from ringfence.policy.analysis.changes import Became, Comparing, compare, service_cells
from ringfence.policy.model import PolicySet
from tests.small_world import COMPLETE, ISSUERS, LANGUAGES, NAMES, NOW, WHOLE, Brute, Judged, Language, policies, world

# Explaining a failure costs a trace of every line in all that passes.
WITHOUT_TRACING = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)


BELIEVED = st.sampled_from([ISSUERS, ISSUERS, ISSUERS[:1], ISSUERS[1:], ()])


class Values:
    """What a call is in each dimension, read once."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._read: dict[Dimension, tuple[Any, str]] = {}

    def of(self, dimension: Dimension) -> tuple[Any, str]:
        """The value, and a key for it."""
        if dimension not in self._read:
            is_condition = dimension.kind is Kind.WHEN
            true, call = self._judged.true, self._judged.call
            value = dimension.name in true if is_condition else CUTS[dimension.kind].of(call, dimension)
            self._read[dimension] = value, repr(value)
        return self._read[dimension]


class Places:
    """Finds the cell of a call by walking the branches that lead to cells."""

    def __init__(self, found: Iterable[Cell]) -> None:
        self.root: dict[str, Any] = {}
        for cell in found:
            self.space, node = cell.space, self.root
            for dimension, option in cell.steps:
                node.setdefault("dimension", dimension)
                assert node["dimension"] == dimension
                node = node.setdefault("ways", {}).setdefault(id(option), {"option": option})
            assert "cell" not in node
            node["cell"] = cell

    def cell(self, values: Values) -> Cell | None:
        """The cell of a call; None where none was given that has it."""
        if not self.root:
            return None
        node: dict[str, Any] = self.root
        live, chosen = frozenset(range(len(self.space.rules))), {}
        while "cell" not in node:
            dimension = node["dimension"]
            cut = CUTS[dimension.kind]
            value, key = values.of(dimension)
            known = node.setdefault("known", {})
            if key not in known:
                after = cut.after(self.space, dimension, live, chosen, value)
                ways = [way for way in node["ways"].values() if (way["option"].live, way["option"].apart) == after]
                assert len(ways) <= 1, (dimension, value)
                known[key] = ways[0] if ways else None
            if known[key] is None:
                return None
            node = known[key]
            live = node["option"].live
            chosen = {**chosen, dimension: node["option"].value}
        found: Cell = node["cell"]
        return found


@pytest.mark.parametrize("language", LANGUAGES, ids=str)
@settings(max_examples=20, deadline=None, phases=WITHOUT_TRACING)
@given(data=st.data())
def test_cells_and_diff_agree_with_brute_force(language: Language, data: st.DataObject) -> None:
    """Each call has the verdict of the one cell that has it, and diff names just the calls whose verdict differs."""
    old, new = data.draw(policies(language)), data.draw(policies(language))
    before, after = world({"ledger": old}), world({"ledger": new})
    everywhere = Places(service_cells(before, after, "n/ledger", Comparing(now=NOW)))
    found = compare(before, after, Comparing(now=NOW)).changes
    changed = Places(change.cell for change in found)
    became = {id(change.cell): change.became for change in found}
    for judged in Brute([old, new], language.axis).all():
        values = Values(judged)
        cell = everywhere.cell(values)
        assert cell is not None, judged
        assert tuple(decision.permitted for decision in cell.decisions) == judged.permitted, (judged, cell)
        differing = changed.cell(values)
        one, other = judged.permitted
        assert (differing is not None) == (one != other), judged
        assert differing is None or became[id(differing)] is (Became.PERMITTED if other else Became.DENIED)
    for change in found:
        true = frozenset(each.text for each in change.cell.conditions if each.value)
        one, other = Brute([old, new], language.axis).one(change.cell.call, true)
        assert one != other, change


@settings(max_examples=60, deadline=None, phases=WITHOUT_TRACING)
@given(old=policies(WHOLE), new=policies(WHOLE), believed=st.tuples(BELIEVED, BELIEVED))
def test_cells_have_every_outcome_that_calls_can_have_and_no_other(
    old: PolicySet, new: PolicySet, believed: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """With all words of the language at once, over values of which every class that rules can tell apart has one."""
    before, after = world({"ledger": old}, believed[0]), world({"ledger": new}, believed[1])
    found = list(service_cells(before, after, "n/ledger", Comparing(now=NOW)))
    brute = Brute([old, new], COMPLETE, believed=believed)
    for caller in (None, *(service.spiffe_id for service in before.services)):
        outcomes = {
            tuple(decision.permitted for decision in cell.decisions)
            for cell in found
            if any(identity.spiffe_id == caller for identity in cell.callers)
        }
        assert outcomes == brute.outcomes(caller), caller


def test_all_services_of_the_mesh_are_among_the_callers() -> None:
    one = world({})
    found = service_cells(one, one, "n/ledger", Comparing(now=NOW))
    assert {identity.label for cell in found for identity in cell.callers} >= {f"n/{name}" for name in NAMES}
