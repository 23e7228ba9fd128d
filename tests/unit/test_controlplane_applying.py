"""Changes of the files: put in force whole, or refused whole."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from controlplane.intake.applying import Applier
from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import Sources
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerFile
from controlplane.push.readiness import READY, ReadinessBoard, Verdict
from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.clock import FakeClock, SystemClock
from ringfence.kit.log import Logger
from ringfence.kit.watch import ContentReader
from ringfence.policy.problems import Problem
from ringfence.spiffe import SpiffeId
from ringfence.wire import policies
from tests.mesh_files import MeshFolder, allowlist_text, mesh_text
from tests.pki import TestCa

BUNDLE = TestCa("shop.example").bundle()


class Intake:
    """Sources, judge and applier over a folder, with what they log and count."""

    def __init__(self, files: MeshFolder, state: Path) -> None:
        self.files = files
        self.state = state
        self.log = io.StringIO()
        self.clock = FakeClock()
        self.metrics = ControlPlaneMetrics(dict)
        self.distributor = Distributor(clock=self.clock, limit=10, identity_limit=10)
        self.readiness = ReadinessBoard()
        reader = ContentReader(clock=SystemClock(), limit_bytes=1 << 20)
        self.sources = Sources(self.files.mesh_file, reader, policy_folder_named)
        ledger_file = LedgerFile(state / "revisions.json")
        self.applier = Applier(
            judge=Judge(),
            ledger=ledger_file.load(),
            ledger_file=ledger_file,
            distributor=self.distributor,
            readiness=self.readiness,
            bundles=lambda: [BUNDLE],
            metrics=self.metrics,
            log=Logger("configuration", stream=self.log, clock=self.clock),
            clock=self.clock,
        )

    def restarted(self) -> Intake:
        """What begins with the files that this one left."""
        return Intake(self.files, self.state)

    async def look(self) -> bool:
        return await self.applier.apply(self.sources.read())

    def refused(self) -> list[str]:
        refused = self.applier.refused
        return [] if refused is None else [self._short(problem) for problem in refused.problems]

    def _short(self, problem: Problem) -> str:
        return str(problem).replace(f"{self.files.mesh_file.parent}/", "")

    def logged(self, message: str) -> int:
        return sum(json.loads(line)["msg"].startswith(message) for line in self.log.getvalue().splitlines())

    def rules(self, service: str) -> list[str]:
        for workload, snapshot in self.distributor.catalog.snapshots.items():
            if workload.spiffe_id.service_account == service:
                return [rule.name for allowlist in snapshot.allowlists for rule in allowlist.rules]
        raise AssertionError(service)


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    (tmp_path / "state").mkdir()
    return Intake(MeshFolder(tmp_path), tmp_path / "state")


async def test_policy_change_is_put_in_force(intake: Intake) -> None:
    assert await intake.look()
    assert (intake.distributor.catalog.revision, intake.rules("orders")) == (1, [])
    intake.files.allow("orders", "web")
    assert await intake.look()
    assert (intake.distributor.catalog.revision, intake.rules("orders")) == (2, ["from-web"])
    (intake.files.policies / "orders.yaml").unlink()
    assert await intake.look()
    assert (intake.distributor.catalog.revision, intake.rules("orders")) == (3, [])


async def test_a_route_stands_beside_the_allowlists_and_is_put_in_force_like_them(intake: Intake) -> None:
    intake.files.allow("orders", "web")
    await intake.look()
    file = intake.files.policies / "orders-route.yaml"
    text = (
        "apiVersion: ringfence.io/v1alpha1\nkind: Route\nmetadata: {name: orders, namespace: shop}\n"
        "spec: {service: orders, timeouts: {connect: 1s}}\n"
    )
    file.write_text(text)
    assert await intake.look()
    assert intake.refused() == []
    routes = {
        upstream.service: upstream.route.name if upstream.route is not None else None
        for snapshot in intake.distributor.catalog.snapshots.values()
        for upstream in snapshot.upstreams
    }
    assert routes["orders"] == "shop/orders"
    revision = intake.distributor.catalog.revision
    file.write_text(text.replace("service: orders", "service: ordres"))
    assert await intake.look()
    assert intake.refused() == [
        "policies/orders-route.yaml:4:17: namespace shop has no service 'ordres' (did you mean orders?)"
    ]
    assert (intake.distributor.catalog.revision, intake.rules("orders")) == (revision, ["from-web"])


async def test_unauthenticated_callers_need_a_permissive_port(intake: Intake) -> None:
    file = intake.files.allow("orders", "web")
    mesh = intake.files.mesh_file.read_text()
    await intake.look()
    file.write_text(
        file.read_text().replace(
            "- name: from-web\n", "- name: health\n      from: [{unauthenticated: true}]\n    - name: from-web\n"
        )
    )
    assert await intake.look()
    assert intake.refused() == [
        "policies/orders.yaml:8:14: rule health permits unauthenticated callers, but no port of shop/orders is "
        "permissive (give a port mode: permissive in the mesh file, or remove the caller)"
    ]
    assert intake.rules("orders") == ["from-web"]
    intake.files.write_mesh(mesh.replace("protocol: http,", "protocol: http, mode: permissive,"))
    assert await intake.look()
    assert (intake.refused(), intake.rules("orders")) == ([], ["health", "from-web"])


async def test_bad_policy_is_refused_with_its_place_and_the_old_one_stays(intake: Intake) -> None:
    file = intake.files.allow("orders", "web")
    await intake.look()
    good = file.read_text()
    file.write_text(good.replace("methods: [GET]", "methods: [GTE]"))
    assert await intake.look()
    assert intake.refused() == ["policies/orders.yaml:9:22: method 'GTE' is not known (did you mean GET?)"]
    assert (intake.distributor.catalog.revision, intake.rules("orders")) == (1, ["from-web"])
    assert intake.metrics.registry.get_sample_value("ringfence_controlplane_change_refused") == 1
    file.write_text(good)
    assert await intake.look()
    assert intake.refused() == []
    assert intake.metrics.registry.get_sample_value("ringfence_controlplane_change_refused") == 0
    assert intake.distributor.catalog.revision == 1


async def test_problems_of_all_files_are_told_at_once(intake: Intake) -> None:
    await intake.look()
    intake.files.write_mesh(mesh_text().replace("protocol: http", "protocol: htp"))
    (intake.files.policies / "a.yaml").write_text(allowlist_text("nobody", ["web"]))
    (intake.files.policies / "b.yaml").write_text("kind: [")
    await intake.look()
    places = [problem.split(": ")[0] for problem in intake.refused()]
    assert places == ["mesh.yaml:11:34", "mesh.yaml:18:34", "policies/b.yaml:2:1"]


async def test_allowlist_for_a_service_that_the_mesh_loses_is_a_problem_of_the_change(intake: Intake) -> None:
    intake.files.allow("orders", "web")
    await intake.look()
    intake.files.write_mesh(mesh_text("web"))
    await intake.look()
    assert [problem.split(" (")[0] for problem in intake.refused()] == [
        "policies/orders.yaml:5:12: namespace shop has no service 'orders'"
    ]
    assert len(intake.distributor.catalog.snapshots) == 2


async def test_same_refusal_is_logged_once(intake: Intake) -> None:
    await intake.look()
    intake.files.write_mesh("nonsense")
    for _ in range(5):
        await intake.look()
    assert intake.logged("change refused") == 1
    assert intake.metrics.registry.get_sample_value("ringfence_controlplane_changes_total", {"outcome": "refused"}) == 1


async def test_half_written_file_is_refused_and_then_taken_when_it_is_whole(intake: Intake) -> None:
    await intake.look()
    whole = allowlist_text("orders", ["web"])
    file = intake.files.policies / "orders.yaml"
    file.write_text(whole[: whole.index("sa/web")])
    await intake.look()
    assert (len(intake.refused()), intake.rules("orders")) == (1, [])
    file.write_text(whole)
    await intake.look()
    assert (intake.refused(), intake.rules("orders")) == ([], ["from-web"])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"trust_domain": "other.example"}, "mesh.yaml:5:16: trust domain cannot change from shop.example"),
        ({"extra": "controlPlane: {join: 127.0.0.1:8401}"}, "mesh.yaml:6:17: the control plane's addresses cannot"),
        ({"extra": "identities: {lifetime: 30m}"}, "mesh.yaml:6:15: the lifetimes of identities cannot change"),
    ],
)
async def test_what_cannot_change_while_it_runs_is_refused_with_a_mend(
    intake: Intake, change: dict[str, str], place: str
) -> None:
    await intake.look()
    intake.files.write_mesh(mesh_text(**change))  # type: ignore[arg-type]
    assert await intake.look()
    assert len(intake.refused()) == 1
    assert intake.refused()[0].startswith(place)
    assert intake.refused()[0].endswith(")")


async def test_policy_folder_may_move_while_it_runs(intake: Intake) -> None:
    intake.files.allow("orders", "web")
    await intake.look()
    intake.files.write_mesh(mesh_text(extra="policies: rules"))
    await intake.look()
    assert intake.refused() == [
        "mesh.yaml:6:13: policy folder rules cannot be read: No such file or directory (make it, or name another)"
    ]
    intake.files.policies.rename(intake.files.mesh_file.parent / "rules")
    await intake.look()
    assert (intake.refused(), intake.rules("orders")) == ([], ["from-web"])


async def test_revision_that_cannot_be_recorded_is_not_published_and_tried_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    await intake.look()
    intake.files.allow("orders", "web")
    with monkeypatch.context() as disk:
        disk.setattr("ringfence.kit.private_file.os.fsync", full)
        assert not await intake.look()
        assert not await intake.look()
    assert intake.rules("orders") == []
    assert "cannot be recorded" in intake.refused()[0]
    assert intake.logged("change refused") == 1
    assert await intake.look()
    assert (intake.refused(), intake.rules("orders")) == ([], ["from-web"])


async def test_change_that_its_sidecar_would_refuse_is_refused_here(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    await intake.look()
    monkeypatch.setattr(policies, "RULE_LIMIT", 2)
    intake.files.allow("orders", "web", "batch")
    await intake.look()
    assert (intake.refused(), intake.rules("orders")) == ([], ["from-web", "from-batch"])
    intake.files.allow("orders", "web", "batch", "more")
    assert await intake.look()
    assert len(intake.refused()) == 1
    assert intake.refused()[0].startswith(
        "mesh.yaml:1:1: what shop/orders must be told would be refused by its sidecar: allowlists[0].rules: 3 are more"
    )
    assert intake.rules("orders") == ["from-web", "from-batch"]


async def test_unreadable_mesh_file_is_refused(intake: Intake) -> None:
    await intake.look()
    intake.files.mesh_file.unlink()
    await intake.look()
    assert intake.refused() == [
        "mesh.yaml:1:1: cannot be read: No such file or directory (give the mesh file by --mesh)"
    ]


async def test_judge_that_fails_refuses_the_change(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    await intake.look()

    def fail(*_: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr(Judge, "judge", fail)
    assert await intake.look()
    assert intake.refused() == ["mesh.yaml:1:1: the change cannot be judged: RecursionError('deep')"]


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        (b"spec: {policies: rules}", "rules"),
        (b"spec: {services: []}", "policies"),
        (b"spec: {policies: [a]}", None),
        (b"spec: []", None),
        (b"[]", None),
        (b"spec: [", None),
        (b"", None),
    ],
)
def test_folder_is_found_in_a_mesh_file_that_is_otherwise_broken(source: bytes, folder: str | None) -> None:
    assert policy_folder_named(source) == folder


# --------------------------------------------------------------------------------------------------------- readiness


def workload(name: str) -> WorkloadKey:
    return WorkloadKey(SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}"))


def say(intake: Intake, verdict: Verdict) -> None:
    """What the sidecar of orders says, long after it last said something."""
    intake.clock.advance(3600.0)
    intake.readiness.opened(workload("orders"), "p", intake.clock.monotonic())
    intake.readiness.reported(workload("orders"), "p", verdict, intake.clock.monotonic())


def told(intake: Intake) -> bool:
    """Whether web is told that orders is ready."""
    [upstream] = intake.distributor.catalog.snapshots[workload("web")].upstreams
    return upstream.endpoints[0].ready


DRAINING = Verdict(ready=False, reason="draining")


async def test_callers_are_told_who_is_not_ready_at_a_revision_of_their_own(intake: Intake) -> None:
    await intake.look()
    say(intake, DRAINING)
    assert await intake.applier.show_readiness()
    snapshots = intake.distributor.catalog.snapshots
    assert (told(intake), snapshots[workload("web")].revision, snapshots[workload("orders")].revision) == (False, 2, 1)
    say(intake, READY)
    assert await intake.applier.show_readiness()
    assert (told(intake), intake.distributor.catalog.revision) == (True, 3)
    assert await intake.applier.show_readiness()
    assert intake.distributor.catalog.revision == 3


async def test_changes_of_readiness_write_to_disk_once_and_not_each_time(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    await intake.look()
    flushes: list[int] = []
    monkeypatch.setattr("ringfence.kit.private_file.os.fsync", flushes.append)
    for number in range(100):
        say(intake, READY if number % 2 else DRAINING)
        assert await intake.applier.show_readiness()
    assert intake.distributor.catalog.revision == 101
    assert len(flushes) <= 2  # a file and its folder


async def test_readiness_whose_revision_cannot_be_recorded_is_not_told_and_tried_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    await intake.look()
    say(intake, DRAINING)
    with monkeypatch.context() as disk:
        disk.setattr("ringfence.kit.private_file.os.fsync", full)
        assert not await intake.applier.show_readiness()
    assert (told(intake), intake.distributor.catalog.revision) == (True, 1)
    assert await intake.applier.show_readiness()
    assert not told(intake)


async def test_a_change_of_the_files_keeps_what_is_known_of_readiness(intake: Intake) -> None:
    await intake.look()
    say(intake, DRAINING)
    await intake.applier.show_readiness()
    intake.files.allow("orders", "web")
    await intake.look()
    assert (told(intake), intake.rules("orders")) == (False, ["from-web"])


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
async def test_after_a_restart_no_revision_stands_for_two_contents(intake: Intake, clean: bool) -> None:
    await intake.look()
    for verdict in (DRAINING, READY, DRAINING):
        say(intake, verdict)
        await intake.applier.show_readiness()
    used = intake.distributor.catalog.revision
    if clean:
        await intake.applier.settle()
    again = intake.restarted()
    await again.look()
    assert told(again)
    assert again.distributor.catalog.snapshots[workload("web")].revision > used
    assert again.distributor.catalog.snapshots[workload("orders")].revision == 1
