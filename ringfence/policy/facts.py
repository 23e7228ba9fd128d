"""What a call says beyond its caller, port, method and path. Pure.

The judge asks for a fact only where a rule needs it, so whoever implements ``Facts`` finds it at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """A token of which everything was verified but what rules ask of it.

    ``issuer``: the name of the ``TokenIssuer`` that vouches. ``expires``: Unix seconds, after which it is none.
    """

    issuer: str
    claims: Mapping[str, object]
    expires: float


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """There is a token, and it is not to be believed; ``detail`` is for this side's log and never holds the token."""

    detail: str


Token = VerifiedToken | TokenRefused | None


class Facts(Protocol):
    """The facts of one call. Names and values of headers are bytes as sent; names are asked for in lower case."""

    @property
    def now(self) -> float:
        """Unix seconds."""

    @property
    def host(self) -> bytes:
        """The host asked for, lower case, without its port; empty where there is none, and on opaque TCP."""

    def header(self, name: bytes) -> Sequence[bytes]:
        """Each value of the header ``name``, in order; none on opaque TCP."""

    def token(self) -> Token:
        """The request's token; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFacts:
    """Facts that are all known beforehand, for tools and tests."""

    now: float = 0.0
    host: bytes = b""
    headers: Mapping[bytes, Sequence[bytes]] = field(default_factory=lambda: MappingProxyType({}))
    known_token: Token = None

    def header(self, name: bytes) -> Sequence[bytes]:
        return self.headers.get(name, ())

    def token(self) -> Token:
        return self.known_token


NO_FACTS: Final = KnownFacts()
