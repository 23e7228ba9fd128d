"""Words of annotations and settings, each checked to its last byte; ValueError says what is wrong and what to write.

Pure. What is accepted here stands later as a value in a pod or as one word of an argument list.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from ringfence.policy.problems import shown

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
ACCESS_LOGS: Final = ("denied", "all")
MODES: Final = ("strict", "permissive")

_HIGHEST_PORT: Final = 65_535
# As many as `ringfence redirect` takes; more are a mistake.
_MOST: Final = 256
_LIST_LIMIT_CHARACTERS: Final = 8_192
_PORTS: Final = re.compile(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?", re.ASCII)
_DURATION: Final = re.compile(r"([0-9]{1,7})(ms|s|m|h)", re.ASCII)
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_LONGEST_SECONDS: Final = 3_600
_CPU: Final = re.compile(r"([0-9]{1,6})m|([0-9]{1,3}(?:\.[0-9]{1,3})?)", re.ASCII)
_MEMORY: Final = re.compile(r"([0-9]{1,15})(|k|M|G|Ki|Mi|Gi)", re.ASCII)
_MEMORY_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("", "k", "M", "G", "T", "P", "E")
_LEAST_MEMORY_BYTES: Final = 32 * 2**20
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
# The grammar of the OCI distribution's references: host and port, path, tag, digest.
_NAME: Final = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_NAME}(?:\.{_NAME})*|\[[0-9a-fA-F:]+\])"
_PATH: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?:{_HOST}(?::[0-9]{{1,5}})?/)?{_PATH}(?:/{_PATH})*(?::[A-Za-z0-9_][-A-Za-z0-9._]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,128})?",
    re.ASCII,
)
_IMAGE_LIMIT_CHARACTERS: Final = 512

Span = tuple[Decimal | None, Decimal | None]
"""Request and limit; None where nothing is said."""


def ports(text: str) -> tuple[int, ...]:
    """``8080, 9000-9010``, sorted."""
    found: set[int] = set()
    for part in _parts(text, "ports such as 8080, 9000-9010"):
        match = _PORTS.fullmatch(part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match is not None else (0, 0)
        if not 1 <= low <= high <= _HIGHEST_PORT:
            raise ValueError(f"{shown(part)} is no port (write ports such as 8080, 9000-9010)")
        if high - low >= _MOST:
            raise ValueError(f"{shown(part)} has more than {_MOST} ports (exclude fewer)")
        found.update(range(low, high + 1))
    if len(found) > _MOST:
        raise ValueError(f"{len(found)} ports are too many (at most {_MOST})")
    return tuple(sorted(found))


def networks(text: str) -> tuple[str, ...]:
    """``10.0.0.0/8, fd00::/8``, in the order written; never all that there is, not even in pieces."""
    read = [_network(part) for part in _parts(text, "networks such as 10.0.0.0/8")]
    if len(read) > _MOST:
        raise ValueError(f"{len(read)} networks are too many (at most {_MOST})")
    v4 = [*ipaddress.collapse_addresses(one for one in read if isinstance(one, ipaddress.IPv4Network))]
    v6 = [*ipaddress.collapse_addresses(one for one in read if isinstance(one, ipaddress.IPv6Network))]
    if any(one.prefixlen == 0 for one in v4) or any(one.prefixlen == 0 for one in v6):
        raise ValueError(f"{shown(text)} is every address (exclude less, or take the pod out of the mesh)")
    return tuple(dict.fromkeys(map(str, read)))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        if not (text.isascii() and len(text) <= 64) or "%" in text:
            raise ValueError
        found = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no network (write networks such as 10.0.0.0/8, fd00::/8)") from None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        raise ValueError(f"{shown(text)} never meets a packet (write it as an IPv4 network)")
    return found


def duration(text: str) -> str:
    """``500ms``, ``10s``, ``5m``, at most an hour."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) * _UNIT_SECONDS[match[2]] > _LONGEST_SECONDS:
        raise ValueError(f"{shown(text)} is no duration up to 1h (write it like 500ms, 10s or 5m)")
    return text


def cpu(text: str) -> Decimal | None:
    """Cores from ``100m``, ``2`` or ``0.5``; None for empty text, which says nothing."""
    if not text:
        return None
    match = _CPU.fullmatch(text)
    cores = Decimal(0) if match is None else Decimal(match[1]) / 1000 if match[1] else Decimal(match[2])
    if cores <= 0:
        raise ValueError(f"{shown(text)} is no amount of CPU (write it like 100m, 0.5 or 2)")
    return cores


def memory(text: str) -> Decimal | None:
    """Bytes from ``64Mi``; None for empty text, which says nothing."""
    if not text:
        return None
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is no amount of memory (write it like 64Mi or 1Gi)")
    found = Decimal(match[1]) * _MEMORY_UNITS[match[2]]
    if found < _LEAST_MEMORY_BYTES:
        raise ValueError(f"{shown(text)} is less than a sidecar can start with (give at least 32Mi)")
    return found


def cpu_text(cores: Decimal) -> str:
    """As the API server says it again, so that what was injected can be told from what somebody changed."""
    return f"{cores:.0f}" if cores == cores.to_integral_value() else f"{cores * 1000:.0f}m"


def memory_text(text: str) -> str:
    """Likewise of an accepted amount: the largest unit of its family that keeps it whole."""
    match = _MEMORY.fullmatch(text)
    assert match is not None, text
    number, unit = int(match[1]), match[2]
    step, family = (1024, _BINARY) if unit.endswith("i") else (1000, _DECIMAL)
    place = family.index(unit)
    while place + 1 < len(family) and number % step == 0:
        number, place = number // step, place + 1
    return f"{number}{family[place]}"


def resources(*, cpu: Span, memory: Span) -> None:
    """Whether no request is above its limit."""
    for what, (request, limit) in (("CPU", cpu), ("memory", memory)):
        if request is not None and limit is not None and request > limit:
            raise ValueError(f"the sidecar would request more {what} than its limit allows (raise the limit)")


def choice(text: str, known: Sequence[str]) -> str:
    """One of ``known``."""
    if text not in known:
        raise ValueError(f"{shown(text)} is unknown (use one of {', '.join(known)})")
    return text


def image(text: str) -> str:
    """A reference to an image, as container engines take it."""
    if len(text) > _IMAGE_LIMIT_CHARACTERS or _IMAGE.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is no image (write it like registry.example/ringfence:1.2)")
    return text


def _parts(text: str, example: str) -> list[str]:
    """What stands between commas; an empty text has none."""
    if len(text) > _LIST_LIMIT_CHARACTERS or not text.isprintable():
        raise ValueError(f"{shown(text)} is no list (write {example})")
    parts = [part.strip(" ") for part in text.split(",")]
    return [] if parts == [""] else parts
