"""Addresses by which it is tried whether the rules are in force. Pure, and light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Canary:
    """An address that is nobody's and a port there, which the rules lead to the outbound listener whoever dials it: so
    the sidecar, whose own connections they leave alone, can try whether they are in force."""

    version: str
    address: str
    port: int = 15001


CANARIES: Final = (Canary("IPv4", "192.0.2.106"), Canary("IPv6", "2001:db8::7266"))
"""Of the networks reserved for documentation (RFC 5737, RFC 3849), where nothing is ever reached."""
