"""A shape of a document as a structural schema of an API server. Pure.

Four things differ from the JSON Schema for editors:

- Patterns are RE2's, which has no lookahead and counts to 1,000: what it lacks is left out, and the pattern takes a
  little more than the reader does.
- Every object keeps unknown fields. The API server would else drop them without a word to most clients, and a rule
  whose ``pahts`` was dropped permits every path. Kept, they meet the webhook, and the control plane's reader, which
  both refuse them.
- A value that may be of several types has none, as the API server has no word for it; of a mapping in its place the
  fields are described, and judged one by one.
- Lists are replaced as a whole. Merged by key, as server-side apply can, a rule would outlive its manifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from k8s.crds.conditions import conditions
from ringfence.policy.schema.shapes import (
    Choice,
    Either,
    Field,
    Flag,
    Many,
    Named,
    Number,
    Object,
    Shape,
    Text,
    Variant,
)

Structure = dict[str, object]

PRESERVES: Final = "x-kubernetes-preserve-unknown-fields"
_LOOKAHEADS: Final = ("(?!", "(?=")
_REPEAT: Final = re.compile(r"\{([0-9]+),([0-9]+)\}")
_REPEAT_MOST: Final = 1000
# Of an object that may stand in a document more often than this, rules would cost more than the API server allows.
_COUNT_MOST: Final = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a value stands. ``count``: how often at most in one document; ``typed``: whether CEL sees it."""

    count: int = 1
    typed: bool = True


def structure(shape: Shape) -> Structure:
    """The schema of a value that stands in a document once."""
    return _of(shape, _Place())


def _of(shape: Shape, place: _Place) -> Structure:
    match shape:
        case Text():
            return _text(shape)
        case Number():
            return {"type": "integer", "format": "int64", "minimum": shape.low, "maximum": shape.high}
        case Flag():
            return {"type": "boolean", "enum": [True]} if shape.only_true else {"type": "boolean"}
        case Choice():
            return {"type": "string", "enum": [str(word) for word in shape.words]}
        case Many():
            return _many(shape, place)
        case Named():
            return {
                "type": "object",
                "additionalProperties": _of(shape.value, replace(place, count=place.count * shape.most)),
                "minProperties": 1,
                "maxProperties": shape.most,
                "x-kubernetes-map-type": "atomic",
            }
        case Either():
            return _either(shape, place)
        case Object():
            return {"type": "object", **_object(shape, place), **_rules(shape, place)}


def _text(text: Text) -> Structure:
    limit: Structure = {"maxLength": text.limit} if text.limit is not None else {}
    return {"type": "string", "minLength": 1, "pattern": f"^(?:{re2(text.pattern)})$", **limit}


def _many(shape: Many, place: _Place) -> Structure:
    # Of some words none comes twice, so there are never more items than words; which keeps the cost of rules low.
    most = min(shape.most, len(shape.item.words)) if isinstance(shape.item, Choice) else shape.most
    schema: Structure = {"type": "array", "maxItems": most, "x-kubernetes-list-type": "atomic"}
    if shape.least:
        schema["minItems"] = shape.least
    return {**schema, "items": _of(shape.item, replace(place, count=place.count * most))}


def _object(shape: Object, place: _Place) -> Structure:
    schema: Structure = {
        "description": shape.summary,
        PRESERVES: True,
        "properties": {one.name: _field(one, place) for one in shape.fields},
    }
    required = [one.name for one in shape.fields if one.required]
    return {**schema, "required": required} if required else schema


def _rules(shape: Object, place: _Place) -> Structure:
    """What the object must hold beyond its fields, in words where the API server's budget has room for them."""
    if not place.typed:
        return {}
    if place.count <= _COUNT_MOST:
        rules = conditions(shape)
        return {"x-kubernetes-validations": rules} if rules else {}
    schema: Structure = {}
    if shape.variants:
        schema["oneOf"] = [_variant(one) for one in shape.variants]
    if shape.any_of:
        schema["anyOf"] = [{"required": [name]} for name in shape.any_of]
    return schema


def _variant(one: Variant) -> Structure:
    schema: Structure = {}
    if one.there:
        schema["required"] = list(one.there)
    if one.fixed:
        schema["properties"] = {name: {"enum": [value]} for name, value in one.fixed.items()}
    if one.absent:
        schema["not"] = {"anyOf": [{"required": [name]} for name in one.absent]}
    return schema


def _field(one: Field, place: _Place) -> Structure:
    summary = f"{one.summary} (default: {one.default})" if one.default else one.summary
    schema = _of(one.shape, place)
    return {"description": summary, **{key: value for key, value in schema.items() if key != "description"}}


def _either(shape: Either, place: _Place) -> Structure:
    words = [one.name for one in shape.shapes if isinstance(one, Text)]
    schema: Structure = {PRESERVES: True}
    for one in shape.shapes:
        if isinstance(one, Object):
            described = _object(one, replace(place, typed=False))
            words.append(f"a mapping: {described.pop('description')}")
            schema |= {key: value for key, value in described.items() if key != "required"}
    return {"description": f"{'; or '.join(words)}", **schema}


def re2(pattern: str) -> str:
    """``pattern`` for RE2, without its lookaheads and high counts: it takes the same texts, and maybe more."""
    kept: list[str] = []
    place = 0
    while place < len(pattern):
        if pattern.startswith(_LOOKAHEADS, place):
            place = _group_end(pattern, place)
        elif pattern[place] == "[":
            end = _class_end(pattern, place)
            kept.append(pattern[place:end])
            place = end
        elif (repeat := _REPEAT.match(pattern, place)) is not None:
            kept.append(f"{{{repeat[1]},}}" if int(repeat[2]) > _REPEAT_MOST else repeat[0])
            place = repeat.end()
        else:
            width = 2 if pattern[place] == "\\" else 1
            kept.append(pattern[place : place + width])
            place += width
    return "".join(kept)


def _group_end(pattern: str, start: int) -> int:
    depth = 0
    place = start
    while place < len(pattern):
        character = pattern[place]
        if character == "[":
            place = _class_end(pattern, place)
            continue
        if character == "\\":
            place += 2
            continue
        depth += (character == "(") - (character == ")")
        place += 1
        if not depth:
            return place
    raise ValueError(f"group without end in {pattern!r}")


def _class_end(pattern: str, start: int) -> int:
    place = start + 1
    while place < len(pattern):
        if pattern[place] == "]":
            return place + 1
        place += 2 if pattern[place] == "\\" else 1
    raise ValueError(f"class without end in {pattern!r}")
