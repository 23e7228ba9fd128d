"""Which destinations outside the mesh a workload may reach. Pure. Default deny."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.snapshot import EgressRule

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    name: str
    ports: frozenset[int]
    networks: tuple[Network, ...]
    hosts: frozenset[str]
    suffixes: tuple[str, ...]


def stands_for_near(host: str, address: str) -> bool:
    """Whether ``host``, a name, was found to mean this machine or its link: loopback, link-local (a cloud's metadata),
    multicast or no address at all. Whoever serves the name chooses that; a rule by host permits it for localhost alone
    (RFC 6761 section 6.3), and any other only by its address."""
    try:
        ipaddress.ip_address(host)
        return False
    except ValueError:
        pass
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return host != "localhost" and not host.endswith(".localhost")
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified


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
