"""Lists in documents, and the words that stand in them: methods, paths, ports. Pure.

An empty list is refused, as it would read as "nothing" to its author and as "anything" to the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ringfence.policy.literals import is_expression
from ringfence.policy.paths import TemplateError, parse_template
from ringfence.policy.problems import Place, Problem, choose_from, nearest, shown
from ringfence.policy.yamlnodes import MappingReader, ValueReader

T = TypeVar("T")

LIMIT_ITEMS: Final = 1_000

# What the HTTP/1.1 engine takes: a rule for any other method would never permit anything.
_SERVED: Final = """
GET HEAD POST PUT PATCH DELETE OPTIONS TRACE QUERY ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL
MOVE PROPFIND PROPPATCH REBIND REPORT SEARCH UNBIND UNLINK UNLOCK
"""
METHODS: Final = tuple(_SERVED.split())
_USUAL: Final = METHODS[:7]


def read_items(reader: MappingReader, key: str, limit: int) -> list[ValueReader]:
    """The items of the list at ``key``, which must be there; none stand in for too many."""
    items = reader.sequence(key)
    if len(items) > limit:
        reader.problem(f"{key} has {len(items)} items", f"at most {limit}: split the list", key=key)
        return []
    return items


def read_list(
    reader: MappingReader,
    key: str,
    read: Callable[[ValueReader], T | None],
    problems: list[Problem],
    empty_mend: str,
    *,
    required: bool = False,
    limit: int = LIMIT_ITEMS,
) -> list[tuple[T, Place]]:
    """The items of a list with their places. An empty list is refused, and so is an item that is there twice."""
    if not required and key not in reader:
        reader.known(key)
        return []
    before = len(problems)
    found: list[tuple[T, Place]] = []
    seen: dict[T, Place] = {}
    items = read_items(reader, key, limit)
    if not items and len(problems) == before:
        reader.problem(f"{key} is empty", empty_mend, key=key)
    for item in items:
        count = len(problems)
        value = read(item)
        if value is None or len(problems) != count:
            continue
        first = seen.setdefault(value, item.place)
        if first != item.place:
            item.problem(f"{item.what} is there twice", f"first on line {first.line}: remove one")
        found.append((value, item.place))
    return found


def read_port(item: ValueReader) -> int:
    """A port."""
    return item.integer(1, 65535)


def read_method(item: ValueReader) -> str | None:
    """An HTTP method that the sidecar serves."""
    text = item.text()
    if text in METHODS:
        return text
    if text:
        item.problem(
            f"method {shown(text)} is not known", choose_from(text, METHODS if nearest(text, METHODS) else _USUAL)
        )
    return None


def read_path(item: ValueReader) -> str | None:
    """A path template, in canonical form."""
    text = item.text()
    if is_expression(text):
        mend = "write {name} or * for one segment, /** at the end for all below; escape a letter that is meant, as %24"
        item.problem(f"regular expression where a path template is meant: {shown(text)}", mend)
        return None
    try:
        return str(parse_template(text)) if text else None
    except TemplateError as error:
        item.problem(f"{error.message}: {shown(text)}", error.mend)
        return None
