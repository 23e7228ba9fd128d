"""The table as a JSON Schema, for editors. Pure.

Draft 7, which the editors know. It refuses what it can say; what it cannot say (a name that leads nowhere, a condition
that does not compile, a template twice) ``ringfence policy check`` tells. Patterns mean the same to ECMAScript and to
Python: no end of line stands for the end of a text.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.envelope import API_VERSION
from ringfence.policy.schema import texts
from ringfence.policy.schema.kinds import KINDS
from ringfence.policy.schema.shapes import (
    Choice,
    Either,
    Field,
    Flag,
    Kind,
    Many,
    Named,
    Number,
    Object,
    Shape,
    Text,
    Variant,
)

Schema = dict[str, object]

_TITLE: Final = "Policy documents of Ringfence"
# Documents that stand in the same folder; of these only what is around their spec is described here.
OTHER_KINDS: Final = ("Route",)


def json_schema() -> Schema:
    """The schema of one document of any kind of policy."""
    definitions: dict[str, Schema] = {}
    for kind in KINDS:
        definitions[kind.spec.name] = {}
        definitions[kind.spec.name] = _object(kind.spec, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": _TITLE,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"enum": [*(kind.name for kind in KINDS), *OTHER_KINDS]},
            "metadata": _metadata(),
            "spec": {"type": "object"},
        },
        "allOf": [_for_kind(kind) for kind in KINDS],
        "definitions": dict(sorted(definitions.items())),
    }


def _metadata() -> Schema:
    further = {"type": "object", "additionalProperties": _text(texts.ANY)}
    return {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": _text(texts.NAME),
            "namespace": {**_text(texts.WORD), "default": "default"},
            "labels": further,
            "annotations": further,
        },
    }


def _for_kind(kind: Kind) -> Schema:
    spec = {"$ref": f"#/definitions/{kind.spec.name}", "description": kind.summary}
    return {
        "if": {"required": ["kind"], "properties": {"kind": {"const": kind.name}}},
        "then": {"properties": {"spec": spec}},
    }


def _of(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    """The schema of a value; objects go to ``definitions`` once."""
    match shape:
        case Text():
            return _text(shape)
        case Number():
            return {"type": "integer", "minimum": shape.low, "maximum": shape.high}
        case Flag():
            return {"const": True} if shape.only_true else {"type": "boolean"}
        case Choice():
            return {"enum": list(shape.words)}
        case Many():
            bounds: Schema = {"maxItems": shape.most, "uniqueItems": True}
            least: Schema = {"minItems": shape.least} if shape.least else {}
            return {"type": "array", "items": _of(shape.item, definitions), **least, **bounds}
        case Named():
            return {
                "type": "object",
                "propertyNames": _text(shape.key),
                "additionalProperties": _of(shape.value, definitions),
                "minProperties": 1,
                "maxProperties": shape.most,
            }
        case Either():
            return {"anyOf": [_of(one, definitions) for one in shape.shapes]}
        case Object():
            if shape.name not in definitions:
                definitions[shape.name] = {}  # before its fields, so that nothing is written twice
                definitions[shape.name] = _object(shape, definitions)
            return {"$ref": f"#/definitions/{shape.name}"}


def _text(text: Text) -> Schema:
    # ``$`` would let a newline through where Python reads the schema.
    limit: Schema = {"maxLength": text.limit} if text.limit is not None else {}
    return {"type": "string", "minLength": 1, "pattern": rf"^(?:{text.pattern})(?![\s\S])", **limit}


def _object(shape: Object, definitions: dict[str, Schema]) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": shape.summary,
        "additionalProperties": False,
        "properties": {one.name: _field(one, definitions) for one in shape.fields},
    }
    required = [one.name for one in shape.fields if one.required]
    if required:
        schema["required"] = required
    if shape.variants:
        schema["oneOf"] = [_variant(one) for one in shape.variants]
    if shape.any_of:
        schema["anyOf"] = [{"required": [name]} for name in shape.any_of]
    if shape.apart:
        schema["not"] = {"required": list(shape.apart)}
    if shape.needed is not None:
        held = {shape.needed.field: {"contains": {"const": shape.needed.word}}}
        schema["dependencies"] = {shape.needed.beside: {"properties": held}}
    return schema


def _field(one: Field, definitions: dict[str, Schema]) -> Schema:
    summary = f"{one.summary} (default: {one.default})" if one.default else one.summary
    schema = _of(one.shape, definitions)
    if "$ref" in schema:  # in draft 7 nothing beside a reference is read
        return {"allOf": [schema], "description": summary}
    return {**schema, "description": summary}


def _variant(one: Variant) -> Schema:
    schema: Schema = {}
    if one.there:
        schema["required"] = list(one.there)
    if one.fixed:
        schema["properties"] = {name: {"const": value} for name, value in one.fixed.items()}
    if one.absent:
        schema["not"] = {"anyOf": [{"required": [name]} for name in one.absent]}
    return schema
