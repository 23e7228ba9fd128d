"""What became of tokens: counted, and now and then logged; never the tokens. Adapter."""

from __future__ import annotations

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.facts import TokenRefused
from sidecar.metrics import SidecarMetrics
from sidecar.often import Often


class TokenTally:
    """Of one process. A verdict of policy that follows is the recorder's to tell."""

    __slots__ = ("_introspections", "_log", "_often", "_refused", "_verified")

    def __init__(self, metrics: SidecarMetrics, log: Logger, clock: Clock) -> None:
        self._log = log
        self._often = Often(clock.monotonic)
        self._verified = metrics.tokens.at("verified")
        self._refused = metrics.tokens.at("refused")
        self._introspections = metrics.introspections

    def verified(self) -> None:
        """A rule read a token, and it holds."""
        self._verified.value += 1

    def refused(self, found: TokenRefused) -> None:
        """A rule read a token, and it is not to be believed."""
        self._refused.value += 1
        if self._often.may():
            self._log.info("token not believed", detail=found.detail, not_logged=self._often.take_missed())

    def introspected(self, issuer: str, outcome: str, detail: str = "") -> None:
        """An issuer was asked; ``outcome``: active, inactive, failed, crowded."""
        self._introspections.at(outcome).value += 1
        if detail and self._often.may():
            self._log.warning("token issuer cannot be asked", issuer=issuer, detail=detail)
