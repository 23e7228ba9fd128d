"""What a call says beyond its caller, port, method and path, found when a rule asks for it. Pure.

One is made for a request only where the rules of its caller read any (``CallerView.reads_facts``). Header fields are
those of the block that is forwarded: what is judged is what the app will see, so fields that are taken out on the way
(identities that only a sidecar may set, claims of an address, withdrawn offers) are not there, and ``x-forwarded-for``
is what the app is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ringfence.policy.facts import Token
from ringfence.snapshot import ForwardedFor
from sidecar.forwarded import FORWARDED_FOR, told
from sidecar.tokens.reader import Asking, TokenReader

_UNREAD: Final = object()


class RequestHeadFields(Protocol):
    """The head of a request of either version of HTTP."""

    @property
    def host(self) -> bytes:
        """The authority as sent."""

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """As they are forwarded."""

    def has_alike(self, name: bytes) -> bool:
        """Whether a field that is forwarded may be taken for ``name`` although it is spelled in another way."""

    def sent(self, name: bytes) -> list[bytes]:
        """As they came."""


@dataclass(frozen=True, slots=True)
class From:
    """Where requests come from, as far as their facts depend on it: the direct peer's certificate and address, and what
    the port tells its app of the latter."""

    leaf_sha256: str
    address: bytes
    forwarded_for: ForwardedFor


class RequestFacts:
    """Of one request; ``now``: Unix seconds, when it is judged."""

    __slots__ = ("_caller", "_fields", "_token", "_tokens", "ambiguous", "asked", "now", "waits")

    def __init__(self, fields: RequestHeadFields, now: float, tokens: TokenReader, caller: From) -> None:
        self._fields = fields
        self._tokens = tokens
        self._caller = caller
        self._token: object = _UNREAD
        self.now = now
        self.ambiguous = False
        """A header was asked for that the app might read out of another field."""
        self.asked: set[bytes] = set()
        """The headers that were asked for, in lower case."""
        self.waits: Asking | None = None
        """What is to be answered before the token is known."""

    @property
    def leaf_sha256(self) -> str:
        return self._caller.leaf_sha256

    @property
    def host(self) -> bytes:
        return host_asked(self._fields.host)

    def header(self, name: bytes) -> Sequence[bytes]:
        self.asked.add(name)
        if self._fields.has_alike(name):
            self.ambiguous = True
        if name == FORWARDED_FOR:
            return told(self._caller.forwarded_for, self._fields.sent(name), self._caller.address)
        return self._fields.values(name)

    def token(self) -> Token:
        """Verified once, however many rules read it."""
        if self._token is _UNREAD:
            self._token = self._tokens.token(self)
        return self._token  # type: ignore[return-value]


class ConnectionFacts:
    """Of opaque bytes: nothing but when they are judged."""

    __slots__ = ("now",)

    host: Final = b""

    def __init__(self, now: float) -> None:
        self.now = now

    def header(self, name: bytes) -> Sequence[bytes]:
        return ()

    def token(self) -> Token:
        return None


def host_asked(authority: bytes) -> bytes:
    """The host of a lawful authority, lower case, without its port and without the dot of DNS's root: applications
    take ``api.shop.`` for ``api.shop``, and a rule that refuses one must meet the other."""
    name, colon, port = authority.rpartition(b":")
    host = name if colon and not port.strip(b"0123456789") else authority
    return host.lower().removesuffix(b".")
