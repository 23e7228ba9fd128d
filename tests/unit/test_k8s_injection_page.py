"""``docs/injection.md`` names what the injector reads."""

from __future__ import annotations

import re
from pathlib import Path

from k8s.inject.settings import Resources
from k8s.objects import names

_PAGE = (Path(__file__).parents[2] / "docs" / "injection.md").read_text()


def test_every_annotation_is_in_the_table_once() -> None:
    rows = re.findall(r"^\| `(ringfence\.io/[a-z-]+)` \|", _PAGE.split("## Annotations")[1], re.MULTILINE)
    assert sorted(rows) == sorted(names.WISHES)


def test_the_usual_amounts_are_told() -> None:
    usual = Resources()
    for name, amount in (
        (names.CPU_REQUEST, usual.cpu_request),
        (names.CPU_LIMIT, usual.cpu_limit),
        (names.MEMORY_REQUEST, usual.memory_request),
        (names.MEMORY_LIMIT, usual.memory_limit),
    ):
        row = next(line for line in _PAGE.splitlines() if line.startswith(f"| `{name}`"))
        assert row.endswith(f"| `{amount}` |" if amount else "| none |")


def test_the_sidecars_ports_are_told() -> None:
    for number in names.OWN_PORTS:
        assert str(number) in _PAGE
