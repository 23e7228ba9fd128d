"""DNS names as documents write them to say which hosts may be reached: one host, or all below a name. Pure.

Names are compared label by label and in lower case, so they are written that way: two spellings of one rule would be
two chances to overlook it. Other scripts come in their ASCII form (``xn--…``, RFC 5890).
"""

from __future__ import annotations

import re
from typing import Final

_NAME_LIMIT_CHARACTERS: Final = 253
_SHOWN_CHARACTERS: Final = 64
# RFC 1123 section 2.1: letters, digits and inner hyphens, at most 63.
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What resolvers and URL parsers take for (part of) an IPv4 address when it stands last.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class HostPatternError(ValueError):
    """The text is no host pattern; ``message`` names the value, ``mend`` what to write instead."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


def parse_host_pattern(text: str) -> str:
    """``text`` itself when it is a lower-case DNS name, or ``*.`` and one: every name below it, not the name itself.

    Raises HostPatternError, also for IP addresses and for names that end in a dot.
    """
    shown = ascii(text[:_SHOWN_CHARACTERS])
    labels = text.removeprefix("*.").split(".")
    if "*" in text.removeprefix("*."):
        raise HostPatternError(f"wildcard in {shown}", "'*.' stands only as the whole first label, as in *.example.net")
    if any(character.isupper() for character in text):
        raise HostPatternError(f"capitals in {shown}", "write it in lower case")
    if text.endswith("."):
        raise HostPatternError(f"dot at the end of {shown}", "leave it out")
    if len(text) > _NAME_LIMIT_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise HostPatternError(f"{shown} is not a DNS name", "write it like api.example.org or *.example.net")
    if _NUMBER.fullmatch(labels[-1]):
        raise HostPatternError(f"{shown} ends in a number, so it is an address", "list addresses under cidrs")
    return text
