"""Which destinations outside the mesh a workload may reach. Pure. Default deny."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ringfence.snapshot import EgressRule

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    name: str
    ports: frozenset[int]
    networks: tuple[Network, ...]
    hosts: frozenset[str]
    suffixes: tuple[str, ...]


# Where clouds keep a machine's metadata and credentials beside the link-local 169.254.0.0/16 and fe80::/10.
_METADATA: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle
            "fd00:ec2::/32",  # AWS
            "fd20:ce::254/128",  # Google
            "fd00:42::42/128",  # Scaleway
        ),
    )
)
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")
# An IPv4 address is the end of these: translated (RFC 6052, RFC 8215) or compatible (RFC 4291 section 2.5.5.1).
_ENDS_IN_IPV4: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))


def stands_for_near(host: str, address: str, *, own: str = "") -> bool:
    """Whether ``host``, a name, was found to mean this machine, its link or its cloud's metadata: loopback, link-local,
    multicast, no address at all, and whatever a gateway would make into one of these; or ``own``, the address that the
    connection comes from. Whoever serves the name chooses that; a rule by host permits it for localhost alone (RFC 6761
    section 6.3), and any other only by its address."""
    try:
        ipaddress.ip_address(host)
        return False
    except ValueError:
        pass
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return host != "localhost" and not host.endswith(".localhost")
    return address == own or _is_near(ip) or (isinstance(ip, ipaddress.IPv6Address) and any(map(_is_near, _inside(ip))))


def _is_near(ip: Address) -> bool:
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _THIS_NETWORK:
        return True
    return any(ip in network for network in _METADATA)


def _inside(ip: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address may become on its way."""
    if ip.sixtofour is not None:
        yield ip.sixtofour
    if any(ip in network for network in _ENDS_IN_IPV4):
        yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)


class EgressTable:
    """The egress rules of one workload: asked by address first, and by host name if no address rule permits."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[EgressRule]) -> None:
        self._rules = tuple(
            _Compiled(
                name=rule.name,
                ports=frozenset(rule.ports),
                networks=tuple(ipaddress.ip_network(cidr) for cidr in rule.cidrs),
                hosts=frozenset(host for host in rule.hosts if not host.startswith("*.")),
                suffixes=tuple(host[1:] for host in rule.hosts if host.startswith("*.")),
            )
            for rule in rules
        )

    def by_address(self, address: str, port: int) -> str | None:
        """The rule that permits this address and port whatever is said there, or None."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return None
        for rule in self._rules:
            if rule.ports and port not in rule.ports:
                continue
            if any(ip.version == network.version and ip in network for network in rule.networks):
                return rule.name
        return None

    def asks_for_host(self, port: int) -> bool:
        """Whether some rule could permit this port by a host name, so that it is worth waiting for one."""
        return any((rule.hosts or rule.suffixes) and (not rule.ports or port in rule.ports) for rule in self._rules)

    def by_host(self, host: str, port: int) -> str | None:
        """The rule that permits this host name (lower case) and port, or None. ``*.`` stands for one or more labels."""
        if not host:
            return None
        for rule in self._rules:
            if rule.ports and port not in rule.ports:
                continue
            if host in rule.hosts or any(host.endswith(suffix) and len(host) > len(suffix) for suffix in rule.suffixes):
                return rule.name
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressFlow:
    """Where a connection outside the mesh leads, to be judged again when the egress rules change."""

    address: str
    host: str
    port: int
