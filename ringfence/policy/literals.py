"""Finds regular expressions where a literal is meant. Pure.

Nothing in a document is a regular expression, so one that is written would be compared letter by letter and never
match: a denylist would refuse nothing. What looks like one is refused, even where the letters could be meant.
"""

from __future__ import annotations

import re
from typing import Final

# An anchor at its end, a repetition of anything, an escape, an alternative, a class (with a range, negated or repeated;
# not the brackets of an address), a group with an option, a repeated group.
_SIGNS: Final = re.compile(
    r"^\^|\$\Z|\.[*+?]|\\|\||\[\^[^\]]|\[[^\]]*(?:[A-Za-z0-9]-[A-Za-z0-9][^\]]*\]|\][*+?{])|\(\?|\)[*+?{]"
)
# What no DNS name has, and every expression for one does.
_NOT_IN_HOSTS: Final = re.compile(r"[\^$\\()\[\]|+?{}]|\.\*")


def is_expression(text: str) -> bool:
    """Whether ``text`` looks like a regular expression; ``*`` alone and ``*/*`` do not."""
    return _SIGNS.search(text) is not None


def is_host_expression(text: str) -> bool:
    """Whether ``text``, where a host name is meant, looks like a regular expression."""
    return _NOT_IN_HOSTS.search(text) is not None
