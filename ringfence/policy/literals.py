"""Finds regular expressions where a literal is meant. Pure.

Nothing in a document is a regular expression, so one that is written would be compared letter by letter and never
match: a denylist would refuse nothing. What looks like one is refused, even where the letters could be meant.
"""

from __future__ import annotations

import re
from typing import Final

# An anchor at its end, a repetition of anything, an escape, an alternative, a group with an option, a repeated group.
_SIGNS: Final = re.compile(r"^\^|\$\Z|\.[*+?]|\\|\||\(\?|\)[*+?{]")
# A class, which brackets alone are not: those of an address (``[::1]``) mean themselves. Bounded by the next bracket:
# texts are not short yet, and a search that went on to the end from each bracket would take their square.
_BRACKETS: Final = re.compile(r"\[(\^?)([^\[\]]*)\]([*+?{]?)")
_RANGE: Final = re.compile(r"[A-Za-z0-9]-[A-Za-z0-9]")
# What no DNS name has, and every expression for one does.
_NOT_IN_HOSTS: Final = re.compile(r"[\^$\\()\[\]|+?{}]|\.\*")


def is_expression(text: str) -> bool:
    """Whether ``text`` looks like a regular expression; ``*`` alone and ``*/*`` do not."""
    if _SIGNS.search(text):
        return True
    return any(found[1] or found[3] or _RANGE.search(found[2]) for found in _BRACKETS.finditer(text))


def is_host_expression(text: str) -> bool:
    """Whether ``text``, where a host name is meant, looks like a regular expression."""
    return _NOT_IN_HOSTS.search(text) is not None
