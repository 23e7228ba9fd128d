"""What goes with the reading of one document, and the names in it that lead to other documents. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ringfence.policy.conditions import Conditions
from ringfence.policy.envelope import LABEL, NAME_LIMIT_CHARACTERS, NAME_MEND, SUBDOMAIN
from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.written import Header, Placed
from ringfence.policy.yamlnodes import ValueReader

_REFERENCE: Final = re.compile(rf"(?:({LABEL.pattern})/)?({SUBDOMAIN.pattern})")


@dataclass(frozen=True, slots=True)
class Context:
    """The header of the document that is read, and the list to which what is wrong with it is appended.

    ``conditions`` compiles the conditions of the document, so that what it needs for that is made once.
    """

    header: Header
    problems: list[Problem]
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def namespace(self) -> str:
        return self.header.namespace


def read_reference(item: ValueReader, what: str, context: Context) -> str | None:
    """The full name of a document or service (``what``) that is written as ``name`` or ``namespace/name``."""
    text = item.text()
    if not text:
        return None
    match = _REFERENCE.fullmatch(text)
    if match is None or len(text) > 2 * NAME_LIMIT_CHARACTERS:
        item.problem(f"{shown(text)} is not the name of a {what}", f"{NAME_MEND}; a namespace and '/' may stand before")
        return None
    return f"{match[1] or context.namespace}/{match[2]}"


def placed(found: list[tuple[str, Place]]) -> tuple[Placed[str], ...]:
    """What ``read_list`` answered, as a document keeps it."""
    return tuple(Placed(value, place) for value, place in found)
