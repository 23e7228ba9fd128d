"""The headers of requests: their names, and what a rule asks of them. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.policy.lists import read_list
from ringfence.policy.literals import is_expression
from ringfence.policy.model import HeaderMatch
from ringfence.policy.problems import Place, shown
from ringfence.policy.reading.context import Context
from ringfence.policy.words import FRAMING_HEADERS, is_header_name, is_header_value
from ringfence.policy.written import Placed
from ringfence.policy.yamlnodes import MappingReader, ValueReader

# The sidecar takes these out before anything else and writes them itself: who calls stands under ``from``.
IDENTITY_HEADER: Final = "x-forwarded-client-cert"
OWN_HEADERS: Final = "x-ringfence-"
SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class HeaderNameError(ValueError):
    """The text names no header of a call; ``mend`` says what to write instead."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


def parse_header_name(text: str) -> str:
    """The name of a header in lower case, however it was written; raises HeaderNameError."""
    name = text.lower() if text.isascii() else text
    if name in (":authority", "host"):
        raise HeaderNameError(f"{shown(text)} is the host asked for", "name it under hosts")
    if name in (":method", ":path"):
        raise HeaderNameError(f"{shown(text)} is not a header", f"name it under {name[1:]}s")
    if not is_header_name(name):
        mend = "write it like x-tenant, without ':' and spaces"
        raise HeaderNameError(f"{shown(text)} is not the name of a header", mend)
    if name in FRAMING_HEADERS:
        raise HeaderNameError(f"header {name} belongs to one connection, not to the call", "remove it")
    if name == IDENTITY_HEADER or name.startswith(OWN_HEADERS):
        raise HeaderNameError(f"header {name} is written by the sidecar itself", "name the caller under from")
    return name


def read_header_name(item: ValueReader) -> str | None:
    """The header name at ``item``."""
    text = item.text()
    try:
        return parse_header_name(text) if text else None
    except HeaderNameError as error:
        item.problem(error.message, error.mend)
        return None


def read_headers(to: MappingReader, context: Context) -> tuple[Placed[HeaderMatch], ...]:
    """What ``headers`` asks for. A header that stands there twice is told: each would have to hold."""
    mend = "remove it to leave it open, or name what is permitted"
    found = read_list(to, "headers", lambda item: _read_header(item, context), context.problems, mend)
    seen: dict[str, Place] = {}
    for header, place in found:
        first = seen.setdefault(header.name, place)
        if first is not place:
            message = f"header {header.name} is asked for twice"
            context.problems.append(place.problem(message, f"first on line {first.line}: put all values into one"))
    return tuple(Placed(header, place) for header, place in found)


def _read_header(item: ValueReader, context: Context) -> HeaderMatch | None:
    before = len(context.problems)
    reader = item.mapping()
    if not reader.present:
        return None
    named = reader.value("name")
    name = read_header_name(named) if named is not None else None
    form = reader.one_of("values", "present")
    values: list[tuple[str, Place]] = []
    present = True
    if form == "values":
        mend = "write present: true for any value, or name one"
        values = read_list(reader, "values", _read_header_value, context.problems, mend)
        if name in SECRET_HEADERS:
            reader.problem(f"values of header {name} are secrets", "ask for a token: under token", key="values")
    elif form == "present":
        present = reader.boolean("present")
    reader.finish()
    if name is None or len(context.problems) != before:
        return None
    return HeaderMatch(name=name, values=tuple(value for value, _ in values), present=present)


def _read_header_value(item: ValueReader) -> str | None:
    text = item.text()
    if not text:
        return None
    if text == "*":
        item.problem("'*' is a value like any other, not a wildcard", "write present: true instead of values")
    elif is_expression(text):
        mend = "write each value out; a pattern goes into when: request.headers"
        item.problem(f"regular expression where a header value is meant: {shown(text)}", mend)
    elif not is_header_value(text):
        mend = "use ASCII that can be seen, with spaces only inside, at most 2048 characters"
        item.problem(f"{shown(text)} is no value that a header can have", mend)
    else:
        return text
    return None
