"""One setting's text to its value, strictly. Pure; every reader raises ValueError with one line that has the mend."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringfence.kit.labels import INSTANCE_MEND, is_instance
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId

_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,62})(?:\.[a-zA-Z0-9][a-zA-Z0-9_-]{0,62})*")
_DURATION: Final = re.compile(r"([0-9]{1,7})(ms|s|m|h)")
_SHARE: Final = re.compile(r"0(?:\.[0-9]{1,9})?|1(?:\.0{1,9})?")
_EVIDENCE_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
WORKERS_LIMIT: Final = 64
POD_ADDRESSES_LIMIT: Final = 16
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class AccessLog(StrEnum):
    """Which requests get a log line of their own; errors and ended connections always do."""

    DENIED = "denied"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name or address literal, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str) -> HostPort:
    """``host:port`` or ``[v6 address]:port``; ValueError else."""
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not separator or not host or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError(f"not a host and port: {text[:80]!r} (such as 127.0.0.1:7401 or [::1]:7401)")
    number = int(port)
    if not 1 <= number <= 65535:
        raise ValueError(f"port out of range: {number} (1 to 65535)")
    if bracketed != (":" in host) or not (_is_address(host) if bracketed else _is_host(host)):
        raise ValueError(f"not a host: {host[:80]!r} (a name, an IPv4 address, or an IPv6 address in brackets)")
    return HostPort(host=host, port=number)


def parse_fingerprint(text: str) -> str:
    """64 hex digits, also in upper case, with colons or a ``sha256:`` before them; lower-case hex; ValueError else."""
    plain = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if _FINGERPRINT.fullmatch(plain) is None:
        raise ValueError(f"not a SHA-256 fingerprint: {text.strip()[:80]!r} (64 hex digits)")
    return plain


def parse_duration(text: str) -> float:
    """A number with a unit, ``500ms``, ``10s``, ``5m`` or ``1h``, as seconds; ValueError else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text[:80]!r} (such as 10s, 5m or 1h)")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def parse_lifetime(text: str) -> int:
    """A duration of whole seconds that the wire can carry; ValueError else."""
    seconds = parse_duration(text)
    if seconds < 1 or seconds != int(seconds) or seconds > 0xFFFFFFFF:
        raise ValueError(f"not a lifetime: {text[:80]!r} (whole seconds, at least 1s)")
    return int(seconds)


def parse_workload_id(text: str) -> SpiffeId:
    """The SPIFFE ID of a workload, ``/ns/…/sa/…`` outside the reserved namespace; ValueError else."""
    spiffe_id = SpiffeId.parse(text)
    if spiffe_id.namespace is None:
        raise ValueError(
            f"not a workload's SPIFFE ID: {text[:80]!r} (spiffe://<trust domain>/ns/<namespace>/sa/<name>)"
        )
    if spiffe_id.namespace == RESERVED_NAMESPACE:
        raise ValueError(f"the namespace {RESERVED_NAMESPACE} is reserved for the control plane (use another)")
    return spiffe_id


def parse_instance(text: str) -> str:
    """The name of an instance; ValueError else."""
    if not is_instance(text):
        raise ValueError(f"not the name of an instance: {text[:80]!r} ({INSTANCE_MEND})")
    return text


def parse_evidence_kind(text: str) -> str | None:
    """The word for a kind of evidence (typed as what may be absent, which it never is); ValueError else."""
    if _EVIDENCE_KIND.fullmatch(text) is None:
        raise ValueError(f"not a kind of evidence: {text[:80]!r} (a word, such as kubernetes)")
    return text


def parse_path(text: str) -> str | None:
    """Text that can be a path (typed as what may be absent, which it never is); ValueError else."""
    if not text or "\0" in text:
        raise ValueError(f"not a path: {text[:80]!r}")
    return text


def parse_access_log(text: str) -> AccessLog:
    """``denied`` or ``all``; ValueError else."""
    try:
        return AccessLog(text)
    except ValueError:
        raise ValueError(f"unknown value: {text[:80]!r} (one of {', '.join(AccessLog)})") from None


def parse_share(text: str) -> float:
    """A share of all, from 0 to 1, as a decimal number; ValueError else."""
    if _SHARE.fullmatch(text) is None:
        raise ValueError(f"not a share: {text[:80]!r} (a number from 0 to 1, such as 0.1)")
    return float(text)


def parse_level(text: str) -> str:
    """A level of the log; ValueError else."""
    levels = ("debug", "info", "warning", "error")
    if text not in levels:
        raise ValueError(f"unknown value: {text[:80]!r} (one of {', '.join(levels)})")
    return text


def parse_flag(text: str) -> bool:
    """``true`` or ``false``; ValueError else."""
    if text not in ("true", "false"):
        raise ValueError(f"neither true nor false: {text[:80]!r}")
    return text == "true"


def parse_workers(text: str) -> int:
    """A number of processes, 1 to ``WORKERS_LIMIT``; ValueError else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4) or not 1 <= int(text) <= WORKERS_LIMIT:
        raise ValueError(f"not a number of workers: {text[:80]!r} (1 to {WORKERS_LIMIT})")
    return int(text)


def parse_pod_addresses(text: str) -> tuple[str, ...]:
    """One or several IP addresses with commas between them, as ``status.podIPs`` has them; ValueError else."""
    found: list[str] = []
    for part in text.split(","):
        try:
            address = ipaddress.ip_address(part.strip())
        except ValueError:
            raise ValueError(f"not an address of a pod: {part.strip()[:80]!r} (such as 10.0.0.7 or fd00::7)") from None
        if address.is_unspecified or address.is_multicast or "%" in part:
            raise ValueError(f"no pod has the address {part.strip()} (give its own)")
        found.append(str(address))
    if len(found) > POD_ADDRESSES_LIMIT:
        raise ValueError(f"{len(found)} addresses of a pod (at most {POD_ADDRESSES_LIMIT})")
    return tuple(dict.fromkeys(found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_host(host: str) -> bool:
    # All digits and dots must be a full IPv4 address: resolvers read 127.1 and 2130706433 as addresses, too.
    if host.replace(".", "").isdigit():
        return _is_address(host)
    return _HOST_NAME.fullmatch(host) is not None
