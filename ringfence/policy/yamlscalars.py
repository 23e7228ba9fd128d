"""One scalar to one typed value, strictly. Pure; each reader raises ``UnreadableError`` with a message and a mend."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from ringfence.policy.durations import DurationError, parse_duration
from ringfence.policy.problems import choose_from, shown
from ringfence.policy.yamltree import ScalarNode

# What YAML 1.1 or 1.2 readers take for something else than text, when it has no quotes.
_NOT_TEXT: Final = re.compile(
    r"~|null|true|false|yes|no|on|off|[-+]?[0-9][0-9_]*|0[xob][0-9a-f_]+|"
    r"[-+]?(?:[0-9][0-9_]*)?\.[0-9]*(?:e[-+]?[0-9]+)?|[-+]?[0-9]+e[-+]?[0-9]+|[-+]?\.inf|\.nan",
    re.IGNORECASE,
)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_SHARE: Final = re.compile(r"0(?:\.[0-9]{1,9})?|1(?:\.0{1,9})?")
_HOST_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})")


class UnreadableError(ValueError):
    """The scalar is not of the wanted type; ``message`` goes on from the field's name."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host (name or IP literal, IPv6 without brackets) and a port from 1 to 65535; ``str`` is ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _plain_value(node: ScalarNode, wanted: str) -> str:
    """The text of an unquoted scalar; UnreadableError for a quoted or an empty one."""
    if not node.plain:
        raise UnreadableError(f"must be {wanted}, not text", "remove the quotes")
    if node.text == "":
        raise UnreadableError(f"must be {wanted}, not nothing")
    return node.text


def read_text(node: ScalarNode) -> str:
    """Text of at least one character; what a YAML reader could take for a number, boolean or null needs quotes."""
    if node.text == "":
        raise UnreadableError("must not be empty")
    if node.plain and _NOT_TEXT.fullmatch(node.text):
        raise UnreadableError(f"must be text, not {shown(node.text)[1:-1]}", "put it in quotes")
    return node.text


def read_integer(node: ScalarNode, low: int, high: int) -> int:
    """A decimal integer from ``low`` to ``high``; no leading zeros (octal to some), signs but ``-``, or underscores."""
    text = _plain_value(node, "a whole number")
    if not _INTEGER.fullmatch(text):
        raise UnreadableError(
            f"must be a whole number, not {shown(text)}", f"write a decimal number from {low} to {high}"
        )
    number = int(text)
    if not low <= number <= high:
        raise UnreadableError(f"{number} is out of range", f"from {low} to {high}")
    return number


def read_share(node: ScalarNode) -> float:
    """A share of all, from 0 to 1, as a decimal number of at most nine places."""
    text = _plain_value(node, "a number")
    if not _SHARE.fullmatch(text):
        raise UnreadableError(f"{shown(text)} is no share of all", "write a number from 0 to 1, such as 0.1")
    return float(text)


def read_boolean(node: ScalarNode) -> bool:
    """``true`` or ``false`` in lower case; ``yes``, ``on`` and their kind mean one thing here and another there."""
    text = _plain_value(node, "true or false")
    if text not in ("true", "false"):
        raise UnreadableError(f"must be true or false, not {shown(text)}")
    return text == "true"


def read_choice(node: ScalarNode, options: list[str]) -> str:
    """One of ``options``, letter by letter."""
    if node.text not in options:
        raise UnreadableError(f"{shown(node.text)} is not known", choose_from(node.text, options))
    return node.text


def read_duration(node: ScalarNode, low: float, high: float) -> float:
    """Seconds from units in falling order: ``2d``, ``1h30m``, ``10s``, ``500ms``."""
    try:
        return parse_duration(node.text, low, high)
    except DurationError as error:
        raise UnreadableError(error.message, error.mend) from error


def read_address(node: ScalarNode, default_host: str | None) -> HostPort:
    """``host:port``; a bare port where ``default_host`` is given."""
    if default_host is not None and node.plain and _INTEGER.fullmatch(node.text):
        return HostPort(default_host, read_integer(node, 1, 65535))
    mend = "write it as host:port" + (", or the port alone" if default_host is not None else "")
    match = _ADDRESS.fullmatch(node.text)
    if not match:
        raise UnreadableError(f"{shown(node.text)} is not an address", mend)
    bracketed, host, port = match[1], match[2], int(match[3])
    if not 1 <= port <= 65535:
        raise UnreadableError(f"{shown(node.text)} has a port out of range", "from 1 to 65535")
    if bracketed is not None:
        host = bracketed
        valid = _is_ip_literal(bracketed, 6)
    else:
        # What ends in a number is an IPv4 address or nothing: no resolver may read it as octal or as one integer.
        number_like = host.rsplit(".", 1)[-1].isdigit()
        valid = _is_ip_literal(host, 4) if number_like else _HOST_NAME.fullmatch(host.lower()) is not None
    if not valid or len(host) > 253:
        raise UnreadableError(f"{shown(node.text)} has no valid host", mend)
    return HostPort(host.lower(), port)


def _is_ip_literal(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False
