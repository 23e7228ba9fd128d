"""Makes the reader of a snapshot's issuers. What verifies and asks is imported with the first issuer that needs it: a
sidecar whose workload knows none never pays for it. Adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.model import TokenIssuer
from sidecar.metrics import SidecarMetrics
from sidecar.tokens.reader import NO_TOKENS, TokenReader

if TYPE_CHECKING:
    from sidecar.tokens.introspector import Ask, Introspector
    from sidecar.tokens.requests import RequestTokens
    from sidecar.tokens.tally import TokenTally


class IssuerRefusedError(ValueError):
    """What the snapshot says of an issuer cannot be used; the message says why."""


class TokenReaders:
    """Of one data path."""

    def __init__(self, metrics: SidecarMetrics, log: Logger, clock: Clock) -> None:
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._tally: TokenTally | None = None
        self._introspector: Introspector | None = None
        self._last: RequestTokens | None = None

    def made(self, issuers: tuple[TokenIssuer, ...]) -> TokenReader:
        """The reader for these; the last one, if they are the same. Raises IssuerRefusedError."""
        if not issuers:
            return NO_TOKENS
        from ringfence.policy.tokens import KeySetError
        from sidecar.tokens.requests import RequestTokens

        last = self._last
        if last is not None and last.issuers == issuers:
            return last
        try:
            self._last = RequestTokens(issuers, introspector=self._opened(), tally=self._counting(), before=last)
        except KeySetError as error:
            raise IssuerRefusedError(f"token issuer: {error}") from error
        return self._last

    def close(self) -> None:
        """Ask no more."""
        if self._introspector is not None:
            self._introspector.close()

    def _counting(self) -> TokenTally:
        from sidecar.tokens.tally import TokenTally

        if self._tally is None:
            self._tally = TokenTally(self._metrics, self._log, self._clock)
        return self._tally

    def _opened(self) -> Introspector:
        from sidecar.tokens.introspector import Introspector

        if self._introspector is None:
            self._introspector = Introspector(_Asking(), tally=self._counting(), clock=self._clock)
        return self._introspector


class _Asking:
    """An ``Ask`` that is imported with its first question."""

    def __init__(self) -> None:
        self._ask: Ask | None = None

    async def __call__(self, issuer: TokenIssuer, token: str) -> bytes:
        if self._ask is None:
            from sidecar.tokens.asking import HttpsAsking

            self._ask = HttpsAsking()
        return await self._ask(issuer, token)
