"""Flows at the control plane: read from reports with suspicion, kept for a time, never more than so much."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
from pathlib import Path

import pytest

from controlplane.flows.keeping import FlowKeeper, open_keeper
from controlplane.flows.query import FlowQuery
from controlplane.flows.reading import LATE_SECONDS, flows_of
from controlplane.flows.store import DAY, HOUR, FlowLimits, FlowStore, FlowStoreError
from controlplane.metrics import ControlPlaneMetrics
from controlplane.operate.flows_api import query_of
from controlplane.policy.flows import flow_lines
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.spiffe import SpiffeId
from ringfence.wire.gen import control_pb2 as pb
from tests.waiting import until

NOW = 1_800_000_000.0 // DAY * DAY + 100
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")


def told(**changes: object) -> pb.Flow:
    known: dict[str, object] = {
        "caller": str(WEB),
        "port": 8080,
        "protocol": "http",
        "method": "GET",
        "path": "/orders/{id}",
        "verdict": "permit",
        "rule": "shop/orders-callers/web-reads",
        "count": 3,
        "missed": 1,
        "first_seen": NOW - 10,
        "last_seen": NOW - 1,
        **changes,
    }
    return pb.Flow(**known)  # type: ignore[arg-type]


def read(*flows: pb.Flow, unrecorded: int = 0) -> tuple[list[Flow], int]:
    return flows_of(pb.FlowReport(flows=flows, unrecorded=unrecorded), service="shop/orders", now=NOW)


def test_a_report_is_about_the_service_that_the_control_plane_says() -> None:
    flows, untold = read(told(), told(caller="", verdict="would_deny", reason="unauthenticated", rule=""))
    assert untold == 0
    assert [flow.service for flow in flows] == ["shop/orders"] * 2
    assert flows[0].caller == WEB
    assert flows[1].caller is None
    assert flows[1].verdict is Verdict.WOULD_DENY


@pytest.mark.parametrize(
    "changes",
    [
        {"caller": "spiffe://shop.example/ns/shop/sa/web\n"},
        {"caller": "spiffe://shop.example"},
        {"caller": "https://shop.example/x"},
        {"address": "10.0.0.7"},
        {"caller": "", "address": "10.0.0.07"},
        {"caller": "", "address": "fd00::0007"},
        {"caller": "", "address": "nowhere"},
        {"port": 0},
        {"port": 70000},
        {"protocol": "smtp"},
        {"protocol": "tcp"},
        {"method": "get"},
        {"method": ""},
        {"path": ""},
        {"path": "orders"},
        {"path": "/orders?token=secret"},
        {"path": "/a/../b"},
        {"path": "/a\n"},
        {"path": "/" + "a" * 600},
        {"verdict": "maybe"},
        {"reason": "caller_not_allowed"},
        {"verdict": "deny"},
        {"rule": ""},
        {"rule": "shop/orders-callers/web\x1b[31m"},
        {"shadow": "No!"},
        {"count": 0},
        {"count": 2**60},
        {"missed": 4},
    ],
)
def test_what_cannot_be_is_left_out_and_counted_and_ends_nothing(changes: dict[str, object]) -> None:
    flows, untold = read(told(**changes), told(), unrecorded=5)
    assert len(flows) == 1
    assert untold == min(5 + told(**changes).count, 2**53)


@pytest.mark.parametrize(("first", "last"), [(1.0, 2.0), (NOW + 1e6, NOW + 2e6), (float("nan"), float("nan"))])
def test_a_wrong_clock_makes_neither_old_nor_future_evidence(first: float, last: float) -> None:
    (flow,), _ = read(told(first_seen=first, last_seen=last))
    assert NOW - LATE_SECONDS <= flow.first_seen <= flow.last_seen <= NOW


def made(**changes: object) -> Flow:
    known: dict[str, object] = {
        "caller": WEB,
        "service": "shop/orders",
        "port": 8080,
        "protocol": "http",
        "method": "GET",
        "path": "/orders",
        "verdict": Verdict.PERMIT,
        "rule": "shop/orders-callers/web-reads",
        "count": 3,
        "missed": 1,
        "first_seen": NOW - 10,
        "last_seen": NOW,
        **changes,
    }
    return Flow(**known)  # type: ignore[arg-type]


def test_flows_that_are_alike_add_up_and_are_found_by_age_service_caller_and_verdict(tmp_path: Path) -> None:
    store = FlowStore(tmp_path / "flows.sqlite")
    denied = made(verdict=Verdict.DENY, reason="caller_not_allowed", caller=None, rule="")
    store.add("shop/orders", [made(), denied], 0, NOW)
    store.add("shop/orders", [made(first_seen=NOW - 20, last_seen=NOW + 5)], 7, NOW)
    store.add("shop/stock", [made(service="shop/stock", last_seen=NOW - 2 * HOUR, first_seen=NOW - 3 * HOUR)], 0, NOW)
    everything = store.ask(FlowQuery())
    assert len(everything.flows) == 3
    assert everything.unrecorded == {"shop/orders": 7}
    assert made(count=6, missed=2, first_seen=NOW - 20, last_seen=NOW + 5) in everything.flows
    assert {flow.service for flow in store.ask(FlowQuery(since=NOW - HOUR)).flows} == {"shop/orders"}
    assert store.ask(FlowQuery(service="shop/stock")).unrecorded == {}
    assert store.ask(FlowQuery(caller="")).flows == (denied,)
    assert store.ask(FlowQuery(verdict=Verdict.DENY)).flows == (denied,)
    assert store.ask(FlowQuery(limit=1)).truncated
    store.close()


def test_the_file_is_its_owners_alone_and_one_that_is_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flows.sqlite"
    store = FlowStore(path)
    store.add("shop/orders", [made()], 0, NOW)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
    store.close()
    path.chmod(0o644)
    with pytest.raises(FlowStoreError, match="open to others"):
        FlowStore(path)


def test_a_damaged_file_and_one_of_a_newer_release_are_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"no database" * 1000)
    (tmp_path / "damaged").chmod(0o600)
    with pytest.raises(FlowStoreError, match="remove it"):
        FlowStore(tmp_path / "damaged")
    store = FlowStore(tmp_path / "newer")
    with store._transaction() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 9")
    store.close()
    with pytest.raises(FlowStoreError, match="version 9"):
        FlowStore(tmp_path / "newer")
    metrics = ControlPlaneMetrics(dict)
    keeper = open_keeper(tmp_path / "damaged", metrics=metrics, clock=SystemClock(), log=Logger("test"))
    assert keeper is None


def test_what_is_old_goes_and_what_is_not_new_is_counted_by_the_day(tmp_path: Path) -> None:
    store = FlowStore(tmp_path / "flows.sqlite")
    yesterdays = [made(first_seen=at, last_seen=at) for at in (NOW - 3 * DAY + HOUR, NOW - 3 * DAY + 5 * HOUR)]
    for flow in [*yesterdays, made(), made(first_seen=NOW - 40 * DAY, last_seen=NOW - 40 * DAY)]:
        store.add("shop/orders", [flow], 1, flow.last_seen)
    before = store.ask(FlowQuery(since=NOW - 30 * DAY))
    store.expire(NOW)
    after = store.ask(FlowQuery())
    assert after == before
    assert after.flows[0].count == 9
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM flows").scalar() == 2
    store.expire(NOW)
    assert store.ask(FlowQuery()) == after
    store.close()


def test_one_service_cannot_take_the_room_of_others(tmp_path: Path) -> None:
    store = FlowStore(tmp_path / "flows.sqlite", FlowLimits(service_rows=5))
    flood = [made(path=f"/{word}") for word in "abcdefgh"]
    store.add("shop/orders", flood[:5], 0, NOW)
    store.add("shop/orders", flood, 0, NOW)
    store.add("shop/stock", [made(service="shop/stock")], 0, NOW)
    answer = store.ask(FlowQuery())
    assert len(answer.flows) == 6
    assert answer.unrecorded == {"shop/orders": 3 * 3}
    assert {flow.count for flow in answer.flows if flow.service == "shop/orders"} == {6}
    store.close()


def test_rows_in_all_are_bounded_by_letting_the_oldest_go(tmp_path: Path) -> None:
    store = FlowStore(tmp_path / "flows.sqlite", FlowLimits(rows=3))
    for hours in range(6):
        at = NOW - hours * HOUR
        store.add("shop/orders", [made(path=f"/{'abcdef'[hours]}", first_seen=at, last_seen=at)], 0, NOW)
    store.expire(NOW)
    assert [flow.path for flow in store.ask(FlowQuery()).flows] == ["/a", "/b", "/c"]
    store.close()


def test_a_question_and_a_report_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = FlowStore(tmp_path / "flows.sqlite")
    store.add("shop/orders", [made()], 0, NOW)
    with store._transaction() as connection:
        connection.exec_driver_sql("DELETE FROM flows")
        assert len(store.ask(FlowQuery()).flows) == 1
    assert store.ask(FlowQuery()).flows == ()
    store.close()


class _BrokenStore:
    limits = FlowLimits()

    def __init__(self) -> None:
        self.broken = True
        self.added: list[tuple[str, int, int]] = []

    def add(self, service: str, flows: list[Flow], unrecorded: int, now: float) -> None:
        if self.broken:
            raise FlowStoreError("disk full")
        self.added.append((service, len(flows), unrecorded))

    def expire(self, now: float) -> None:
        if self.broken:
            raise FlowStoreError("disk full")


async def test_a_disk_that_fails_costs_evidence_that_is_told_of_and_nothing_else() -> None:
    store = _BrokenStore()
    metrics = ControlPlaneMetrics(dict)
    keeper = FlowKeeper(store, metrics=metrics, clock=SystemClock(), log=Logger("test", stream=io.StringIO()))  # type: ignore[arg-type]
    running = asyncio.create_task(keeper.run())
    keeper.take("shop/orders", pb.FlowReport(flows=[told()]))
    await until(lambda: bool(keeper._lost))
    store.broken = False
    keeper.take("shop/orders", pb.FlowReport(flows=[told()], unrecorded=2))
    await until(lambda: bool(store.added))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.added == [("shop/orders", 1, 2 + 3)]
    assert b"flow_calls_lost_total 3.0" in metrics.text()


async def test_a_fault_in_reading_a_report_is_told_and_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("controlplane.flows.keeping.flows_of", faulty)
    log, metrics = io.StringIO(), ControlPlaneMetrics(dict)
    keeper = FlowKeeper(_BrokenStore(), metrics=metrics, clock=SystemClock(), log=Logger("test", stream=log))  # type: ignore[arg-type]
    keeper.take("shop/orders", pb.FlowReport(flows=[told()]))
    assert "flow report not read" in log.getvalue()
    assert b'task_failures_total{task="flows"} 1.0' in metrics.text()


async def test_what_a_shadow_policy_said_lately_is_at_hand_without_a_disk() -> None:
    keeper = FlowKeeper(_BrokenStore(), metrics=ControlPlaneMetrics(dict), clock=SystemClock(), log=Logger("test"))  # type: ignore[arg-type]
    now = SystemClock().now()
    for age in (100.0, 10.0):
        seen = {"first_seen": now - age, "last_seen": now - age}
        flows = [told(**seen), told(shadow="permit", **seen), told(shadow="denylisted", **seen)]
        keeper.take("shop/orders", pb.FlowReport(flows=flows))
    assert [flow.shadow for flow in keeper.shadowed(now - 50)] == ["permit", "denylisted"]
    assert len(keeper.shadowed(now - 500)) == 4


@pytest.mark.parametrize("words", [{"since": "x"}, {"since": "nan"}, {"limit": "0"}, {"verdict": "no"}, {"sinse": "1"}])
def test_a_question_that_is_none_is_refused(words: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        query_of(words)
    assert query_of({"since": "1.5", "service": "shop/orders", "verdict": "deny", "limit": "3"}) == FlowQuery(
        since=1.5, service="shop/orders", verdict=Verdict.DENY, limit=3
    )


def test_callers_without_an_identity_are_kept_by_their_addresses(tmp_path: Path) -> None:
    store = FlowStore(tmp_path / "flows.db")
    strangers = [told(caller="", address=address) for address in ("10.0.0.7", "fd00::7", "10.0.0.7", "")]
    store.add("shop/orders", read(*strangers)[0], 0, NOW)
    found = store.ask(FlowQuery(caller=""))
    assert sorted((flow.address, flow.count) for flow in found.flows) == [("", 3), ("10.0.0.7", 6), ("fd00::7", 3)]
    assert [line.split("  ")[0] for line in flow_lines(found.flows)][1] == "unauthenticated at 10.0.0.7"
    store.close()


def test_what_an_earlier_release_kept_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    FlowStore(path).close()
    columns = "bucket, service, caller, port, protocol, method, path, verdict, rule, reason, shadow"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE flows")
        database.execute(
            f"CREATE TABLE flows ({columns}, count, missed, first_seen, last_seen, PRIMARY KEY ({columns})) "
            "WITHOUT ROWID"
        )
        key = (int(NOW), "shop/orders", str(WEB), 8080, "http", "GET", "/orders", "permit", "a/b/c", "", "")
        database.execute(f"INSERT INTO flows VALUES ({', '.join('?' * 15)})", (*key, 3, 1, NOW, NOW))
        database.execute("PRAGMA user_version = 1")
    for _ in range(2):
        store = FlowStore(path)
        [flow] = store.ask(FlowQuery()).flows
        assert (flow.caller, flow.address, flow.path, flow.count, flow.missed) == (WEB, "", "/orders", 3, 1)
        store.close()
