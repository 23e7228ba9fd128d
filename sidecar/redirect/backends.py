"""What can hold the rules, as the commands see it, and what the packet filter's complaints mean.

A backend reads and changes one network namespace: the one this process is in. Changing is all or nothing, also over
both IP versions. The implementations are in ``nft_backend.py`` and ``iptables_backend.py``.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sidecar.redirect.errors import BackendUnsupported, NotPermitted, RedirectError
from sidecar.redirect.settings import RedirectSettings
from sidecar.redirect.tools import Finished

__all__ = ["Backend", "Held", "failure", "ipv6_in_use", "ipv6_refused", "kernel_has_ipv6", "may_administer"]

_CAP_NET_ADMIN: Final = 12
_REFUSED: Final = re.compile(r"operation not permitted|permission denied|must be root", re.IGNORECASE)
_NOT_PERMITTED: Final = (
    "this process may not change the packet filter "
    "(run it as root, or give it CAP_NET_ADMIN and, for iptables-legacy, CAP_NET_RAW)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Rules of ours that a backend holds now. ``versions``: of IP; ``rules``: as the program itself lists them."""

    backend: str
    versions: tuple[str, ...]
    rules: tuple[str, ...]


class Backend(Protocol):
    """One way to hold the rules. Every method may raise RedirectError; then nothing has changed."""

    @property
    def name(self) -> str:
        """``nft``, ``iptables-nft`` or ``iptables-legacy``."""

    def held(self) -> tuple[Held, ...]:
        """What of ours is there, an entry each table; reading changes nothing, not even which modules are loaded."""

    def install(self, settings: RedirectSettings) -> None:
        """Put the rules in the place of whatever of ours is there."""

    def remove(self) -> None:
        """Take away whatever of ours is there, and what came with it."""


def failure(program: str, finished: Finished) -> RedirectError:
    """The error to raise for a program that ended badly."""
    if _REFUSED.search(finished.errors):
        return NotPermitted(_NOT_PERMITTED)
    mend = " (make its folder writable, or set XTABLES_LOCKFILE)" if "lock file" in finished.errors else ""
    return BackendUnsupported(f"{program}: {finished.complaint}{mend}")


def ipv6_refused(error: BackendUnsupported) -> BackendUnsupported:
    """The same error, once it is known that IPv4 alone would have gone well."""
    return BackendUnsupported(
        f"IPv6 rules are refused, so nothing is changed: {error} "
        "(let the kernel load its IPv6 NAT modules; give --no-ipv6 if nothing here speaks IPv6)"
    )


def may_administer(proc: Path = Path("/proc")) -> None:
    """Raises NotPermitted unless this process has CAP_NET_ADMIN, where the kernel tells."""
    try:
        status = (proc / "self/status").read_text()
    except OSError:
        return
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if found is not None and not int(found[1], 16) >> _CAP_NET_ADMIN & 1:
        raise NotPermitted(_NOT_PERMITTED)


def kernel_has_ipv6() -> bool:
    """Whether any program here could open an IPv6 socket at all (not so after booting with ``ipv6.disable=1``)."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def ipv6_in_use(proc: Path = Path("/proc")) -> bool:
    """Whether this namespace has an IPv6 address by which others could reach it, beyond its own link."""
    try:
        lines = (proc / "self/net/if_inet6").read_text().splitlines()
    except OSError:
        return False
    # Address, device number, prefix length, scope, flags, device; scope 0 is global.
    return any(words[3] == "00" for words in map(str.split, lines) if len(words) == 6)
