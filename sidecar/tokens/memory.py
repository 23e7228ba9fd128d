"""Tokens that were verified lately, by their SHA-256; never the tokens themselves. Pure.

Bounded by number and by the size of what was signed, since claims are kept; the one that was asked for least lately
goes first. What has ended is not there, whoever put it in.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ringfence.policy.facts import TokenRefused, VerifiedToken

TOKENS_LIMIT: Final = 2048
BYTES_LIMIT: Final = 1024 * 1024


class TokenMemory:
    """What was found out of tokens of one issuer, each until a moment in Unix seconds."""

    __slots__ = ("_bytes", "_known", "_limit_bytes", "_limit_tokens")

    def __init__(self, *, tokens: int = TOKENS_LIMIT, size_bytes: int = BYTES_LIMIT) -> None:
        self._limit_tokens = tokens
        self._limit_bytes = size_bytes
        self._known: OrderedDict[bytes, tuple[VerifiedToken | TokenRefused, float, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, digest: bytes, now: float) -> VerifiedToken | TokenRefused | None:
        """What is known of the token with this SHA-256, at ``now``."""
        found = self._known.get(digest)
        if found is None:
            return None
        if now >= found[1]:
            self._forget(digest)
            return None
        self._known.move_to_end(digest)
        return found[0]

    def put(self, digest: bytes, token: VerifiedToken | TokenRefused, until: float, size_bytes: int) -> None:
        """Remember it until then; ``size_bytes``: of the token."""
        self._forget(digest)
        self._known[digest] = (token, until, size_bytes)
        self._bytes += size_bytes
        while len(self._known) > self._limit_tokens or self._bytes > self._limit_bytes:
            self._forget(next(iter(self._known)))

    def _forget(self, digest: bytes) -> None:
        found = self._known.pop(digest, None)
        if found is not None:
            self._bytes -= found[2]
