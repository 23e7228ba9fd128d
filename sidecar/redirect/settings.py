"""What is redirected and what is not: the words of a redirect, checked. Pure.

Values become rules in ``nftables.py`` and ``iptables.py``; there is nothing in them but whole numbers and networks, so
no value can bring a word of its own into a ruleset. Whatever would leave traffic outside the mesh without anybody
having said so is refused here: an own-traffic mark of zero, an exclusion of every address, IPv6 words without IPv6.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from sidecar.redirect.errors import RedirectSettingsError

__all__ = [
    "INBOUND_LISTENER",
    "MESH_PORT",
    "OUTBOUND_LISTENER",
    "Inbound",
    "Mark",
    "Network",
    "Outbound",
    "OwnTraffic",
    "RedirectSettings",
]

Network = IPv4Network | IPv6Network

INBOUND_LISTENER: Final = 15006
OUTBOUND_LISTENER: Final = 15001
MESH_PORT: Final = 15008

_HIGHEST_PORT: Final = 65535
_HIGHEST_MARK: Final = 0xFFFFFFFF
# The highest 32-bit number means "no such user" to the kernel.
_HIGHEST_ID: Final = 0xFFFFFFFE
_MOST_EXCLUSIONS: Final = 256
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mark:
    """A firewall mark (``SO_MARK``): traffic bears it if ``mark & mask == value``; both are 32-bit."""

    value: int
    mask: int = _HIGHEST_MARK

    def __str__(self) -> str:
        return f"{self.value:#x}/{self.mask:#x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTraffic:
    """By what the sidecar's own connections are known, so that they are not sent back to it.

    All that is given must hold, so each further word keeps out more pretenders: a container may be able to change its
    user (CAP_SETUID) or to mark its packets (CAP_NET_RAW), rarely both.
    """

    uid: int | None = None
    gid: int | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """TCP connections from elsewhere to an address of this machine or pod."""

    listener: int = INBOUND_LISTENER
    """Where they go instead; must accept on all addresses, as the kernel picks one of the arriving interface."""

    only_ports: frozenset[int] = frozenset()
    """If not empty, only these ports are redirected; on a host this keeps an operator's SSH out of the mesh."""

    exclude_ports: frozenset[int] = frozenset()
    """Reach their programs directly: the signals port of the sidecar is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """TCP connections that programs here open to an address elsewhere."""

    own: OwnTraffic
    listener: int = OUTBOUND_LISTENER
    """Where they go instead; accepting on 127.0.0.1 and ::1 is enough."""

    exclude_ports: frozenset[int] = frozenset()
    exclude_networks: frozenset[Network] = frozenset()
    """Destinations that are reached directly."""

    exclude_uids: frozenset[int] = frozenset()
    exclude_gids: frozenset[int] = frozenset()
    exclude_marks: frozenset[Mark] = frozenset()

    def networks_4(self) -> tuple[IPv4Network, ...]:
        """The excluded IPv4 networks, sorted and without overlaps, which nftables refuses in a set."""
        return tuple(
            ipaddress.collapse_addresses(each for each in self.exclude_networks if isinstance(each, IPv4Network))
        )

    def networks_6(self) -> tuple[IPv6Network, ...]:
        """The excluded IPv6 networks, likewise."""
        return tuple(
            ipaddress.collapse_addresses(each for each in self.exclude_networks if isinstance(each, IPv6Network))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectSettings:
    """One network namespace's redirect; None for a direction leaves that direction alone.

    Raises RedirectSettingsError with every problem at once.
    """

    inbound: Inbound | None
    outbound: Outbound | None
    mesh_port: int = MESH_PORT
    """Where sidecars meet by mutual TLS; never redirected inbound."""

    ipv6: bool = True
    """False leaves IPv6 outside the mesh: only for where nothing speaks it."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise RedirectSettingsError(problems)

    def without_ipv6(self) -> RedirectSettings:
        """The same for IPv4 alone."""
        outbound = self.outbound
        if outbound is not None:
            outbound = replace(outbound, exclude_networks=frozenset(outbound.networks_4()))
        return replace(self, outbound=outbound, ipv6=False)


def _problems(settings: RedirectSettings) -> Iterator[str]:
    inbound, outbound = settings.inbound, settings.outbound
    if inbound is None and outbound is None:
        yield "neither inbound nor outbound is redirected (leave one of the two on)"
    yield from _port("mesh port", settings.mesh_port)
    if inbound is not None:
        yield from _inbound_problems(inbound, settings.mesh_port, outbound)
    if outbound is not None:
        yield from _outbound_problems(outbound, settings)


def _inbound_problems(inbound: Inbound, mesh_port: int, outbound: Outbound | None) -> Iterator[str]:
    yield from _port("inbound listener", inbound.listener)
    yield from _ports("inbound port", inbound.exclude_ports | inbound.only_ports)
    if inbound.listener == mesh_port:
        yield f"inbound listener {inbound.listener} is the mesh port, too (give them different ports)"
    listeners = {inbound.listener} if outbound is None else {inbound.listener, outbound.listener}
    for port in sorted(inbound.exclude_ports & listeners):
        yield f"inbound port {port} is a listener's own port and cannot be excluded (leave it out)"
    for port in sorted(inbound.only_ports & (inbound.exclude_ports | {mesh_port})):
        yield f"inbound port {port} is to be redirected and not to be (leave it out of one of the two)"


def _outbound_problems(outbound: Outbound, settings: RedirectSettings) -> Iterator[str]:
    yield from _port("outbound listener", outbound.listener)
    yield from _ports("outbound port", outbound.exclude_ports)
    if settings.inbound is not None and outbound.listener == settings.inbound.listener:
        yield f"outbound listener {outbound.listener} is the inbound listener, too (give them different ports)"
    if outbound.listener == settings.mesh_port:
        yield f"outbound listener {outbound.listener} is the mesh port, too (give them different ports)"
    yield from _own_problems(outbound.own)
    for word, numbers in (("user", outbound.exclude_uids), ("group", outbound.exclude_gids)):
        yield from _bounded(f"excluded {word}s", numbers)
        for number in sorted(numbers):
            yield from _id(f"excluded {word}", number)
    yield from _bounded("excluded marks", outbound.exclude_marks)
    for mark in sorted(outbound.exclude_marks):
        yield from _mark("excluded mark", mark)
    yield from _network_problems(outbound, settings.ipv6)


def _own_problems(own: OwnTraffic) -> Iterator[str]:
    if own.uid is None and own.gid is None and own.mark is None:
        yield (
            "nothing tells the sidecar's own connections, which would come back to it without end "
            "(name its user, its group or its mark)"
        )
    if own.uid is not None:
        yield from _id("the sidecar's user", own.uid)
    if own.gid is not None:
        yield from _id("the sidecar's group", own.gid)
    if own.mark is not None:
        yield from _mark("the sidecar's mark", own.mark)
    ids = {number for number in (own.uid, own.gid) if number is not None}
    if ids == {0} and own.mark is None:
        yield "the sidecar is told by root alone, and so is every program of root (run it as a user of its own)"


def _network_problems(outbound: Outbound, ipv6: bool) -> Iterator[str]:
    yield from _bounded("excluded networks", outbound.exclude_networks)
    for network in outbound.networks_6():
        if not ipv6:
            yield f"excluded network {network} is of IPv6, which is not redirected at all (leave it out)"
        if network.subnet_of(_MAPPED):
            yield f"excluded network {network} never meets a packet (write it as an IPv4 network)"
    networks: tuple[Network, ...] = (*outbound.networks_4(), *outbound.networks_6())
    for each in networks:
        if each.prefixlen == 0:
            yield f"the excluded networks are all of IPv{each.version} (exclude less, or leave outbound alone)"


def _port(what: str, number: int) -> Iterator[str]:
    if not 1 <= number <= _HIGHEST_PORT:
        yield f"{what} {number} is no port (1 to {_HIGHEST_PORT})"


def _ports(what: str, numbers: frozenset[int]) -> Iterator[str]:
    yield from _bounded(f"{what}s", numbers)
    for number in sorted(numbers):
        yield from _port(what, number)


def _id(what: str, number: int) -> Iterator[str]:
    if not 0 <= number <= _HIGHEST_ID:
        yield f"{what} {number} is no user or group number (0 to {_HIGHEST_ID})"


def _mark(what: str, mark: Mark) -> Iterator[str]:
    if not (0 <= mark.value <= _HIGHEST_MARK and 0 < mark.mask <= _HIGHEST_MARK):
        yield f"{what} {mark} is no mark of 32 bits (such as 0x539/0xfff)"
    elif mark.value == 0:
        yield f"{what} {mark} is what unmarked traffic bears (give a value other than 0)"
    elif mark.value & ~mark.mask:
        yield f"{what} {mark} can never match: the value has bits outside the mask (widen the mask)"


def _bounded(what: str, things: Iterable[object]) -> Iterator[str]:
    count = sum(1 for _ in things)
    if count > _MOST_EXCLUSIONS:
        yield f"{count} {what} are too many (at most {_MOST_EXCLUSIONS})"
