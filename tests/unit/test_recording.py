"""One place tells log and metrics: they agree, what peers choose is bounded, and every line names who, what and why."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.policy.decide import Deny, Permit
from ringfence.policy.reasons import DenyReason
from sidecar.http1 import Malformed
from sidecar.http2 import Broken
from sidecar.metrics import OVERFLOW, SERIES_LIMIT, SidecarMetrics
from sidecar.recording import Recorder
from sidecar.refusal import Refusal
from sidecar.relay import RelayFacts
from sidecar.tap import Tap, TapFilter

WEB = "spiffe://shop.example/ns/shop/sa/web"
API = "spiffe://shop.example/ns/shop/sa/api"
PERMIT = Permit("shop/orders-callers", "web-reads")


class Recorded:
    def __init__(
        self, *, every: bool = False, sample: float = 1.0, draws: Sequence[float] = (), level: str = "info"
    ) -> None:
        self.stream = io.StringIO()
        self.clock = FakeClock()
        self.metrics = SidecarMetrics()
        log = Logger("sidecar", level=level, stream=self.stream, clock=self.clock)
        self.recorder = Recorder(
            log=log,
            metrics=self.metrics,
            clock=self.clock,
            every_request=every,
            sample=sample,
            own_id=API,
            draw=iter(draws).__next__,
        )

    def facts(self, **parts: Any) -> RelayFacts:
        known: dict[str, Any] = {
            "direction": "inbound",
            "peer": WEB,
            "service": "shop/orders",
            "port": 8080,
            "protocol": "http",
            "started": self.clock.monotonic(),
        }
        return RelayFacts(**(known | parts))

    @property
    def line(self) -> dict[str, Any]:
        [line] = self.stream.getvalue().splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found


def test_an_ended_connection_tells_who_what_how_much_how_long_and_why() -> None:
    seen = Recorded()
    facts = seen.facts(decision=PERMIT, bytes_from_app=10, bytes_to_app=20, requests=3)
    seen.clock.advance(1.5)
    seen.recorder.connection_ended(facts, "closed", "")
    line = seen.line
    assert line["msg"] == "connection ended"
    expected = {
        "direction": "inbound",
        "peer": WEB,
        "service": "shop/orders",
        "port": 8080,
        "protocol": "http",
        "decision": "permit",
        "policy": "shop/orders-callers",
        "rule": "web-reads",
        "reason": "closed",
        "bytes_from_app": 10,
        "bytes_to_app": 20,
        "duration_ms": 1500.0,
        "requests": 3,
    }
    assert {key: line[key] for key in expected} == expected
    assert seen.metrics.connections.at("inbound", WEB, "shop/orders", "http", "closed").value == 1
    assert seen.metrics.bytes.at("inbound", WEB, "shop/orders", "mesh").value == 10
    assert seen.metrics.bytes.at("inbound", WEB, "shop/orders", "app").value == 20


def test_an_ended_connection_that_is_not_logged_is_counted_and_tapped_all_the_same() -> None:
    seen = Recorded(level="warning")
    facts = seen.facts(protocol="tcp", decision=PERMIT, bytes_from_app=10, bytes_to_app=20)
    seen.recorder.connection_ended(facts, "closed", "")
    tapped: list[bytes] = []
    Tap(seen.recorder.taps, TapFilter(), lambda flush: flush()).started(tapped.append)
    seen.recorder.connection_ended(facts, "reset", "")

    assert seen.stream.getvalue() == ""
    connections = seen.metrics.connections
    assert connections.at("inbound", WEB, "shop/orders", "tcp", "closed").value == 1
    assert connections.at("inbound", WEB, "shop/orders", "tcp", "reset").value == 1
    assert seen.metrics.bytes.at("inbound", WEB, "shop/orders", "mesh").value == 20
    assert [json.loads(line)["reason"] for line in tapped] == ["reset"]


def test_only_connections_that_carry_requests_tell_their_number() -> None:
    for protocol, told in (("tcp", False), ("http", True), ("http2", True), ("grpc", True)):
        seen = Recorded()
        seen.recorder.connection_ended(seen.facts(protocol=protocol), "closed", "")
        assert ("requests" in seen.line) is told


def test_a_denial_tells_its_reason_its_id_and_the_nearest_rule_to_the_operator() -> None:
    seen = Recorded()
    denied = Deny(DenyReason.METHOD_NOT_ALLOWED, "shop/orders-callers web-reads")
    told = Refusal(reason=denied.reason, request_id="ab12", origin=API)
    seen.recorder.request_refused(seen.facts(), denied, told, method=b"DELETE", target=b"/orders/1")
    line = seen.line
    assert line["level"] == "warning"
    assert (line["decision"], line["reason"], line["nearest"]) == (
        "deny",
        "method_not_allowed",
        "shop/orders-callers web-reads",
    )
    assert (line["request_id"], line["origin"], line["method"], line["target"]) == ("ab12", API, "DELETE", "/orders/1")
    assert seen.metrics.denials.at("inbound", WEB, "shop/orders", "method_not_allowed").value == 1


def test_a_denied_connection_is_counted_by_its_reason() -> None:
    seen = Recorded()
    denied = Deny(DenyReason.CALLER_NOT_ALLOWED)
    seen.recorder.connection_denied(seen.facts(decision=denied, request_id="cd", origin=API), denied, detail="why")
    assert (seen.line["request_id"], seen.line["origin"], seen.line["detail"]) == ("cd", API, "why")
    assert seen.metrics.denials.at("inbound", WEB, "shop/orders", "caller_not_allowed").value == 1


def test_a_reason_that_a_peer_made_up_is_logged_and_counted_as_other() -> None:
    seen = Recorded()
    for number in range(50):
        word = "made_up_" + "abcdefghij"[number % 10] * (number // 10 + 1)
        told = Refusal(reason=word, request_id="ab", origin=API)
        seen.recorder.request_refused(seen.facts(), None, told, method=b"GET", target=b"/")
        seen.recorder.connection_ended(seen.facts(), word, "")
    assert len(seen.stream.getvalue().splitlines()) == 100
    assert seen.metrics.denials.at("inbound", WEB, "shop/orders", OVERFLOW).value == 50
    assert len(seen.metrics.denials.table) == len(seen.metrics.connections.table) == 1


def test_what_a_client_wrote_is_cut_and_cannot_end_a_line() -> None:
    seen = Recorded()
    told = Refusal(reason=DenyReason.PATH_AMBIGUOUS, request_id="ab", origin=API)
    target = b"/" + b'\n{"msg":"connection ended"}\xff\x1b[2J' * 1000
    seen.recorder.request_refused(seen.facts(), None, told, method=b"M" * 10_000, target=target, detail="d" * 10_000)
    assert len(seen.stream.getvalue()) < 8_192
    assert seen.line["msg"] == "request denied"
    assert "\x1b" not in seen.stream.getvalue()


def test_callers_beyond_the_limit_are_counted_together_and_cost_nothing_more() -> None:
    seen = Recorded()
    for number in range(SERIES_LIMIT + 100):
        peer = f"spiffe://shop.example/ns/shop/sa/n{number}"
        series = seen.recorder.series("inbound", peer, "shop/orders")
        series.count(PERMIT, 200).value += 1
        series.durations.observe(0.001)
        seen.recorder.connection_ended(seen.facts(peer=peer), "closed", "")
    for family in (seen.metrics.requests, seen.metrics.connections, seen.metrics.durations):
        assert len(family.table) == SERIES_LIMIT + 1
    total = sum(count.value for count in seen.metrics.requests.table.values())
    assert total == SERIES_LIMIT + 100
    assert len(seen.recorder._series) <= 1000


def test_statuses_that_an_app_makes_up_stay_within_the_bound() -> None:
    seen = Recorded()
    series = seen.recorder.series("inbound", WEB, "shop/orders")
    for status in range(100, 1000):
        for rule in range(3):
            series.count(Permit("p", str(rule)), status).value += 1
    assert len(series.by_verdict) <= 1000
    assert len(seen.metrics.requests.table) <= SERIES_LIMIT + 1
    assert sum(count.value for count in seen.metrics.requests.table.values()) == 2700


def test_a_verdict_is_counted_under_its_policy_and_rule_or_its_reason() -> None:
    seen = Recorded()
    series = seen.recorder.series("inbound", WEB, "shop/orders")
    series.count(PERMIT, 200).value += 1
    series.count(Deny(DenyReason.PATH_NOT_ALLOWED, "never a label"), 403).value += 1
    series.count(None, 502).value += 1
    assert set(seen.metrics.requests.table) == {
        ("inbound", WEB, "shop/orders", "shop/orders-callers", "web-reads", "", "200"),
        ("inbound", WEB, "shop/orders", "", "", "path_not_allowed", "403"),
        ("inbound", WEB, "shop/orders", "", "", "", "502"),
    }


def test_requests_are_each_counted_under_their_own_verdict_in_whatever_order_they_end() -> None:
    seen = Recorded()
    series = seen.recorder.series("inbound", WEB, "shop/orders")
    other = Permit(PERMIT.policy, "web-writes")
    for decision, status in ((None, 502), (PERMIT, 200), (PERMIT, 200), (other, 200), (other, 404), (PERMIT, 200)):
        series.ended(decision, status, 0.001)
    counted = {(*key[4:5], key[6]): count.value for key, count in seen.metrics.requests.table.items()}
    assert counted == {("", "502"): 1, ("web-reads", "200"): 3, ("web-writes", "200"): 1, ("web-writes", "404"): 1}
    assert sum(series.durations.buckets) == 6


def test_requests_are_logged_only_where_every_one_is() -> None:
    for every in (False, True):
        seen = Recorded(every=every)
        assert seen.recorder.every_request is every
        seen.recorder.request_done(seen.facts(), PERMIT, method=b"GET", target=b"/x", status=200, seconds=0.25)
        if every:
            assert (seen.line["msg"], seen.line["status"], seen.line["duration_ms"]) == ("request", 200, 250.0)
        else:
            assert not seen.stream.getvalue()


def test_a_defect_is_one_line_that_names_the_connection_and_the_error() -> None:
    seen = Recorded()
    seen.recorder.defect(seen.facts(), ValueError("odd\nthing"))
    assert (seen.line["level"], seen.line["msg"], seen.line["peer"]) == ("error", "defect", WEB)
    assert seen.line["detail"] == "ValueError: odd\nthing"


def test_a_broken_rule_of_http_is_counted_by_who_broke_which() -> None:
    seen = Recorded()
    seen.recorder.violation(seen.facts(), by="client", reason=Malformed.BARE_LF)
    seen.recorder.violation(seen.facts(protocol="grpc"), by="client", reason=Broken.PING_FLOOD)
    assert set(seen.metrics.violations.table) == {
        ("inbound", "http", "client", "bare_lf"),
        ("inbound", "grpc", "client", "ping_flood"),
    }


def test_of_all_requests_a_share_is_logged_by_draw_or_by_trace() -> None:
    seen = Recorded(every=True, sample=0.25, draws=[0.2, 0.25, 0.9])
    ask = {"method": b"GET", "target": b"/x", "status": 200, "seconds": 0.1}
    for _ in range(3):
        seen.recorder.request_done(seen.facts(), PERMIT, **ask)  # type: ignore[arg-type]
    assert "trace_id" not in seen.line  # one line, for the first draw
    low, high = "4bf92f3577b34da6a3c" + "3" * 13, "4bf92f3577b34da6a3c" + "4" * 13
    for trace_id in (low, high) * 2:
        seen.recorder.request_done(seen.facts(), PERMIT, trace_id=trace_id, **ask)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in seen.stream.getvalue().splitlines()]
    assert [line.get("trace_id") for line in lines] == [None, low, low]


def test_errors_and_denials_are_logged_whatever_the_share() -> None:
    seen = Recorded(every=True, sample=0.0, draws=[0.0] * 9)
    denied = Deny(DenyReason.PATH_NOT_ALLOWED)
    for decision, status, told in (
        (PERMIT, 200, False),
        (PERMIT, 404, False),
        (PERMIT, 500, False),
        (PERMIT, 0, False),
        (denied, 403, False),
        (None, 502, True),
        (None, 200, False),
    ):
        seen.recorder.request_done(
            seen.facts(), decision, method=b"GET", target=b"/x", status=status, seconds=0.1, told=told
        )
    lines = [json.loads(line) for line in seen.stream.getvalue().splitlines()]
    assert [line["status"] for line in lines] == [500, 0, 403, 502]


def test_a_refusal_is_found_by_its_trace() -> None:
    seen = Recorded()
    told = Refusal(reason=DenyReason.PATH_NOT_ALLOWED, request_id="ab", origin=API)
    seen.recorder.request_refused(seen.facts(), None, told, method=b"GET", target=b"/", trace_id="a" * 32)
    assert (seen.line["trace_id"], seen.line["request_id"]) == ("a" * 32, "ab")
