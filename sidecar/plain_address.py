"""Addresses of callers in one form. Pure."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def plain_address(address: bytes) -> str:
    """An IP address in the one form that rules have it: an IPv4 address that came over an IPv6 socket is itself."""
    try:
        parsed = ip_address(address.decode("ascii"))
    except ValueError:
        return ""  # of no network: whatever is narrowed to some does not hold
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
