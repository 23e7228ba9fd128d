"""What an object of a document must hold beyond its fields, as CEL rules of the API server. Pure.

A schema could say most of it, too, but the API server would answer "must validate one and only one schema (oneOf)".
Each rule names its mend instead. All are look-ups of fields, so that their cost stays far below the server's budget
however often the object may stand in a document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ringfence.policy.schema.shapes import Object, Variant

Condition = dict[str, str]

# Words of CEL that are fields of documents: Kubernetes has them between underscores.
_RESERVED: Final = frozenset(
    ("as", "for", "function", "if", "import", "in", "let", "namespace", "package", "return", "var")
)


def conditions(shape: Object) -> list[Condition]:
    """The rules of one object, each with its message."""
    found: list[Condition] = []
    if shape.variants:
        rule = " || ".join(_variant(one) for one in shape.variants)
        found.append({"rule": rule, "message": f"choose exactly one form: {_forms(shape.variants)}"})
    if shape.any_of:
        rule = " || ".join(_has(name) for name in shape.any_of)
        found.append({"rule": rule, "message": f"it says nothing: add one of {', '.join(shape.any_of)}"})
    if shape.apart:
        rule = f"!({' && '.join(_has(name) for name in shape.apart)})"
        found.append({"rule": rule, "message": f"{' and '.join(shape.apart)} exclude each other: remove one"})
    if shape.needed is not None:
        one = shape.needed
        rule = f"!{_has(one.beside)} || !{_has(one.field)} || '{one.word}' in self.{_name(one.field)}"
        message = f"{one.beside} needs {one.word} among {one.field}: add it, or remove {one.field}"
        found.append({"rule": rule, "message": message})
    return found


def _name(field: str) -> str:
    return f"__{field}__" if field in _RESERVED else field


def _has(field: str) -> str:
    return f"has(self.{_name(field)})"


def _variant(one: Variant) -> str:
    parts = [
        *(_has(name) for name in one.there),
        *(f"self.{_name(name)} == '{value}'" for name, value in one.fixed.items()),
        *(f"!{_has(name)}" for name in one.absent),
    ]
    return f"({' && '.join(parts)})" if parts else "true"


def _forms(variants: Iterable[Variant]) -> str:
    told = []
    for one in variants:
        words = [f"{name}: {one.fixed[name]}" if name in one.fixed else name for name in one.there]
        told.append(" and ".join(words) if words else f"none of them, without {' or '.join(one.absent)}")
    return "; ".join(told)
