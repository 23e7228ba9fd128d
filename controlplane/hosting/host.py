"""The control plane as its platform sees it: readings go in, standings come out. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from controlplane.hosting.good_file import GoodFile, GoodFileDamagedError
from controlplane.hosting.judging import Judged, ReadingJudge
from controlplane.hosting.parsing import parse
from controlplane.hosting.standings import Enforcement, PolicySince, sidecar_standing, standings_of, tally
from controlplane.intake.force import Force
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.readiness import ReadinessBoard
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.mesh import ControlPlaneAddresses, IdentityLifetimes, TokenIssuerRules
from ringfence.platform import (
    CertificateWish,
    DocumentStanding,
    GrantedCertificate,
    Notice,
    Reading,
    ServerCertificate,
    SidecarStanding,
    WrittenDocument,
)
from ringfence.policy.problems import Problem
from ringfence.spiffe import SpiffeId, TrustBundle, TrustDomain

_LOGGED_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line decides and no reading: whatever a reading says of it, this holds."""

    trust_domain: TrustDomain
    addresses: ControlPlaneAddresses
    identities: IdentityLifetimes
    token_issuers: TokenIssuerRules = field(default_factory=TokenIssuerRules)


class PlatformHost:
    """``ringfence.platform.Host``."""

    def __init__(
        self,
        *,
        given: Given,
        judge: ReadingJudge,
        force: Force,
        good_file: GoodFile,
        distributor: Distributor,
        readiness: ReadinessBoard,
        bundle: Callable[[], TrustBundle],
        certify: Callable[[tuple[str, ...], int], Awaitable[ServerCertificate]],
        grant: Callable[[CertificateWish], Awaitable[GrantedCertificate]],
        acknowledgement_seconds: float,
        metrics: ControlPlaneMetrics,
        log: Logger,
        clock: Clock,
    ) -> None:
        """``certify`` issues a server's certificate for DNS names and a lifetime in seconds, raising OSError; ``grant``
        a workload's, raising ValueError as well."""
        self._given = given
        self._judge = judge
        self._force = force
        self._good_file = good_file
        self._good: Mapping[str, WrittenDocument] = {}
        self._distributor = distributor
        self._readiness = readiness
        self._bundle = bundle
        self._certify = certify
        self._grant = grant
        self._acknowledgement_seconds = acknowledgement_seconds
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._judged: Judged | None = None
        self._reading: Reading | None = None
        self._since = PolicySince()
        self._watchers: list[Callable[[], None]] = []
        self._one_at_a_time = asyncio.Lock()

    async def load(self) -> None:
        """What stood in an earlier life; whatever is wrong with it is told, and costs only that."""
        try:
            self._good = await asyncio.to_thread(self._good_file.load)
        except (GoodFileDamagedError, OSError) as error:
            self._log.error("earlier versions of documents are lost", file=str(self._good_file.path), error=str(error))

    # ----------------------------------------------------------------------------------------------- for the platform

    @property
    def trust_bundle(self) -> TrustBundle:
        """By which workloads know this mesh now."""
        return self._bundle()

    @property
    def settled(self) -> bool:
        """Whether a reading is in force."""
        return self._judged is not None

    @property
    def reading(self) -> Reading | None:
        """The one in force."""
        return self._reading

    def in_force(self) -> Reading | None:
        """The mesh, and of each document the version that is in force; where none is, the one that is wrong, as a
        denylist that is has its consequences."""
        judged = self._judged
        if judged is None or self._reading is None:
            return None
        found = ((judged.in_force(name) or one).written for name, one in sorted(judged.written.items()))
        return replace(self._reading, documents=tuple(found))

    async def offer(self, reading: Reading) -> bool:
        """Judge a reading and put it in force; False to be offered it again later."""
        if reading.mesh.trust_domain != self._given.trust_domain:
            self._log.error(
                "reading refused: it is of another trust domain",
                trust_domain=reading.mesh.trust_domain.name,
                own=self._given.trust_domain.name,
            )
            return True
        reading = replace(
            reading,
            mesh=replace(
                reading.mesh,
                control_plane=self._given.addresses,
                identities=self._given.identities,
                token_issuers=self._given.token_issuers,
            ),
        )
        async with self._one_at_a_time:
            try:
                judged = await asyncio.to_thread(
                    self._judge.judge, reading, self._judged, self._clock.now(), self._good
                )
            except Exception as error:  # a border: what cannot be judged leaves in force what is
                self._metrics.task_failures.labels("judge").inc()
                self._log.error("reading cannot be judged", error=repr(error))
                return False
            return await self._put_in_force(reading, judged)

    async def again(self) -> bool:
        """Put what is in force in force anew, with the keys that token issuers have now."""
        async with self._one_at_a_time:
            if self._judged is None or self._reading is None:
                return True
            return await self._put_in_force(self._reading, self._judged)

    async def _put_in_force(self, reading: Reading, judged: Judged) -> bool:
        async with self._force.lock:
            outcome = await self._force.put(judged.configuration)
        if not outcome.done:
            self._log.error("reading not in force", problems=[str(one) for one in outcome.problems][:_LOGGED_PROBLEMS])
            return not outcome.again
        before, self._judged, self._reading = self._judged, judged, reading
        self._since = await asyncio.to_thread(self._since.after, self._distributor.catalog)
        self._metrics.show_documents(tally(judged))
        await self._keep_good(before, judged)
        self.stir()
        return True

    async def _keep_good(self, before: Judged | None, judged: Judged) -> None:
        """Write down what stands now, if it is not what is written."""
        if before is not None and before.good.keys() == judged.good.keys():
            held = before.good
            if all(held[name].written.content == one.written.content for name, one in judged.good.items()):
                return
        good = {name: one.written for name, one in judged.good.items()}
        try:
            await asyncio.to_thread(self._good_file.save, good.values())
        except OSError as error:
            self._log.error("versions of documents not kept", file=str(self._good_file.path), error=str(error))

    async def check(self, documents: Sequence[WrittenDocument]) -> list[Problem]:
        """What would be wrong if ``documents`` were written now; before a reading is in force, by themselves alone."""
        if self._reading is None or self._judged is None:
            return [problem for one in documents for problem in parse(one).problems]
        wanted = {one.name: one for one in documents}
        others = [one for one in self._reading.documents if one.name not in wanted]
        reading = replace(self._reading, documents=(*others, *wanted.values()))
        judged = await asyncio.to_thread(self._judge.judge, reading, self._judged, self._clock.now())
        return [problem for name in wanted for problem in judged.problems(name)]

    def standings(self) -> Mapping[str, DocumentStanding]:
        """By name, of every document of the last reading."""
        if self._judged is None:
            return {}
        enforcement = Enforcement.of(
            self._judged.configuration.document.mesh,
            self._since,
            self._distributor.sessions(),
            self._clock.monotonic(),
            self._acknowledgement_seconds,
        )
        return standings_of(self._judged, enforcement)

    def sidecars(self) -> Mapping[tuple[SpiffeId, str], SidecarStanding]:
        """By identity and instance, of every workload of the reading in force."""
        now = self._clock.monotonic()
        return {
            (key.spiffe_id, key.instance): sidecar_standing(
                sessions, self._readiness.verdict(key, now), now, self._acknowledgement_seconds
            )
            for key, sessions in self._distributor.sessions().items()
        }

    def notices(self) -> Sequence[Notice]:
        """What owners of services should know of what is in force."""
        return self._force.notices

    def watch_standings(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever a standing or a notice may be another."""
        self._watchers.append(changed)

    async def server_certificate(self, dns_names: Sequence[str], lifetime_seconds: int) -> ServerCertificate:
        """One of the mesh's authority. Raises OSError where it cannot be issued now."""
        return await self._certify(tuple(dns_names), lifetime_seconds)

    async def certify(self, wish: CertificateWish) -> GrantedCertificate:
        """An SVID for a workload that asked its platform for one. Raises ValueError, OSError."""
        return await self._grant(wish)

    # ------------------------------------------------------------------------------------------ for the control plane

    def stir(self) -> None:
        """A standing may be another: a sidecar came, left, or said what it enforces."""
        for changed in self._watchers:
            changed()
