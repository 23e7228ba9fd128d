"""Texts of Istio that may have a star at one end, as conditions in CEL. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.policy.importing.imported import either, quoted


def has_star(text: str) -> bool:
    """Whether it stands for more than itself."""
    return text.startswith("*") or text.endswith("*")


def matched(expression: str, values: Iterable[str]) -> str:
    """Whether ``expression`` is one of ``values``, of which each may end or begin with a star, or be one: not empty.

    ValueError for a star elsewhere.
    """
    exact: list[str] = []
    conditions: list[str] = []
    for value in values:
        plain = value.removeprefix("*") if value.startswith("*") and value != "*" else value.removesuffix("*")
        if "*" in plain:
            raise ValueError(f"a star within {value!a}")
        if value == "*":
            conditions.append(f'{expression} != ""')
        elif value.startswith("*"):
            conditions.append(f"{expression}.endsWith({quoted(plain)})")
        elif value.endswith("*"):
            conditions.append(f"{expression}.startsWith({quoted(plain)})")
        else:
            exact.append(quoted(value))
    if exact:
        conditions.insert(0, f"{expression} in [{', '.join(exact)}]")
    return either(conditions)
