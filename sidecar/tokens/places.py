"""Where a request's token stands: a header or a cookie, and exactly one. Pure.

Two tokens in one place are two readers' two tokens, so there is none to be believed then. What a value may look like is
a ``b64token`` (RFC 6750 section 2.1); nothing else is shown to anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ringfence.policy.facts import TokenRefused
from ringfence.policy.tokens import TOKEN_LIMIT_BYTES
from sidecar.tokens.reader import TokenRequest

_AUTHORIZATION: Final = b"authorization"
_BEARER: Final = re.compile(rb"bearer(?: +(.*))?", re.IGNORECASE | re.DOTALL)
_B64TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, slots=True)
class Place:
    """One of the two is not empty; ``header`` is in lower case."""

    header: bytes
    cookie: bytes

    def find(self, request: TokenRequest) -> str | TokenRefused | None:
        """The token there, why there is none to be believed, or None where there is none."""
        return self._in_cookie(request) if self.cookie else self._in_header(request)

    def _in_header(self, request: TokenRequest) -> str | TokenRefused | None:
        values = request.header(self.header)
        if not values:
            return None
        if len(values) > 1:
            return TokenRefused(f"there are {len(values)} values of the header that it stands in")
        bearer = _BEARER.fullmatch(values[0])
        if bearer is not None:
            return _checked(bearer[1] or b"")
        # Another scheme speaks of other credentials, which are the app's; a header of its own has no scheme.
        return None if self.header == _AUTHORIZATION else _checked(values[0])

    def _in_cookie(self, request: TokenRequest) -> str | TokenRefused | None:
        found = [
            value
            for line in request.header(b"cookie")
            for name, equals, value in (pair.strip(b" \t").partition(b"=") for pair in line.split(b";"))
            if equals and name == self.cookie
        ]
        if not found:
            return None
        if len(found) > 1:
            return TokenRefused(f"there are {len(found)} cookies of the name that it stands in")
        return _checked(found[0])


def _checked(value: bytes) -> str | TokenRefused:
    if len(value) > TOKEN_LIMIT_BYTES:
        return TokenRefused(f"it is larger than {TOKEN_LIMIT_BYTES} bytes")
    if _B64TOKEN.fullmatch(value) is None:
        return TokenRefused("it is no token in form")
    return value.decode("ascii")
