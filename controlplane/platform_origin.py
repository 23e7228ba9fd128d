"""The origin that is a platform: it watches by itself, offers readings, and is told what became of them. Adapter."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

from aiohttp import web

import ca
from controlplane.control.servers import AddressTakenError, check_free
from controlplane.hosting.good_file import GoodFile
from controlplane.hosting.host import Given, PlatformHost
from controlplane.hosting.judging import ReadingJudge
from controlplane.hosting.opening import open_platform
from controlplane.hosting.routes import PlatformRoutes
from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.intake.force import Force, Isolation
from controlplane.mesh.document import MeshDocument
from controlplane.origins import Parts, Task
from controlplane.settings import ControlPlaneSettings, PlatformSettings
from controlplane.start import StartRefusedError
from ringfence.mesh import ControlPlaneAddresses, Mesh
from ringfence.platform import (
    CertificateWish,
    GrantedCertificate,
    Platform,
    PlatformError,
    ServerCertificate,
    Surroundings,
)


class OpenedPlatform:
    """A platform by the command line alone: it is opened once there are metrics to register with."""

    def __init__(self, settings: ControlPlaneSettings, platform: PlatformSettings) -> None:
        standard = ControlPlaneAddresses()
        self._platform = platform
        self.addresses = ControlPlaneAddresses(
            join=settings.join or standard.join,
            listen=settings.listen or standard.listen,
            signals=settings.signals or standard.signals,
        )
        self.document = MeshDocument(
            mesh=Mesh(
                name=platform.name,
                trust_domain=platform.trust_domain,
                policies="",
                control_plane=self.addresses,
                identities=platform.identities,
                services=(),
            ),
            file="--trust-domain",
            places={},
        )
        for flag, address in (("--join-listen", self.addresses.join), ("--listen", self.addresses.listen)):
            try:
                check_free(address)
            except AddressTakenError as error:
                raise StartRefusedError([f"{flag}: {address} {error} (free it, or choose another)"]) from error

    def assemble(self, parts: Parts) -> PlatformOrigin:
        """Raises StartRefusedError."""
        given = Given(
            trust_domain=self._platform.trust_domain,
            addresses=self.addresses,
            identities=self._platform.identities,
            token_issuers=self._platform.token_issuers,
        )
        options = {**self._platform.options, "trust-domain": self._platform.trust_domain.name}
        surroundings = Surroundings(
            clock=parts.clock, log=parts.log.bind("platform"), metrics=parts.metrics.registry, options=options
        )
        try:
            platform = open_platform(self._platform.name, surroundings)
        except PlatformError as error:
            raise StartRefusedError([str(error)]) from error
        return PlatformOrigin(self._platform.name, platform, given, parts)


class PlatformOrigin:
    """``controlplane.origins.Origin``."""

    def __init__(self, name: str, platform: Platform, given: Given, parts: Parts) -> None:
        self._name = name
        self._platform = platform
        self._parts = parts
        parts.readiness.alone = lambda: not platform.replicated
        authority, clock = parts.authority, parts.clock
        self._force = Force(
            ledger=parts.ledger,
            ledger_file=parts.ledger_file,
            distributor=parts.distributor,
            readiness=parts.readiness,
            bundles=lambda: [authority.bundle()],
            metrics=parts.metrics,
            log=parts.log.bind("configuration"),
            clock=clock,
            keys=parts.keys,
            # Several control planes tell the same sidecars, each from a ledger of its own.
            isolation=Isolation(least=lambda: int(clock.now() * 1000)),
        )
        self._host = PlatformHost(
            given=given,
            judge=ReadingJudge(source=name),
            force=self._force,
            good_file=GoodFile(parts.settings.state / "documents.json"),
            distributor=parts.distributor,
            readiness=parts.readiness,
            bundle=authority.bundle,
            certify=self._certify,
            grant=self._grant,
            acknowledgement_seconds=parts.settings.acknowledgement_seconds,
            metrics=parts.metrics,
            log=parts.log.bind("documents"),
            clock=clock,
        )

    @property
    def held(self) -> Configuration | None:
        """The configuration in force."""
        return self._force.held

    @property
    def held_since(self) -> float:
        """When it was put in force."""
        return self._force.held_since

    @property
    def refused(self) -> RefusedChange | None:
        """Nothing is refused as a whole: each document's standing says what became of it."""
        return None

    @property
    def evidence(self) -> ca.EvidenceSources:
        """The platform's."""
        return ca.EvidenceSources(attestors=(self._platform.attestor,), entries=self._platform.entries)

    async def start(self) -> None:
        """Wait for the first reading and put it in force. Raises StartRefusedError."""
        await self._host.load()
        try:
            reading = await self._platform.first_reading()
        except PlatformError as error:
            raise StartRefusedError([f"--platform {self._name}: {error}"]) from error
        offered = await self._host.offer(reading)
        # A big cluster's mesh is a big heap that hardly changes: what looks for cycles need not walk it each time.
        gc.collect()
        gc.freeze()
        if not offered or not self._host.settled:
            raise StartRefusedError([f"--platform {self._name}: its first reading is not in force (the log has why)"])

    def tasks(self) -> Sequence[Task]:
        """The platform itself."""
        return [("platform", lambda: self._platform.run(self._host))]

    def routes(self) -> Sequence[web.RouteDef]:
        """What became of documents; changes are the platform's."""
        return PlatformRoutes(self._name, self._host).routes()

    def stir(self) -> None:
        """Standings may have changed."""
        self._host.stir()

    async def again(self) -> bool:
        """Put what is in force in force anew."""
        return await self._host.again()

    async def show_readiness(self) -> bool:
        """Tell callers which workloads can serve now."""
        return await self._force.show_readiness()

    async def close(self) -> None:
        """Leave the platform."""
        await self._platform.close()

    async def settle(self) -> None:
        """Record the revisions used."""
        await self._force.settle()

    async def _certify(self, dns_names: tuple[str, ...], lifetime_seconds: int) -> ServerCertificate:
        try:
            svid = await asyncio.to_thread(
                self._parts.authority.issue_server, dns_names, lifetime_seconds=lifetime_seconds
            )
        except ca.CaError as error:
            raise OSError(f"no certificate for {', '.join(dns_names)}: {error}") from error
        return ServerCertificate(
            chain_pem=svid.chain_pem(),
            key_pem=svid.private_key_pem(),
            not_before=svid.not_before,
            not_after=svid.not_after,
        )

    async def _grant(self, wish: CertificateWish) -> GrantedCertificate:
        try:
            svid = await asyncio.to_thread(
                self._parts.authority.certify,
                wish.spiffe_id,
                wish.public_key,
                least_seconds=wish.least_seconds,
                most_seconds=wish.most_seconds,
            )
        except ca.RequestInvalid as error:
            raise ValueError(str(error)) from error
        except ca.CaError as error:
            raise OSError(f"no certificate for {wish.spiffe_id}: {error}") from error
        return GrantedCertificate(chain_pem=svid.chain_pem(), not_before=svid.not_before, not_after=svid.not_after)
