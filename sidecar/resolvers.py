"""The name servers that a pod is told, to which its apps may always speak TCP. Pure.

A name is looked up by UDP, which is not led here, and by TCP where an answer is too long for that or a C library likes
it better. Without an egress rule the second would be refused, and a look-up would fail that nobody connects with the
mesh. What may be reached is exactly what the pod is told (``/etc/resolv.conf``), at port 53.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Final

RESOLV_CONF: Final = Path("/etc/resolv.conf")
PORT: Final = 53
RULE: Final = "resolver"
_LIMIT: Final = 3  # resolv.conf(5): MAXNS, what comes after is asked by nobody
_LIMIT_CHARACTERS: Final = 64 * 1024


def resolvers_in(text: str) -> tuple[str, ...]:
    """The addresses of the first name servers; what is none is left out, as resolvers do."""
    found: list[str] = []
    for address in _addresses(text[:_LIMIT_CHARACTERS]):
        if address not in found:
            found.append(address)
        if len(found) == _LIMIT:
            break
    return tuple(found)


def _addresses(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match line.split():
            case ["nameserver", word, *_]:
                try:
                    yield str(ipaddress.ip_address(word))
                except ValueError:
                    continue
