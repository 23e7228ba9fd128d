"""The values of the command line, from text: ports, users, marks, networks. Errors are ValueError, one line each."""

from __future__ import annotations

import grp
import ipaddress
import pwd
import re
from typing import Final

from sidecar.redirect.settings import Mark, Network

__all__ = ["parse_gid", "parse_mark", "parse_network", "parse_port", "parse_uid"]

# No number that means something here has more digits; int() of a very long text is slow.
_DECIMAL: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_MARK: Final = re.compile(r"(0x[0-9a-f]{1,8}|[0-9]{1,10})(?:/(0x[0-9a-f]{1,8}|[0-9]{1,10}))?", re.ASCII | re.IGNORECASE)


def parse_port(text: str) -> int:
    """A port number; whether it is in range is the settings' to judge."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is no port (a number from 1 to 65535)")
    return int(text)


def parse_uid(text: str) -> int:
    """A user, by number or by the name that this machine knows."""
    if _DECIMAL.fullmatch(text):
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {text!r} here (give the number)") from None


def parse_gid(text: str) -> int:
    """A group, by number or by the name that this machine knows."""
    if _DECIMAL.fullmatch(text):
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {text!r} here (give the number)") from None


def parse_mark(text: str) -> Mark:
    """``VALUE`` or ``VALUE/MASK``, decimal or with ``0x``; no mask means all bits."""
    found = _MARK.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no mark (such as 0x539 or 0x539/0xfff)")
    value, mask = (None if part is None else _number(part) for part in found.groups())
    assert value is not None
    return Mark(value=value) if mask is None else Mark(value=value, mask=mask)


def _number(text: str) -> int:
    # int(text, 0) would refuse 010 and take 0b1; neither is how marks are written.
    return int(text, 16) if text.lower().startswith("0x") else int(text)


def parse_network(text: str) -> Network:
    """An address or a network in CIDR form; bits set beyond the prefix are refused, as the writer meant something."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network (such as 10.0.0.0/8 or fd00::/8)") from None
    raise ValueError(f"{text!r} has bits set beyond its prefix (write {meant}, or the address alone)")
