"""Which networks an address lies in, by the lengths of prefixes and not one network after another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_address(text: str) -> Address | None:
    """The address of a peer, one of IPv4 in the form of IPv6 as what it is; None for anything else."""
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:
            return IPv6Address(int(address))
    return address


def parse_network(text: str) -> Network:
    """A network in canonical form; ValueError for any other text, and for IPv4 in the form of IPv6."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is IPv4 in the form of IPv6 (write the IPv4 network)")
    return network


class AddressIndex:
    """Networks, each with the position of a rule."""

    __slots__ = ("_by_length",)

    def __init__(self, networks: Iterable[tuple[Network, int]]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, list[int]]] = {}
        for network, position in networks:
            shift = network.max_prefixlen - network.prefixlen
            held = self._by_length.setdefault((network.version, shift), {})
            held.setdefault(int(network.network_address) >> shift, []).append(position)

    def positions(self, address: Address | None) -> set[int]:
        """The positions of all networks that ``address`` lies in; none without an address."""
        if address is None:
            return set()
        number, version = int(address), address.version
        return {
            position
            for (kind, shift), held in self._by_length.items()
            if kind == version
            for position in held.get(number >> shift, ())
        }
