"""The control plane's own SVID: issued into memory, shown by the gRPC servers, replaced before half its life is over.

A new SVID is verified with the verifier that sidecars use before any server shows it; while renewal fails, the old one
stays. New handshakes see the new one, connections that exist go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from controlplane.metrics import ControlPlaneMetrics
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import ChainVerifier, TrustBundle, X509Svid, control_plane_id

_LONGEST_NAP_SECONDS: Final = 30.0


def renewal_delay_seconds(svid: X509Svid, now: float, draw: float) -> float:
    """Seconds until ``svid`` should be replaced: 40 to 50 % of what is left of it, by ``draw`` from [0, 1)."""
    return max(0.0, (svid.not_after - now) * (0.4 + 0.1 * draw))


class ServerIdentity:
    """Holds the SVID; ``credentials`` gives a server credentials that follow it."""

    def __init__(
        self,
        *,
        issue: Callable[[], Awaitable[X509Svid]],
        bundle: TrustBundle,
        metrics: ControlPlaneMetrics,
        log: Logger,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._issue = issue
        self._bundle = bundle
        self._expected = frozenset({control_plane_id(bundle.trust_domain)})
        self._verifier = ChainVerifier([bundle])
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._random = random
        self._svid: X509Svid | None = None
        self._pem: tuple[bytes, bytes] = (b"", b"")

    @property
    def valid(self) -> bool:
        """Whether there is an SVID that has not expired."""
        return self._svid is not None and self._clock.now() < self._svid.not_after

    async def renew(self) -> X509Svid:
        """Get and adopt a new SVID. Raises what issuing raises, VerificationError for one that peers would refuse."""
        svid = await self._issue()
        self._verifier.verify(svid.chain, self._clock.now(), self._expected)
        # The root goes along, so that a sidecar that was given only its fingerprint can find it.
        self._pem = (svid.private_key_pem(), svid.chain_pem() + self._bundle.to_pem())
        self._svid = svid
        self._metrics.server_svid_expiry.set(svid.not_after)
        return svid

    async def run(self) -> None:
        """Renew in time until cancelled; ``renew`` must have succeeded once."""
        backoff = Backoff(first_seconds=0.5, cap_seconds=30.0)
        failures = 0
        while self._svid is not None:
            if failures:
                await asyncio.sleep(backoff.delay(failures - 1, self._random))
            else:
                await self._sleep_until(self._svid)
            try:
                svid = await self.renew()
            except Exception as error:  # the border of this task: the old SVID serves on
                failures += 1
                self._metrics.server_svid_rotations.labels("failed").inc()
                self._log.error("server identity not renewed", error=str(error), failures=failures)
            else:
                failures = 0
                self._metrics.server_svid_rotations.labels("done").inc()
                self._log.info("server identity renewed", serial=svid.serial, not_after=svid.not_after)

    async def _sleep_until(self, svid: X509Svid) -> None:
        # In naps by the wall clock: a laptop that slept must not sleep on.
        due = self._clock.now() + renewal_delay_seconds(svid, self._clock.now(), self._random())
        while True:
            left = due - self._clock.now()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _LONGEST_NAP_SECONDS))

    def credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """Credentials of one server that show the SVID held at each handshake; ``mutual`` asks for the client's."""
        shown = self._pem

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called by gRPC's threads, before each handshake; None: as before. Tuples are swapped whole.
            nonlocal shown
            held = self._pem
            if held is shown:
                return None
            shown = held
            return self._configuration(held, mutual=mutual)

        initial = self._configuration(shown, mutual=mutual)
        # The stubs do not know that None means "unchanged".
        return grpc.dynamic_ssl_server_credentials(initial, fetch, require_client_authentication=mutual)  # type: ignore[arg-type]

    def _configuration(self, pem: tuple[bytes, bytes], *, mutual: bool) -> grpc.ServerCertificateConfiguration:
        roots = self._bundle.to_pem() if mutual else None
        return grpc.ssl_server_certificate_configuration([pem], root_certificates=roots)
