"""Who is ready: what sidecars said, who is gone, and whose snapshot it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.mesh.document import read_mesh
from controlplane.push.readiness import LOST_SECONDS, READY, Callers, ReadinessBoard, Verdict
from controlplane.push.snapshots import build_snapshots
from controlplane.push.workload_key import WorkloadKey
from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId
from tests.pki import TestCa

ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
A, B = WorkloadKey(ORDERS, "a"), WorkloadKey(ORDERS, "b")
WEB, AUDIT = (WorkloadKey(SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}")) for name in ("web", "audit"))
DRAINING = Verdict(ready=False, reason="draining")


class Board(ReadinessBoard):
    """A board with A and B on it that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        super().__init__(changed=self._count)
        self.keep([A, B])

    def _count(self) -> None:
        self.calls += 1


@pytest.fixture
def board() -> Board:
    return Board()


def test_after_a_restart_everything_is_ready_until_it_is_known_better(board: Board) -> None:
    assert board.not_ready([A, B], 1e9) == {}
    assert board.next_change(0.0) is None


def test_what_a_sidecar_says_counts_until_it_says_something_else(board: Board) -> None:
    board.opened(A, "p", 0.0)
    board.reported(A, "p", DRAINING, 0.0)
    assert board.not_ready([A, B], 1.0) == {A: DRAINING}
    board.reported(A, "p", READY, 0.0)
    assert board.not_ready([A, B], 1.0) == {}
    assert board.calls == 2


def test_one_that_stops_again_and_again_is_told_to_be_ready_later_each_time(board: Board) -> None:
    board.opened(A, "p", 0.0)
    now, waits = 0.0, []
    for _ in range(8):
        board.reported(A, "p", DRAINING, now)
        assert not board.verdict(A, now).ready  # that is told at once
        board.reported(A, "p", READY, now)
        wait = board.next_change(now) or 0.0
        waits.append(wait)
        if wait:
            assert board.verdict(A, now + wait - 0.1).reason == "not steady: draining"
        now += wait
        assert board.verdict(A, now).ready
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    board.reported(A, "p", DRAINING, now + 3600.0)
    board.reported(A, "p", READY, now + 3600.0)
    assert board.verdict(A, now + 3600.0).ready


def test_a_stream_that_is_lost_for_a_moment_changes_nothing(board: Board) -> None:
    board.opened(A, "p", 0.0)
    board.reported(A, "p", DRAINING, 0.0)
    board.opened(B, "q", 0.0)
    board.reported(B, "q", READY, 0.0)
    for workload, process in ((A, "p"), (B, "q")):
        board.closed(workload, process, 5.0)
        board.opened(workload, process, 5.0 + LOST_SECONDS - 0.1)
    assert board.not_ready([A, B], 1e9) == {A: DRAINING}


def test_a_workload_whose_stream_stays_away_is_not_ready_until_its_sidecar_serves_again(board: Board) -> None:
    board.opened(A, "p", 0.0)
    board.reported(A, "p", READY, 0.0)
    board.closed(A, "p", 5.0)
    assert board.next_change(6.0) == LOST_SECONDS - 1.0
    assert board.verdict(A, 5.0 + LOST_SECONDS - 0.1).ready
    assert board.verdict(A, 5.0 + LOST_SECONDS).reason == "its sidecar is gone"
    assert board.next_change(5.0 + LOST_SECONDS) is None
    board.opened(A, "p2", 60.0)
    assert board.verdict(A, 60.0).reason == "its sidecar is starting"
    board.reported(A, "p2", READY, 0.0)
    assert board.verdict(A, 60.0).ready


def test_a_workload_that_is_added_is_not_ready_until_its_sidecar_has_come(board: Board) -> None:
    assert not board.verdict(WEB, 0.0).ready
    board.keep([A, WEB])
    assert board.verdict(WEB, 1e9).reason == "its sidecar has not come yet"
    board.opened(WEB, "p", 1.0)
    assert not board.verdict(WEB, 1.0).ready
    board.reported(WEB, "p", READY, 0.0)
    assert board.verdict(WEB, 1.0).ready


def test_one_that_leaves_and_returns_is_a_new_one(board: Board) -> None:
    board.opened(A, "p", 0.0)
    board.reported(A, "p", READY, 0.0)
    board.keep([B])
    board.reported(A, "p", DRAINING, 0.0)  # its stream has not ended yet
    board.closed(A, "p", 1.0)
    board.keep([A, B])
    assert board.verdict(A, 1.0).reason == "its sidecar has not come yet"


def test_while_one_process_replaces_another_the_one_that_serves_is_enough(board: Board) -> None:
    board.opened(A, "old", 0.0)
    board.reported(A, "old", READY, 0.0)
    board.reported(A, "old", DRAINING, 0.0)
    board.opened(A, "new", 1.0)
    assert not board.verdict(A, 1.0).ready
    board.reported(A, "new", READY, 0.0)
    assert board.verdict(A, 1.0).ready
    board.closed(A, "old", 2.0)
    assert board.verdict(A, 1e9).ready


def test_where_other_replicas_live_who_is_not_connected_here_may_be_there(board: Board) -> None:
    board.alone = lambda: False
    added = WorkloadKey(ORDERS, "added")
    board.keep([A, B, added])
    assert board.not_ready([A, B, added], 0.0) == {}
    board.opened(A, "p", 0.0)
    board.reported(A, "p", DRAINING, 0.0)
    assert board.not_ready([A, added], 1.0) == {A: DRAINING}
    board.closed(A, "p", 2.0)
    assert board.not_ready([A, added], 2.0 + 2 * LOST_SECONDS) == {}
    board.alone = lambda: True
    assert set(board.not_ready([A, added], 2.0 + 2 * LOST_SECONDS)) == {A, added}


def test_a_report_of_a_stream_that_is_not_open_counts_for_nothing(board: Board) -> None:
    board.reported(A, "p", DRAINING, 0.0)
    assert board.verdict(A, 0.0).ready


def test_a_port_whose_app_refuses_says_nothing_of_the_others() -> None:
    verdict = Verdict(ready=False, refused_ports=frozenset({8080}))
    assert not verdict.serves(8080)
    assert verdict.serves(7000)
    assert not DRAINING.serves(7000)


MESH = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  services:
    - {name: audit, namespace: shop, mesh: 15001}
    - name: web
      namespace: shop
      mesh: 15002
      upstreams:
        - {service: orders, port: 8080, listen: 9101}
        - {service: orders, port: 7000, listen: 9102}
    - name: orders
      namespace: shop
      ports: [{port: 8080, protocol: http}, {port: 7000, protocol: tcp}]
      instances:
        - {name: a, mesh: 15003, apps: {8080: 9003, 7000: 9004}}
        - {name: b, mesh: 15005, apps: {8080: 9005, 7000: 9006}}
"""


@pytest.fixture(scope="module")
def callers() -> Callers:
    document, problems = read_mesh(MESH, "mesh.yaml")
    assert document is not None, problems
    return Callers.index(build_snapshots(document.mesh, {}, [TestCa("shop.example").bundle()], 1))


def readiness(snapshot: Snapshot) -> dict[tuple[int, int], bool]:
    return {(up.port, end.mesh_port): end.ready for up in snapshot.upstreams for end in up.endpoints}


def test_a_change_concerns_the_callers_of_that_workload_alone(callers: Callers) -> None:
    assert callers.concerned({}, {A: DRAINING}) == {WEB}
    assert callers.concerned({A: DRAINING}, {A: DRAINING, AUDIT: DRAINING}) == set()
    assert callers.concerned({A: DRAINING}, {}) == {WEB}


def test_another_reason_is_no_change(callers: Callers) -> None:
    assert callers.concerned({A: DRAINING}, {A: Verdict(ready=False, reason="its sidecar is gone")}) == set()


def test_callers_are_told_which_endpoint_is_not_ready_and_on_which_ports(callers: Callers) -> None:
    told = callers.told([WEB], {A: DRAINING, B: Verdict(ready=False, refused_ports=frozenset({7000}))})[WEB]
    assert readiness(told) == {(8080, 15003): False, (7000, 15003): False, (8080, 15005): True, (7000, 15005): False}
    assert readiness(callers.told([WEB], {})[WEB]) == dict.fromkeys(readiness(told), True)
    assert callers.told([AUDIT], {A: DRAINING})[AUDIT] is callers.contents[AUDIT]


def test_who_is_not_ready_by_the_platform_stays_so_whatever_its_sidecar_says() -> None:
    document, problems = read_mesh(MESH, "mesh.yaml")
    assert document is not None, problems
    services = [
        replace(one, instances=tuple(replace(held, ready=held.name != "a") for held in one.instances))
        for one in document.mesh.services
    ]
    mesh = replace(document.mesh, services=tuple(services))
    callers = Callers.index(build_snapshots(mesh, {}, [TestCa("shop.example").bundle()], 1))
    down = {(8080, 15003): False, (7000, 15003): False}
    assert readiness(callers.told([WEB], {})[WEB]) == down | {(8080, 15005): True, (7000, 15005): True}
    assert readiness(callers.told([WEB], {B: DRAINING})[WEB]) == down | {(8080, 15005): False, (7000, 15005): False}
