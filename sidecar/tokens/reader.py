"""What the data path asks of tokens. Pure.

Asked in the middle of judging a request, and only where a rule reads the token: it must answer at once. A token of
which only its issuer can tell is answered for the moment by ``ASKED``, and the request is told what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ringfence.policy.facts import Token, TokenRefused, VerifiedToken

ASKED: Final = TokenRefused("its issuer has not answered yet")


class Asking(Protocol):
    """A question that is under way; it always comes to an end."""

    def then(self, call: Callable[[], None]) -> None:
        """``call`` when it has; never at once."""


class TokenRequest(Protocol):
    """A request, as far as its token may depend on it."""

    waits: Asking | None
    """Set where the answer is ``ASKED``."""

    @property
    def now(self) -> float:
        """Unix seconds."""

    @property
    def leaf_sha256(self) -> str:
        """Of the certificate that the direct peer showed, hexadecimal; empty without one. For RFC 8705."""

    def header(self, name: bytes) -> Sequence[bytes]:
        """Each value of the field ``name`` (lower case) as it is forwarded to the app."""


class TokenReader(Protocol):
    """Of one workload and one snapshot."""

    @property
    def own_fields(self) -> frozenset[bytes]:
        """Names of the header fields by which the app is told of tokens, and which no caller may send: in lower case,
        whatever is no letter and no digit as ``-``. None: the app is told nothing."""

    def told(self, token: VerifiedToken) -> Sequence[tuple[bytes, bytes]]:
        """Name and value of the fields by which the app is told of ``token``."""

    def token(self, request: TokenRequest) -> Token:
        """The request's token, verified; why it is not to be believed; or None where it has none."""


class _NoTokens:
    """Of a workload that knows no issuer: nobody vouches, so whatever a request carries is no token."""

    __slots__ = ()

    own_fields: Final[frozenset[bytes]] = frozenset()

    def told(self, token: VerifiedToken) -> Sequence[tuple[bytes, bytes]]:
        return ()

    def token(self, request: TokenRequest) -> Token:
        return None


NO_TOKENS: Final[TokenReader] = _NoTokens()
