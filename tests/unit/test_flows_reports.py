"""Counted flows as messages: small enough, nothing lost, and those of workers add up in their parent."""

from __future__ import annotations

import io

import pytest

from ringfence.kit.log import Logger
from ringfence.policy.decision import Deny, Permit
from ringfence.policy.reasons import DenyReason
from ringfence.wire.gen import control_pb2 as pb
from sidecar.flows import table as limits
from sidecar.flows.reporting import REPORT_SECONDS, FlowReporting
from sidecar.flows.reports import LIMIT_REPORT_BYTES, absorb, calls_of, take_reports
from sidecar.flows.table import FlowTable

PERMIT = Permit("shop/orders-callers", "web-reads")
REFUSED = Deny(DenyReason.CALLER_NOT_ALLOWED)
WEB = "spiffe://shop.example/ns/shop/sa/web"


def filled(callers: int) -> FlowTable:
    table = FlowTable(lambda: 1000.0)
    for number in range(callers):
        flows = table.of(f"{WEB}-{number}", 8080, "http")
        for word in (b"/orders", b"/orders/7", b"*", b"/"):
            flows.seen(PERMIT, b"OPTIONS", word)
        flows.seen(Deny(DenyReason.PATH_AMBIGUOUS), b"GET", b"//")
        table.of(f"{WEB}-{number}", 5432, "tcp").connected(REFUSED)
    return table


def words(reports: list[pb.FlowReport]) -> dict[tuple[object, ...], int]:
    return {
        (f.caller, f.port, f.protocol, f.method, f.path, f.verdict, f.rule, f.reason): f.count
        for report in reports
        for f in report.flows
    }


def test_reports_are_small_enough_and_tell_each_flow_once() -> None:
    table = filled(500)
    reports = take_reports(table)
    assert len(reports) > 1
    assert all(report.ByteSize() <= LIMIT_REPORT_BYTES for report in reports)
    assert sum(len(report.flows) for report in reports) == 500 * 6 == len(words(reports))
    assert take_reports(table) == []


def test_what_workers_tell_adds_up() -> None:
    parent = FlowTable(lambda: 2000.0)
    for _ in range(2):
        for report in take_reports(filled(3)):
            absorb(parent, report.SerializeToString())
    once = words(take_reports(filled(3)))
    assert words(take_reports(parent)) == {key: 2 * count for key, count in once.items()}


def test_a_parent_tells_what_it_had_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = take_reports(filled(3))
    monkeypatch.setattr(limits, "LIMIT_CALLER_ROWS", 2)
    parent = FlowTable(lambda: 2000.0)
    for report in reports:
        absorb(parent, report.SerializeToString())
    told = take_reports(parent)
    assert sum(calls_of(report) for report in told) == sum(calls_of(report) for report in reports)
    assert told[0].unrecorded == 3 * 2


@pytest.mark.parametrize(
    "message",
    [b"\xff\xff\xff", pb.FlowReport(flows=[pb.Flow(verdict="maybe", count=1)]).SerializeToString()],
)
def test_what_no_worker_says_is_an_error(message: bytes) -> None:
    with pytest.raises(ValueError):
        absorb(FlowTable(lambda: 0.0), message)


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def now(self) -> float:
        return 1000.0 + self.passed


class Stop(Exception):
    pass


async def reported(table: FlowTable, clock: Clock, *, takes: object, sent: bool = True) -> tuple[list[float], int]:
    """When reports were sent in 35 seconds, and how many calls were dropped."""
    at: list[float] = []

    async def send(report: pb.FlowReport) -> bool:
        at.append(clock.passed)
        return sent

    async def wait(seconds: float) -> None:
        clock.passed += seconds
        table.of(WEB, 8080, "http").seen(PERMIT, b"GET", b"/orders")
        if clock.passed > 35:
            raise Stop

    reporting = FlowReporting(
        table,
        takes=lambda: bool(takes(clock.passed)),
        send=send,
        clock=clock,
        log=Logger("test"),
        wait=wait,  # type: ignore[operator]
    )
    with pytest.raises(Stop):
        await reporting.run()
    return at, reporting.dropped


async def test_a_report_goes_out_now_and_then_and_none_while_nobody_takes_it() -> None:
    clock = Clock()
    at, dropped = await reported(FlowTable(clock.now), clock, takes=lambda now: now > 15)
    assert at == [16.0, 16.0 + REPORT_SECONDS]
    assert dropped == 0


async def test_a_fault_in_reporting_ends_neither_the_reports_nor_the_sidecar() -> None:
    clock, log = Clock(), io.StringIO()
    tries = 0

    async def send(report: pb.FlowReport) -> bool:
        nonlocal tries
        tries += 1
        raise ValueError("cannot be")

    async def wait(seconds: float) -> None:
        clock.passed += seconds
        table.of(WEB, 8080, "http").seen(PERMIT, b"GET", b"/orders")
        if clock.passed > 35:
            raise Stop

    table = FlowTable(clock.now)
    reporting = FlowReporting(
        table,
        takes=lambda: True,
        send=send,
        clock=clock,  # type: ignore[arg-type]
        log=Logger("test", stream=log),
        wait=wait,
    )
    with pytest.raises(Stop):
        await reporting.run()
    assert tries == 3
    assert log.getvalue().count("flows not reported") == 3


async def test_a_lost_report_is_told_of_in_the_next() -> None:
    clock = Clock()
    table = FlowTable(clock.now)
    at, dropped = await reported(table, clock, takes=lambda _: True, sent=False)
    assert len(at) == 3
    assert dropped == 10 + 20  # what the second and the third report say of the one before
