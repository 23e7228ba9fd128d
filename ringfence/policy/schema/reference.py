"""The table as the reference page, in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ringfence.policy.conditions import VARIABLES
from ringfence.policy.envelope import API_VERSION
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
)

_LONG_CHOICE: Final = 8

_HEAD: Final = f"""\
# Policy documents: the reference

<!-- Written by `python -m controlplane.policy.publish` from ringfence/policy/schema; do not edit. -->

Every document is YAML of this form. Unknown fields are errors, and so are regular expressions: every text is literal,
but for `*`, `**` and `{{name}}` where this page says so. `ringfence policy check` tells every error of all files at
once; `docs/policy.schema.json` lets an editor tell most of them while you write. In the first line of a file:

```yaml
# yaml-language-server: $schema=policy.schema.json
```

Durations are written like `500ms`, `10s`, `5m`, `1h30m` or `2d`. Text that YAML could take for a number or a truth
value stands in quotes.

| field | | |
|---|---|---|
| `apiVersion` | required | `{API_VERSION}` |
| `kind` | required | one of the kinds below |
| `metadata.name` | required | lower-case letters, digits, `-` and `.`; unique among the kind in its namespace |
| `metadata.namespace` | default: `default` | whose services it speaks of, and where bare names lead |
| `metadata.labels`, `metadata.annotations` | default: none | texts by name, for people and tools |
| `spec` | required | what the kind says |
"""
_CONDITIONS: Final = """\
## Conditions

`when` is an expression of [CEL](https://cel.dev) over what follows. It is compiled and checked for types when it is
loaded, at most 4,096 characters long, and its loops are bounded. What is not known where it is read (a header that is
not there, the parts of a token that is not there) is an error: a rule that permits does not match then, and one that
denies does. `token` itself is null where the request has none that is to be believed.

| variable | type |
|---|---|
"""
_TAIL: Final = """\
## What is refused although each part of it is right

- Two path templates in one list that take the same paths under two names: `/a/{x}` and `/a/{y}`, or `/a/*`.
- Two rules of one document, or two permissions of one role, that differ only in their names and hold a path in common:
  which of them speaks could not be told. Templates that merely overlap (`/a/{x}/b` and `/a/c/{y}`) are no error, as any
  match permits.
- One parameter twice in a path template: `/a/{x}/b/{x}`.
- What looks like a regular expression in `paths`, `hosts`, `grpc` or the values of `headers`, even where its letters
  could be meant; conditions can say them.
- Wildcards inside an identity (`web*`), in a trust domain, or in the name of a service.
"""


def reference() -> str:
    """The page."""
    pages = [_HEAD, *(_kind(kind) for kind in KINDS), *_shared(), _conditions(), _TAIL]
    return "\n".join(pages)


def _kind(kind: Kind) -> str:
    examples = "\n".join(f"```yaml\n{example}```\n" for example in kind.examples)
    return f"## {kind.name}\n\n{kind.summary}\n\n{_table(kind.spec)}\n{examples}"


def _shared() -> Iterator[str]:
    """A section for each object that fields lead to, each once, in the order in which they are met."""
    seen: dict[str, Object] = {}
    for kind in KINDS:
        for one in kind.spec.fields:
            _collect(one.shape, seen)
    for shape in seen.values():
        yield f"## {shape.name}\n\n{shape.summary}\n\n{_table(shape)}"


def _conditions() -> str:
    return _CONDITIONS + "".join(f"| `{name}` | `{kind}` |\n" for name, kind in VARIABLES.items())


def _collect(shape: Shape, seen: dict[str, Object]) -> None:
    match shape:
        case Object() if shape.name not in seen:
            seen[shape.name] = shape
            for one in shape.fields:
                _collect(one.shape, seen)
        case Many():
            _collect(shape.item, seen)
        case Named():
            _collect(shape.value, seen)
        case Either():
            for part in shape.shapes:
                _collect(part, seen)
        case _:
            pass


def _table(shape: Object) -> str:
    rows = [f"| `{one.name}` | {_needed(one, shape)} | {_words(one.shape)} | {one.summary} |" for one in shape.fields]
    return "\n".join(["| field | | value | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _needed(one: Field, shape: Object) -> str:
    if one.required:
        return "required"
    if one.default:
        return f"default: {one.default}"
    return "one of these" if any(one.name in variant.there for variant in shape.variants) else ""


def _words(shape: Shape) -> str:
    match shape:
        case Text():
            return shape.name
        case Number():
            return f"number, {shape.low} to {shape.high}"
        case Flag():
            return "`true`" if shape.only_true else "`true` or `false`"
        case Choice() if len(shape.words) > _LONG_CHOICE:
            return f"`{shape.words[0]}`, `{shape.words[1]}`, … `{shape.words[-1]}`"
        case Choice():
            return " or ".join(f"`{word}`" for word in shape.words)
        case Many():
            return f"list of {_words(shape.item)}"
        case Named():
            return f"mapping of {shape.key.name} to {_words(shape.value)}"
        case Either():
            return " or ".join(_words(one) for one in shape.shapes)
        case Object():
            return f"[{shape.name}](#{shape.name.lower()})"
