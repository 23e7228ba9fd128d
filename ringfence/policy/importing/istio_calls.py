"""``operation`` of Istio's rules: hosts, ports, methods and paths. Pure."""

from __future__ import annotations

import re
from typing import Final

from ringfence.policy.importing.draft import Draft
from ringfence.policy.importing.imported import CannotSayError
from ringfence.policy.importing.matching import has_star, matched
from ringfence.policy.lists import METHODS
from ringfence.policy.problems import shown
from ringfence.policy.yamlnodes import MappingReader

FIELDS: Final = ("hosts", "ports", "methods", "paths")
_SEGMENT: Final = re.compile(r"/\{\*\}(?=/|$)")


def read_operation(operation: MappingReader, draft: Draft) -> None:
    """Put what an operation says into ``draft``. Raises CannotSayError, ValueError."""
    for field in FIELDS:
        if field in operation:
            _say(operation, field, list(operation.texts(field)), draft)
        negated = f"not{field[:1].upper()}{field[1:]}"
        if negated in operation:
            _say_not(operation, negated, field, list(operation.texts(negated)), draft)
    operation.finish()


def _say(operation: MappingReader, field: str, values: list[str], draft: Draft) -> None:
    place = operation.place(field)
    if field == "ports":
        say_ports(operation, field, values, draft)
    elif field == "methods":
        if "*" in values:
            draft.when.append('request.method != ""')
        elif all(value in METHODS for value in values):
            draft.narrow("methods", values)
        else:
            draft.when.append(matched("request.method", values))
    elif field == "hosts":
        if any(":" in value for value in values):
            raise CannotSayError(place, "a host with a port: hosts are judged without it")
        suffixes = all(not has_star(value) or value.startswith("*.") for value in values)
        if suffixes and not any("*" in value[1:] for value in values):
            draft.narrow("hosts", [value.lower() for value in values])
        else:
            draft.when.append(matched("request.host", [value.lower() for value in values]))
    else:
        templates = [_templates(value) for value in values]
        if all(found is not None for found in templates):
            draft.narrow("paths", [text for found in templates if found is not None for text in found])
        else:
            draft.when.append(_path_condition(operation, field, values))


def _say_not(operation: MappingReader, key: str, field: str, values: list[str], draft: Draft) -> None:
    if field == "ports":
        draft.when.append(f"!(destination.port in [{', '.join(map(str, ports_of(operation, key, values)))}])")
    elif field == "paths":
        draft.when.append(f"!{_path_condition(operation, key, values, wrapped=True)}")
    else:
        expression = "request.method" if field == "methods" else "request.host"
        texts = [value.lower() for value in values] if field == "hosts" else values
        draft.when.append(f"!({matched(expression, texts)})")


def say_ports(reader: MappingReader, key: str, values: list[str], draft: Draft) -> None:
    """Ports, beside others that must hold, too."""
    ports = ports_of(reader, key, values)
    if not draft.narrow("ports", ports):
        draft.when.append(f"destination.port in [{', '.join(map(str, ports))}]")


def ports_of(reader: MappingReader, key: str, values: list[str]) -> list[int]:
    """Ports written as texts. Raises CannotSayError."""
    for value in values:
        if not (value.isascii() and value.isdecimal() and len(value) <= 5):
            raise CannotSayError(reader.place(key), f"{shown(value)} is no number of a port")
    return [int(value) for value in values]


def _templates(value: str) -> list[str] | None:
    """Our templates for exactly the same paths; None where there are none.

    ``/a/*`` is whatever begins with ``/a/``, while our ``/a/**`` takes ``/a`` as well.
    """
    if value == "/*":
        return ["/**"]
    head = next((value.removesuffix(end) for end in ("/{**}", "/*") if value.endswith(end)), None)
    plain = value if head is None else head
    if "{**}" in plain or any(one in _SEGMENT.sub("/", plain) for one in "*{}"):
        return None
    template = _SEGMENT.sub("/*", plain)
    return [template] if head is None else [f"{template}/", f"{template}/*/**"]


def _path_condition(operation: MappingReader, key: str, values: list[str], *, wrapped: bool = False) -> str:
    if any("{" in value for value in values):
        raise CannotSayError(operation.place(key), "a path template beside paths that only a condition can say")
    text = matched("request.path", values)
    return f"({text})" if wrapped and not text.startswith("(") else text
