"""What a platform is answered: readings in force or kept out, standings, and what is kept over a restart."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from controlplane.hosting.good_file import GoodFile, GoodFileDamagedError, bounded
from controlplane.hosting.host import Given, PlatformHost
from controlplane.hosting.judging import ReadingJudge
from controlplane.intake.force import Force, Isolation
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerFile
from controlplane.push.readiness import ReadinessBoard, Verdict
from controlplane.push.sessions import Session
from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.addresses import SocketAddress
from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.mesh import ControlPlaneAddresses, IdentityLifetimes, Mesh, TokenIssuerRules
from ringfence.platform import DocumentStanding, Reading, ServerCertificate, SidecarStanding, WrittenDocument
from ringfence.spiffe import TrustDomain
from tests.pki import TestCa
from tests.platform_mesh import DOMAIN, mesh_of, service_of

BUNDLE = TestCa(DOMAIN).bundle()
GIVEN = Given(
    trust_domain=TrustDomain(DOMAIN),
    addresses=ControlPlaneAddresses(join=SocketAddress("127.0.0.1", 1)),
    identities=IdentityLifetimes(lifetime_seconds=600),
    token_issuers=TokenIssuerRules(hosts=("idp.example",), ca_file="/nowhere/ca.pem"),
)
HOSTS = {"good": "idp.example", "evil": "evil.example"}


class Hosting:
    """A host without a process around it."""

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.log = io.StringIO()
        self.distributor = Distributor(clock=self.clock, limit=100, identity_limit=100)
        self.readiness = ReadinessBoard()
        metrics = ControlPlaneMetrics(lambda: {})
        log = Logger("documents", stream=self.log, clock=self.clock)
        ledger_file = LedgerFile(folder / "revisions.json")
        self.force = Force(
            ledger=ledger_file.load(),
            ledger_file=ledger_file,
            distributor=self.distributor,
            readiness=self.readiness,
            bundles=lambda: [BUNDLE],
            metrics=metrics,
            log=log,
            clock=self.clock,
            isolation=Isolation(least=lambda: int(self.clock.now() * 1000)),
        )

        async def certify(names: tuple[str, ...], seconds: int) -> ServerCertificate:
            return ServerCertificate(chain_pem=",".join(names).encode(), key_pem=b"", not_before=0, not_after=seconds)

        async def grant(wish: object) -> NoReturn:
            raise OSError("not in this test")

        self.good_file = GoodFile(folder / "documents.json")
        self.host = PlatformHost(
            given=GIVEN,
            judge=ReadingJudge(source="cluster"),
            force=self.force,
            good_file=self.good_file,
            distributor=self.distributor,
            readiness=self.readiness,
            bundle=lambda: BUNDLE,
            certify=certify,
            grant=grant,
            acknowledgement_seconds=10.0,
            metrics=metrics,
            log=log,
            clock=self.clock,
        )

    def standing(self, name: str) -> DocumentStanding:
        return self.host.standings()[name]

    def sidecar(self, name: str, *, version: str = "1", process: str = "p") -> Session:
        """One that has just come for the first instance of ``name``."""
        service = service_of(name)
        key = WorkloadKey(service.spiffe_id, service.instances[0].name)
        session = Session(
            workload=key,
            process=process,
            version=version,
            peer="",
            svid_not_after=0.0,
            svid_serial="",
            since=0.0,
        )
        self.distributor.subscribe(session)
        return session

    def acknowledge(self, session: Session) -> None:
        revision = self.distributor.catalog.snapshots[session.workload].revision
        session.sent(revision)
        assert session.answered(revision, accepted=True, enforced_revision=revision, error="")


@pytest.fixture
def hosting(tmp_path: Path) -> Hosting:
    return Hosting(tmp_path)


def mesh() -> Mesh:
    return mesh_of(service_of("shop/orders", 80, pods=2), service_of("shop/web"))


def document(name: str, spec: str, kind: str = "Allowlist", version: str = "1") -> WrittenDocument:
    head = f"apiVersion: ringfence.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n"
    return WrittenDocument(name=f"{kind}/shop/{name}", content=f"{head}spec: {spec}\n".encode(), version=version)


GOOD = "{service: orders, rules: [{name: r, from: [{service: web}]}]}"


async def test_what_the_command_line_says_holds_whatever_a_reading_says(hosting: Hosting) -> None:
    assert not hosting.host.settled
    assert await hosting.host.offer(Reading(mesh=mesh()))
    assert hosting.host.settled
    held = hosting.force.held
    assert held is not None
    assert held.document.mesh.control_plane == GIVEN.addresses
    assert held.document.mesh.identities == GIVEN.identities


async def test_a_reading_of_another_trust_domain_is_not_taken(hosting: Hosting) -> None:
    await hosting.host.offer(Reading(mesh=mesh()))
    before = hosting.distributor.catalog
    assert await hosting.host.offer(Reading(mesh=replace(mesh(), trust_domain=TrustDomain("other.example"))))
    assert hosting.distributor.catalog is before
    assert "another trust domain" in hosting.log.getvalue()


async def test_a_document_is_enforced_where_its_revision_was_acknowledged(hosting: Hosting) -> None:
    told: list[int] = []
    hosting.host.watch_standings(lambda: told.append(1))
    await hosting.host.offer(Reading(mesh=mesh(), documents=(document("a", GOOD),)))
    assert told
    standing = hosting.standing("Allowlist/shop/a")
    assert (standing.accepted, standing.workloads, standing.enforcing) == (True, 2, 0)
    assert all("its sidecar has not come yet" in one for one in standing.waiting)
    session = hosting.sidecar("shop/orders")
    assert any("was just told" in one for one in hosting.standing("Allowlist/shop/a").waiting)
    hosting.clock.advance(60)
    assert any("has not answered in time" in one for one in hosting.standing("Allowlist/shop/a").waiting)
    hosting.acknowledge(session)
    assert hosting.standing("Allowlist/shop/a").enforcing == 1


async def test_endpoints_that_come_and_go_leave_documents_enforced(hosting: Hosting) -> None:
    documents = (document("a", GOOD),)
    await hosting.host.offer(Reading(mesh=mesh(), documents=documents))
    session = hosting.sidecar("shop/orders")
    hosting.acknowledge(session)
    first = hosting.distributor.catalog.snapshots[session.workload].revision
    hosting.clock.advance(1)
    more = mesh_of(*mesh().services, service_of("shop/new", 80))
    await hosting.host.offer(Reading(mesh=more, documents=documents))
    assert hosting.distributor.catalog.snapshots[session.workload].revision > first
    assert hosting.standing("Allowlist/shop/a").enforcing == 1
    changed = document("b", GOOD)
    hosting.clock.advance(1)
    await hosting.host.offer(Reading(mesh=more, documents=(*documents, changed)))
    assert hosting.standing("Allowlist/shop/b").enforcing == 0
    hosting.acknowledge(session)
    assert hosting.standing("Allowlist/shop/b").enforcing == 1


async def test_what_a_sidecar_refused_is_told_with_its_reason(hosting: Hosting) -> None:
    await hosting.host.offer(Reading(mesh=mesh(), documents=(document("a", GOOD),)))
    session = hosting.sidecar("shop/orders")
    revision = session.offered_revision
    session.sent(revision)
    session.answered(revision, accepted=False, enforced_revision=0, error="too new")
    assert any("refused it: too new" in one for one in hosting.standing("Allowlist/shop/a").waiting)
    session.connected = False
    assert any("is not connected" in one for one in hosting.standing("Allowlist/shop/a").waiting)


async def test_what_stood_stands_in_over_a_restart(tmp_path: Path) -> None:
    first = Hosting(tmp_path)
    await first.host.load()
    await first.host.offer(Reading(mesh=mesh(), documents=(document("d", GOOD, "Denylist", "1"),)))
    again = Hosting(tmp_path, first.clock)
    await again.host.load()
    wrong = document("d", "{service: orders}", "Denylist", "2")
    await again.host.offer(Reading(mesh=mesh(), documents=(wrong,)))
    standing = again.standing("Denylist/shop/d")
    assert (standing.accepted, standing.stands_in) == (False, "1")
    assert standing.problems
    # A third life, though in the second it never was good.
    third = Hosting(tmp_path, first.clock)
    await third.host.load()
    await third.host.offer(Reading(mesh=mesh(), documents=(wrong,)))
    assert third.standing("Denylist/shop/d").stands_in == "1"


@pytest.mark.parametrize("content", [b"nonsense", b"[]", b'{"version": 9}', b'{"version": 1, "documents": [1]}'])
async def test_a_damaged_record_costs_what_it_holds_and_no_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "documents.json").write_bytes(content)
    with pytest.raises(GoodFileDamagedError):
        GoodFile(tmp_path / "documents.json").load()
    hosting = Hosting(tmp_path)
    await hosting.host.load()
    assert "earlier versions of documents are lost" in hosting.log.getvalue()
    assert await hosting.host.offer(Reading(mesh=mesh(), documents=(document("a", GOOD),)))


def test_what_is_kept_is_bounded_and_denylists_go_last() -> None:
    kept = bounded([document("a", GOOD), document("d", GOOD, "Denylist")], len(document("d", GOOD, "Denylist").content))
    assert list(kept) == ["Denylist/shop/d"]


async def test_a_question_changes_nothing(hosting: Hosting) -> None:
    assert await hosting.host.check([document("a", "{service: orders}")])
    await hosting.host.offer(Reading(mesh=mesh(), documents=(document("a", GOOD),)))
    before = hosting.distributor.catalog
    (problem,) = await hosting.host.check([document("b", "{service: ordres, rules: [{name: r, from: [web]}]}")])
    assert not problem.is_error and "did you mean orders" in problem.mend
    assert await hosting.host.check([document("a", "{service: orders}")])
    assert await hosting.host.check([document("a", GOOD)]) == []
    assert hosting.distributor.catalog is before
    assert list(hosting.host.standings()) == ["Allowlist/shop/a"]


async def test_a_workload_that_cannot_be_told_is_closed_and_holds_up_no_other(hosting: Hosting) -> None:
    huge = service_of("shop/orders", 80, pods=2, labels=tuple((f"l{number}", "x") for number in range(300)))
    await hosting.host.offer(Reading(mesh=mesh_of(huge, service_of("shop/web")), documents=(document("a", GOOD),)))
    told = {key.instance: one for key, one in hosting.distributor.catalog.snapshots.items()}
    assert (told["orders-0"].allowlists, told["orders-0"].workload.ports) == ((), ())
    assert told["web-0"].upstreams
    assert "workloads closed" in hosting.log.getvalue()
    unready = WorkloadKey(huge.spiffe_id, "orders-1")
    hosting.readiness.opened(unready, "p", hosting.clock.monotonic())
    hosting.readiness.reported(unready, "p", Verdict(ready=False), hosting.clock.monotonic())
    before = hosting.distributor.catalog.revision
    assert await hosting.force.show_readiness()
    assert hosting.distributor.catalog.revision > before
    now = {key.instance: one for key, one in hosting.distributor.catalog.snapshots.items()}
    assert now["orders-0"] == told["orders-0"]


async def test_revisions_go_by_the_time(tmp_path: Path) -> None:
    clock = FakeClock()
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    one, other = Hosting(tmp_path / "one", clock), Hosting(tmp_path / "other", clock)
    revisions = []
    for number, hosting in enumerate((one, other, one)):
        clock.advance(1)
        await hosting.host.offer(Reading(mesh=mesh(), documents=(document(f"a{number}", GOOD),)))
        revisions.append(hosting.distributor.catalog.revision)
    assert revisions == sorted(set(revisions))


async def test_readings_offered_at_once_are_taken_one_after_another(hosting: Hosting) -> None:
    readings = [Reading(mesh=mesh(), documents=(document(f"a{number}", GOOD),)) for number in range(4)]
    assert all(await asyncio.gather(*(hosting.host.offer(one) for one in readings)))
    assert list(hosting.host.standings()) == ["Allowlist/shop/a3"]


async def test_keys_of_token_issuers_come_from_where_the_command_line_lets_them(hosting: Hosting) -> None:
    spec = "{service: orders, issuer: x, audiences: [a], jwks: {url: 'https://HOST/keys'}}"
    documents = [document(name, spec.replace("HOST", host), "TokenIssuer") for name, host in HOSTS.items()]
    said = TokenIssuerRules(hosts=("*.everything.example", "evil.example"), ca_file="/nowhere")
    await hosting.host.offer(Reading(mesh=replace(mesh(), token_issuers=said), documents=tuple(documents)))
    assert [hosting.standing(one.name).accepted for one in documents] == [True, False]
    assert "--token-issuer-host" in hosting.standing("TokenIssuer/shop/evil").problems[0].mend


async def test_of_each_workload_it_is_told_how_the_sidecar_beside_it_stands(hosting: Hosting) -> None:
    assert hosting.host.sidecars() == {}
    await hosting.host.offer(Reading(mesh=mesh()))
    web = service_of("shop/web")
    key = (web.spiffe_id, web.instances[0].name)
    assert len(hosting.host.sidecars()) == 3
    assert hosting.host.sidecars()[key] == SidecarStanding(connected=False)
    session = hosting.sidecar("shop/web")
    assert hosting.host.sidecars()[key] == SidecarStanding(connected=True)
    hosting.clock.advance(11.0)
    assert hosting.host.sidecars()[key] == SidecarStanding(connected=True, overdue=True)
    revision = hosting.distributor.catalog.snapshots[session.workload].revision
    session.sent(revision)
    assert session.answered(revision, accepted=False, enforced_revision=0, error="unknown field 17")
    assert hosting.host.sidecars()[key] == SidecarStanding(connected=True, refused="unknown field 17")
    hosting.acknowledge(hosting.sidecar("shop/web", process="its-successor"))
    assert hosting.host.sidecars()[key] == SidecarStanding(connected=True), "while one replaces another, one is enough"
    hosting.readiness.opened(session.workload, "p", hosting.clock.monotonic())
    verdict = Verdict(ready=False, reason="port 80 refuses connections")
    hosting.readiness.reported(session.workload, "p", verdict, hosting.clock.monotonic())
    assert hosting.host.sidecars()[key].unready == "port 80 refuses connections"
