"""Which URLs may be asked for key sets, and which addresses their hosts may have. Pure.

A key set is believed for what its host says, so it comes over TLS from a host that the mesh file allows; and no
document can make the control plane ask a machine of the inside, whatever a name resolves to (server-side request
forgery, DNS rebinding): what is checked is the very address that is connected to.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from controlplane.mesh.token_issuers import NEVER
from ringfence.mesh import TokenIssuerRules

URL_LIMIT_CHARACTERS: Final = 2048
_URL: Final = re.compile(r"(https?)://([a-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/[!$-;=?-\[\]_a-z~]*)?")
_DIGITS_LAST: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


class UrlRefusedError(ValueError):
    """The URL may not be asked; ``message`` says why, ``mend`` what to do."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedUrl:
    """A URL that may be asked; without TLS only if every address of its host is this machine's own."""

    url: str
    host: str
    tls: bool


def allowed_url(url: str, rules: TokenIssuerRules) -> AllowedUrl:
    """``url`` if ``rules`` let it be asked; raises UrlRefusedError."""
    found = _URL.fullmatch(url) if len(url) <= URL_LIMIT_CHARACTERS else None
    if found is None:
        raise UrlRefusedError(f"{url[:64]!a} is no URL of a key set", "write it like https://login.example.org/keys")
    scheme, host, port = found[1], found[2], found[3]
    if port is not None and not 1 <= int(port) <= 65_535:
        raise UrlRefusedError(f"{url[:64]!a} has no port from 1 to 65535", "mend the port")
    if scheme == "http" and rules.plain_http and _is_this_machine(host):
        return AllowedUrl(url=url, host=host, tls=False)
    if _DIGITS_LAST.fullmatch(host):
        raise UrlRefusedError(f"{host!a} is an address, which no certificate vouches for", "name the host")
    if not any(_matches(pattern, host) for pattern in rules.hosts):
        raise UrlRefusedError(
            f"host {host} is not among the allowed ones",
            "add it to tokenIssuers.allowedHosts, or give --token-issuer-host",
        )
    if scheme == "http" and not rules.plain_http:
        raise UrlRefusedError(f"{url[:64]!a} is not https", "write https")
    return AllowedUrl(url=url, host=host, tls=scheme == "https")


def _is_this_machine(host: str) -> bool:
    """Whether it is an address of loopback, written as one."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def refused_address(text: str, rules: TokenIssuerRules, *, tls: bool) -> str:
    """Why ``text``, an address that a name stands for, may not be connected to; empty if it may."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # also one with a zone, which is of a link
        return "no address"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not tls and not address.is_loopback:
        return "without TLS not on this machine"
    if any(one.version == never.version and one in never for never in NEVER for one in (address, *_within(address))):
        return "link-local"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "no host's"
    if any(address in ipaddress.ip_network(one) for one in rules.private_networks):
        return ""
    return "" if _public(address) else "private, and not in tokenIssuers.privateNetworks"


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 address at which a packet to ``address`` may end: through a gateway, or by 6to4."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [address.sixtofour] if address.sixtofour is not None else []


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # Forms that carry an IPv4 address through a gateway, of which it would be the true target.
        if address.sixtofour is not None or address.teredo is not None or address in _NAT64:
            return False
        return address.is_global and not address.is_site_local
    return address.is_global


_NAT64: Final = ipaddress.ip_network("64:ff9b::/32")
