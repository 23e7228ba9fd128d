"""Which requests have a span and what it tells; where spans may go; and that export never holds anything up."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.policy.decide import Deny, Permit
from ringfence.policy.reasons import DenyReason
from sidecar.commands import sidecar
from sidecar.http1 import Heads
from sidecar.http2.heads import Heads as Heads2
from sidecar.http2.literal import encode
from sidecar.metrics import SidecarMetrics
from sidecar.relay import RelayFacts
from sidecar.settings import SettingsError, load
from sidecar.settings_sources import given_by_document, given_by_flags
from sidecar.tracing import EndedSpan, Tracer
from sidecar.tracing import export as export_module
from sidecar.tracing.export import SpanExport
from sidecar.tracing.settings import parse_endpoint, read_headers
from tests.http2_ends import GRPC
from tests.unit.test_sidecar_settings import DOCUMENT, FLAGS

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{SPAN}-0{flag}".encode() for flag in (1, 0))
WEB = "spiffe://shop.example/ns/shop/sa/web"


class Sink:
    def __init__(self) -> None:
        self.spans: list[EndedSpan] = []

    def offer(self, span: EndedSpan) -> None:
        self.spans.append(span)


class Ended:
    method = b"GET"
    target = b"/orders/1?token=secret"
    status = 200
    cut = False
    decision: object = None


def tracer(*, sample: float = 0.0, draw: float = 0.5, sink: Sink | None = None) -> Tracer:
    return Tracer(sample=sample, sink=sink or Sink(), clock=FakeClock(1_800_000_000.0), draw=lambda: draw)


def test_a_context_decides_by_its_flag_whatever_the_share() -> None:
    for sample in (0.0, 1.0):
        for starts in (False, True):
            span = tracer(sample=sample).begin(SAMPLED, starts=starts)
            assert span is not None
            assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
            assert span.span_id not in (SPAN, "0" * 16)
            assert tracer(sample=sample).begin(UNSAMPLED, starts=starts) is None


@pytest.mark.parametrize("header", [b"", b"?", SAMPLED.upper(), SAMPLED + b"-x", b"00-" + b"0" * 32 + b"-" + b"1" * 16])
def test_without_a_context_that_counts_a_trace_begins_by_the_draw_where_it_may(header: bytes) -> None:
    assert tracer(sample=0.5, draw=0.5).begin(header, starts=True) is None
    assert tracer(sample=1.0, draw=0.99).begin(header, starts=False) is None
    span = tracer(sample=0.51, draw=0.5).begin(header, starts=True)
    assert span is not None
    assert (len(span.trace_id), len(span.span_id), span.parent_id) == (32, 16, "")


@pytest.mark.parametrize(
    ("direction", "status", "cut", "failed"),
    [
        ("inbound", 200, False, False),
        ("inbound", 404, False, False),
        ("inbound", 500, False, True),
        ("outbound", 404, False, True),
        ("outbound", 200, True, True),
        ("outbound", 0, False, True),
    ],
)
def test_a_span_tells_who_asked_whom_for_what_and_no_query(
    direction: str, status: int, cut: bool, failed: bool
) -> None:
    sink = Sink()
    drawn = tracer(sample=1.0, sink=sink)
    span = drawn.begin(b"", starts=True)
    assert span is not None
    request = Ended()
    request.cut, request.status = cut, status
    request.decision = Permit("shop/api", "reads") if status else Deny(DenyReason.PATH_NOT_ALLOWED)
    facts = RelayFacts(direction=direction, peer=WEB, service="shop/api", port=8080, protocol="http", started=0.0)
    drawn.end(span, facts, request, status)
    [told] = sink.spans
    assert (told.name, told.is_server, told.failed) == ("GET shop/api", direction == "inbound", failed)
    assert told.attributes["url.path"] == "/orders/1"
    assert "secret" not in str(told)
    assert told.attributes["ringfence.peer"] == WEB
    assert told.attributes.get("ringfence.rule") == ("reads" if status else None)
    assert told.attributes.get("ringfence.reason") == (None if status else "path_not_allowed")


def until(true: Callable[[], bool]) -> None:
    while not true():
        threading.Event().wait(0.001)


# -- export -----------------------------------------------------------------------------------------------------------


@contextmanager
def collector(answer: int = 200) -> Iterator[tuple[str, list[tuple[dict[str, str], ExportTraceServiceRequest]]]]:
    """A collector of spans; yields its endpoint and what it was sent."""
    seen: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append(({k.lower(): v for k, v in self.headers.items()}, ExportTraceServiceRequest.FromString(body)))
            self.send_response(answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ended(number: int) -> EndedSpan:
    return EndedSpan(
        trace_id=f"{number + 1:032x}",
        span_id=f"{number + 1:016x}",
        parent_id=SPAN if number else "",
        name="GET shop/api",
        is_server=bool(number % 2),
        began=1_800_000_000.5,
        seconds=0.25,
        failed=number == 1,
        attributes={"url.path": "/x", "http.response.status_code": 200},
    )


def opened(endpoint: str, metrics: SidecarMetrics, lines: io.StringIO, **headers: str) -> SpanExport:
    return SpanExport(
        endpoint=endpoint,
        headers=headers,
        resource={"service.name": "api"},
        metrics=metrics,
        log=Logger("sidecar", stream=lines),
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_spans_reach_a_collector_as_otlp_with_the_headers_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "BATCH_SECONDS", 0.01)
    metrics, lines = SidecarMetrics(), io.StringIO()
    with collector() as (endpoint, seen):
        export = opened(endpoint, metrics, lines, authorization="Bearer abc")
        for number in range(3):
            export.offer(ended(number))
        export.close(20.0)
    assert all(headers["authorization"] == "Bearer abc" for headers, _ in seen)
    spans = [
        span
        for _, message in seen
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [span.span_id.hex() for span in spans] == [f"{number + 1:016x}" for number in range(3)]
    assert [span.parent_span_id.hex() for span in spans] == ["", SPAN, SPAN]
    assert [span.kind for span in spans] == [3, 2, 3]  # client, server, client
    assert [span.status.code for span in spans] == [0, 2, 0]
    assert spans[0].end_time_unix_nano - spans[0].start_time_unix_nano == 250_000_000
    assert {one.key for one in seen[0][1].resource_spans[0].resource.attributes} == {"service.name"}
    assert metrics.spans.at("exported").value == 3
    assert not lines.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_collector_refuses_is_counted_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "BATCH_SECONDS", 0.0)
    metrics, lines = SidecarMetrics(), io.StringIO()
    with collector(400) as (endpoint, seen):
        export = opened(endpoint, metrics, lines)
        for number in range(2):
            export.offer(ended(number))
            until(lambda number=number: len(seen) > number)  # type: ignore[misc]
        export.close(20.0)
    assert metrics.spans.at("failed").value == 2
    assert metrics.spans.at("exported").value == 0
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["msg"] for line in told] == ["spans not exported"]


def test_packages_that_are_missing_cost_the_spans_and_are_told_and_not_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_module, "BATCH_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    metrics, lines = SidecarMetrics(), io.StringIO()
    export = opened("http://127.0.0.1:1/", metrics, lines)
    for number in range(2):
        export.offer(ended(number))
        until(lambda number=number: metrics.spans.at("failed").value > number)  # type: ignore[misc]
    export.close(20.0)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["msg"] for line in told] == ["spans not exported"]
    assert "opentelemetry.exporter.otlp" in told[0]["detail"]


def test_what_finds_the_queue_full_is_dropped_and_counted_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "QUEUE_LIMIT", 3)
    stuck = threading.Event()
    monkeypatch.setattr(SpanExport, "_open", lambda _: stuck.wait(60))
    metrics = SidecarMetrics()
    export = opened("http://127.0.0.1:1/", metrics, io.StringIO())
    export.offer(ended(0))
    until(lambda: not export.waiting)  # the thread has taken it, and is stuck with it
    for number in range(5):
        export.offer(ended(number))
    assert (export.waiting, metrics.spans.at("dropped").value) == (3, 2)
    monkeypatch.setattr(SpanExport, "_send", lambda *_: None)
    stuck.set()
    export.close(20.0)
    assert export.waiting == 0


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:4318/v1/traces",
        "http://[::1]:4318/v1/traces",
        "http://localhost:4318/v1/traces",
        "https://collector.example/v1/traces",
    ],
)
def test_spans_may_go_to_a_collector_on_loopback_or_by_https(endpoint: str) -> None:
    settings = load(given_by_flags(FLAGS | {"tracing-endpoint": endpoint, "tracing-sample": "0.5"}))
    assert settings.tracing is not None
    assert (settings.tracing.endpoint, settings.tracing.sample) == (endpoint, 0.5)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://collector.example/v1/traces",
        "http://127.0.0.1.example/v1/traces",
        "http://10.0.0.1:4318/",
        "http://localhost.example:4318/",
        "ftp://127.0.0.1/",
        "127.0.0.1:4318",
        "https://user:secret@collector.example/",
        "https://collector.example/?key=secret",
        "https://",
        "https://a:99999/",
        "http://[::1/",
        "https://collector.example/ x",
        "",
    ],
)
def test_its_neighbours_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"\("):
        parse_endpoint(endpoint)
    with pytest.raises(SettingsError) as error:
        load(given_by_flags(FLAGS | {"tracing-endpoint": endpoint}))
    assert error.value.problems[0].startswith("--tracing-endpoint: ")


def test_a_document_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(
        DOCUMENT + '  tracing: {endpoint: "http://127.0.0.1:4318/v1/traces", sample: 0.2, headersFile: secret}\n'
    )
    tracing = load(given_by_document(path)).tracing
    assert tracing is not None
    assert (tracing.sample, tracing.headers_file) == (0.2, tmp_path / "secret")
    assert "secret" in str(load(given_by_document(path)).redacted()["tracing"])


def test_a_share_without_an_endpoint_is_refused() -> None:
    assert load(given_by_flags(FLAGS)).tracing is None
    with pytest.raises(SettingsError) as error:
        load(given_by_flags(FLAGS | {"tracing-sample": "0.5", "tracing-headers-file": "x"}))
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "--tracing-sample",
        "--tracing-headers-file",
    ]


def test_headers_are_read_from_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("authorization: Bearer abc def\n\nx-tenant:  shop\n")
    path.chmod(0o600)
    assert read_headers(path) == {"authorization": "Bearer abc def", "x-tenant": "shop"}
    for mode in (0o640, 0o604):
        path.chmod(mode)
        with pytest.raises(ValueError, match="chmod 600"):
            read_headers(path)
    path.chmod(0o600)
    for content in ("nothing here", "a b: c", "a:", ": b", "a: b\x01", "a: \xff", "x" * 20_000):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=r"no header|more than") as error:
            read_headers(path)
        assert content not in str(error.value)
    with pytest.raises(ValueError, match="cannot read"):
        read_headers(tmp_path / "absent")


def test_an_installation_without_the_extra_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [part for key, value in FLAGS.items() for part in (f"--{key}", str(value))]
    traced = [*flags, "--tracing-endpoint", "http://127.0.0.1:4318/v1/traces", "--print-config"]
    assert CliRunner().invoke(sidecar, traced).exit_code == 0
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    refused = CliRunner().invoke(sidecar, traced)
    assert refused.exit_code == 2
    assert "pip install 'ringfence[otlp]'" in refused.output
    assert CliRunner().invoke(sidecar, [*flags, "--print-config"]).exit_code == 0


# -- heads ------------------------------------------------------------------------------------------------------------

NAMES = frozenset({b"traceparent", b"tracestate"})


def test_what_is_taken_out_of_a_head_of_http1_is_that_and_nothing_else() -> None:
    block = b" HTTP/1.1\r\nHost: a\r\nTraceParent: x\r\nX-Traceparent: y\r\ntracestate:z\r\nContent-Length: 0\r\n\r\n"
    heads = Heads()
    fields = heads.judge_request(block)
    without = fields.without(NAMES)
    assert without.forward == b"Host: a\r\nX-Traceparent: y\r\nContent-Length: 0\r\n\r\n"
    assert (without.length, without.keep_alive, without.host, without.plain) == (0, True, b"a", fields.plain)
    assert heads.judge_request(block) is fields  # what is remembered is what it was
    assert fields.without(frozenset({b"absent"})) is fields


def test_what_is_taken_out_of_a_head_of_http2_is_that_and_nothing_else() -> None:
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    heads = Heads2()
    block = encode([*fields, (b"traceparent", b"x"), (b"x-forwarded-client-cert", b"forged"), (b"b", b"c")])
    entry = heads.read(block, heads.request_table, 4096)
    head = heads.request(entry)
    assert head.without(NAMES).literal == encode([*fields, (b"b", b"c")])
    assert head.literal == encode([*fields, (b"traceparent", b"x"), (b"b", b"c")])
    assert head.without(frozenset({b"absent"})) is head


def test_a_traced_call_of_http2_keeps_its_deadline_and_all_else_that_its_head_says() -> None:
    """The sidecar looks at it again long after the trace context was taken out."""
    heads = Heads2()
    block = encode([*GRPC, (b"grpc-timeout", b"50m"), (b"content-length", b"7"), (b"traceparent", b"x")])
    head = heads.request(heads.read(block, heads.request_table, 4096))
    without = head.without(NAMES)
    assert without.grpc_timeout_seconds == 0.05
    said = set(head.__slots__) - {"kept", "_literal", "_traceparent"}
    assert {name: getattr(without, name) for name in said} == {name: getattr(head, name) for name in said}
