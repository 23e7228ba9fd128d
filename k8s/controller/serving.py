"""Renews the certificate of this replica's webhook server at half of the life that it has left. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from k8s.admission.certificate import CertificateError, ServingCertificate
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.platform import ServerCertificate

LIFETIME_SECONDS: Final = 86_400
_LONGEST_SLEEP_SECONDS: Final = 60.0
"""Wall clocks may be set, so they are looked at often."""


class Issuer(Protocol):
    """As much of a host as this needs."""

    async def server_certificate(self, dns_names: Sequence[str], lifetime_seconds: int) -> ServerCertificate: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """``dns_names``: by which the API server knows the webhook."""

    dns_names: tuple[str, ...]
    lifetime_seconds: int = LIFETIME_SECONDS


class CertificateKeeper:
    """Has a certificate from the first ``obtain`` on."""

    def __init__(
        self,
        issuer: Issuer,
        settings: ServingSettings,
        *,
        clock: Clock,
        log: Logger,
        random: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._issuer = issuer
        self._settings = settings
        self._clock = clock
        self._log = log
        self._random = random
        self._backoff = backoff or Backoff(first_seconds=1.0, cap_seconds=60.0)
        self._held: ServerCertificate | None = None
        self._since = 0.0

    async def obtain(self) -> ServingCertificate:
        """The first one; tried until there is one."""
        attempt = 0
        while True:
            made = await self._issue(attempt)
            if made is not None:
                try:
                    serving = ServingCertificate(made.chain_pem, made.key_pem)
                except CertificateError as error:
                    self._log.error("certificate of the webhook cannot be used", error=str(error))
                else:
                    self._hold(made)
                    return serving
            await asyncio.sleep(self._backoff.delay(attempt, self._random))
            attempt += 1

    async def renew(self, serving: ServingCertificate) -> None:
        """Replace it in time, until cancelled. The old one is served while there is no new one."""
        attempt = 0
        while True:
            wait = self._due() - self._clock.now()
            if wait > 0:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP_SECONDS))
                continue
            made = await self._issue(attempt)
            if made is not None:
                try:
                    serving.replace(made.chain_pem, made.key_pem)
                except CertificateError as error:
                    self._log.error("certificate of the webhook cannot be used", error=str(error))
                else:
                    self._hold(made)
                    self._log.info("certificate of the webhook renewed", not_after=made.not_after)
                    if self._due() > self._clock.now():
                        attempt = 0
                        continue
            await asyncio.sleep(self._backoff.delay(attempt, self._random))
            attempt += 1

    def _hold(self, made: ServerCertificate) -> None:
        self._held, self._since = made, self._clock.now()

    def _due(self) -> float:
        """At half of what was left of its life, which begins before it comes, and some of it earlier, so that replicas
        do not ask at once."""
        assert self._held is not None
        return self._since + (self._held.not_after - self._since) * (0.5 - 0.1 * self._random())

    async def _issue(self, attempt: int) -> ServerCertificate | None:
        try:
            return await self._issuer.server_certificate(self._settings.dns_names, self._settings.lifetime_seconds)
        except OSError as error:
            if attempt in (0, 5) or attempt % 30 == 29:
                self._log.warning("no certificate for the webhook", error=str(error), attempt=attempt + 1)
            return None
