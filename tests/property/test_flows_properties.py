"""Whatever callers send: each call is counted once or told as uncounted, and what a sidecar reports is taken whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.flows.reading import flows_of
from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.learning.flow import Verdict
from ringfence.policy.learning.flow_file import FlowFile, file_lines, read_file
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.learning.sifting import sift
from ringfence.policy.paths import judged_path
from ringfence.policy.reasons import DenyReason
from sidecar.flows.reports import absorb, take_reports
from sidecar.flows.table import FlowTable
from tests.learning_shop import CART, WEB, service_of, world_of

NOW = 1_700_000_000.0
VERDICTS: list[Decision] = [
    Permit("shop/orders-callers", "web-reads"),
    Permit("shop/binding", "role.read"),
    Permit("", "", DenyReason.PATH_NOT_ALLOWED, "shop/orders-callers/web-reads"),
    Deny(DenyReason.CALLER_NOT_ALLOWED),
    Deny(DenyReason.METHOD_NOT_ALLOWED, "shop/orders-callers/web-reads"),
]
AMBIGUOUS = Deny(DenyReason.PATH_AMBIGUOUS)
TARGETS = st.one_of(
    st.binary(max_size=40).map(lambda tail: b"/" + tail),
    st.text("abXY019-._~%/?=@*{}", max_size=300).map(lambda tail: b"/" + tail.encode()),
    st.lists(st.sampled_from(["orders", "7", "a%20b", "x" * 70, "", "v1", "deadbeef01"]), max_size=20).map(
        lambda words: ("/" + "/".join(words)).encode()
    ),
    st.just(b"*"),
)
CALLS = st.tuples(
    st.sampled_from(["", str(WEB), str(CART)]),
    st.sampled_from(["http", "http2", "grpc"]),
    st.sampled_from([b"GET", b"POST", b"OPTIONS", b"BREW", b"\xff\n"]),
    TARGETS,
    st.sampled_from(VERDICTS),
    st.sampled_from([None, *VERDICTS]),
    st.booleans(),
)


def judged(table: FlowTable, calls: list[tuple[str, str, bytes, bytes, Decision, Decision | None, bool]]) -> None:
    for caller, protocol, method, target, decision, shadow, missed in calls:
        path = judged_path(target)
        ambiguous = path is None or (path == b"*" and method != b"OPTIONS")
        flows = table.of(caller, 8080, protocol)
        flows.seen(AMBIGUOUS if ambiguous else decision, method, target, shadow)
        if missed:
            flows.missed(method, target)


@given(st.lists(CALLS, max_size=60), st.integers(0, 3))
def test_every_call_is_told_once_and_every_report_is_taken_whole(
    calls: list[tuple[str, str, bytes, bytes, Decision, Decision | None, bool]], connections: int
) -> None:
    table, parent = FlowTable(lambda: NOW), FlowTable(lambda: NOW)
    judged(table, calls)
    for _ in range(connections):
        table.of(str(WEB), 5432, "tcp").connected(VERDICTS[0])
    for report in take_reports(table):
        absorb(parent, report.SerializeToString())
    told = 0
    for report in take_reports(parent):
        flows, untold = flows_of(report, service="shop/orders", now=NOW)
        assert untold == 0
        assert len(flows) == len(report.flows)
        told += sum(flow.count for flow in flows)
        content = "".join(f"{line}\n" for line in file_lines(FlowFile(flows=tuple(flows)))).encode()
        assert read_file(content, "f") == (FlowFile(flows=tuple(flows)), [])
        service = service_of()
        learned, left_out = sift(flows, service, world_of(service), LearnSettings(include_denied=True))
        assert len(learned) + len(left_out) == len(flows)
        assert all(flow.verdict is not Verdict.DENY or flow.missed <= flow.count for flow in flows)
    assert told == len(calls) + connections


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(1, 40)), min_size=1, max_size=120))
def test_merging_places_loses_no_call(words: list[tuple[str, int]]) -> None:
    table = FlowTable(lambda: NOW)
    flows = table.of(str(WEB), 8080, "http")
    for word, times in words:
        for _ in range(times):
            flows.seen(VERDICTS[0], b"GET", f"/x/{word}/y".encode())
    found, unrecorded = table.take()
    assert sum(row.count for _, rows in found for row in rows) + unrecorded == sum(times for _, times in words)
    assert unrecorded == 0
