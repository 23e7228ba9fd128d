"""IP addresses and socket addresses as they are written in documents and flags: read strictly, shown canonically.

Names are refused on purpose: what a name stands for can change between the check and the use, and no document of the
mesh may depend on a resolver.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

PORT_MAXIMUM: Final = 65535
_TEXT_LIMIT_CHARACTERS: Final = 64


class AddressError(ValueError):
    """The text is no address; ``message`` names the value, ``mend`` what to write instead."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message}; {mend}" if mend else message)
        self.message = message
        self.mend = mend


def parse_ip(text: str) -> str:
    """The canonical form of an IPv4 or IPv6 address (RFC 5952 for IPv6); zones and names are refused.

    Raises AddressError.
    """
    shown = text[:_TEXT_LIMIT_CHARACTERS]
    if "%" in text:
        raise AddressError(f"{shown!a} has a zone", "write the address without it")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise AddressError(f"{shown!a} is not an IP address", "write one such as 127.0.0.1 or ::1") from None


def parse_cidr(text: str) -> str:
    """The canonical form of a network as ``ADDRESS/LENGTH``, whose host bits must be zero; raises AddressError.

    Masks (``/255.0.0.0``) and bare addresses are refused, so that every reader sees how much is meant.
    """
    shown = text[:_TEXT_LIMIT_CHARACTERS]
    address, slash, length = text.partition("/")
    if not (slash and length.isascii() and length.isdigit() and len(length) <= len("128")):
        raise AddressError(f"{shown!a} is not a network", "write one such as 10.1.0.0/16")
    ip = parse_ip(address)
    limit = ipaddress.ip_address(ip).max_prefixlen
    try:
        network = ipaddress.ip_network(f"{ip}/{length}", strict=False)
    except ValueError:
        raise AddressError(f"{shown!a} has a prefix longer than the address", f"use at most /{limit}") from None
    if str(network.network_address) != ip:
        raise AddressError(f"{shown!a} has bits set behind its prefix", f"write {network}, or {ip}/{limit}")
    return str(network)


def check_port(port: int, *, zero: bool = False) -> int:
    """``port`` itself when it is 1 to 65535, or 0 where ``zero`` lets the system choose; else AddressError."""
    if not (0 if zero else 1) <= port <= PORT_MAXIMUM:
        raise AddressError(f"{port} is not a port", f"use {0 if zero else 1} to {PORT_MAXIMUM}")
    return port


@dataclass(frozen=True, slots=True, order=True)
class SocketAddress:
    """A canonical IP address and a port; ``str`` gives ``127.0.0.1:80`` or ``[::1]:80``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Reached from this machine only."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def unspecified(self) -> bool:
        """A listener here takes connections to every address of the machine."""
        return ipaddress.ip_address(self.host).is_unspecified


def parse_socket_address(text: str, *, zero: bool = False) -> SocketAddress:
    """Read ``HOST:PORT`` or ``[IPv6]:PORT``; ``zero`` permits port 0, the system's choice. Raises AddressError."""
    shown = text[:_TEXT_LIMIT_CHARACTERS]
    host, colon, port = text.rpartition(":")
    if not colon:
        raise AddressError(f"{shown!a} has no port", "write HOST:PORT such as 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise AddressError(f"{shown!a} has brackets about what is not an IPv6 address", "write 127.0.0.1:8080")
    elif ":" in host:
        raise AddressError(f"{shown!a} is ambiguous", "write an IPv6 address in brackets such as [::1]:8080")
    # isdigit alone would let other scripts' digits through.
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(PORT_MAXIMUM))):
        raise AddressError(f"{shown!a} has no port number after its last colon", "write HOST:PORT")
    return SocketAddress(parse_ip(host), check_port(int(port), zero=zero))
