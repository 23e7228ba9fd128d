"""A trace through two sidecars: a span on each side of a hop, parents in order, and what is not sampled untouched."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from ringfence.snapshot import PortMode, Protocol
from sidecar.http_relay import HttpRelay
from sidecar.tracing import TracedJudge, Tracer
from tests.data_path import HTTP_PORT, HttpClient, Mesh, free_port, http_app, plaintext_rule, until
from tests.integration.test_grpc_calls import ECHO, Echo, channel, grpc_app
from tests.integration.test_grpc_split import channel as spread_channel
from tests.integration.test_grpc_split import spread
from tests.integration.test_renewal import MESH, POLICY
from tests.processes import Marked, ringfence
from tests.unit.test_tracing import collector

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = (f"traceparent: 00-{TRACE}-{SPAN}-0{flag}\r\n" for flag in (1, 0))
STATE = "TraceState: vendor=1\r\n"


def contexts(head: bytes) -> list[tuple[str, str, str]]:
    """Trace id, span id and flags of each ``traceparent`` in a head."""
    found = re.findall(rb"(?i)\r\ntraceparent: *00-([0-9a-f]{32})-([0-9a-f]{16})-(..)(?=\r\n)", head)
    return [(trace.decode(), span.decode(), flags.decode()) for trace, span, flags in found]


async def spans(mesh: Mesh, count: int = 1) -> None:
    await until(lambda: len(mesh.web.spans) == len(mesh.api.spans) == count)


async def test_a_trace_begins_at_the_first_sidecar_and_reaches_the_app() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, traced=1.0) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        for _ in range(3):
            assert (await client.ask("POST", "/orders/1?secret", b"hello", headers=STATE)).status == 200
        client.close()
        await spans(mesh, 3)
    for head, asked, served in zip(seen, mesh.web.spans, mesh.api.spans, strict=True):
        assert contexts(head) == [(asked.trace_id, served.span_id, "01")]
        assert b"tracestate" not in head.lower()  # it spoke of a trace that is not this one
        assert (asked.parent_id, asked.is_server) == ("", False)
        assert (served.trace_id, served.parent_id, served.is_server) == (asked.trace_id, asked.span_id, True)
        assert served.attributes["http.response.status_code"] == 200
        assert served.attributes["ringfence.rule"] == "orders"
    assert len({span.trace_id for span in mesh.web.spans}) == 3


async def test_a_sampled_context_goes_on_with_a_span_for_each_side() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, traced=0.0) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SAMPLED.replace("t", "T") + STATE)).status == 200
        client.close()
        await spans(mesh)
    [asked], [served] = mesh.web.spans, mesh.api.spans
    assert (asked.trace_id, asked.parent_id) == (TRACE, SPAN)
    assert (served.trace_id, served.parent_id) == (TRACE, asked.span_id)
    assert contexts(seen[0]) == [(TRACE, served.span_id, "01")]
    assert STATE.encode() in seen[0]


@pytest.mark.parametrize(
    "given",
    [
        "",
        UNSAMPLED + STATE,
        SAMPLED.replace("-01", "-01-more"),
        SAMPLED * 2,
        "traceparent: 00-" + "0" * 32 + f"-{SPAN}-01\r\n" + STATE,
        STATE,
    ],
    ids=["none", "unsampled", "malformed", "two", "no trace id", "state alone"],
)
async def test_what_is_not_sampled_passes_as_it_came(given: str) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, traced=0.0) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=given)).status == 200
        client.close()
        await until(lambda: len(mesh.api.log("connection ended")) == 1)
        assert not mesh.web.spans + mesh.api.spans
    assert seen[0].endswith(b"\r\nhost: api\r\n" + given.encode() + b"\r\n")
    assert seen[0].lower().count(b"trace") == given.lower().count("trace")


async def test_a_context_that_cannot_be_read_gives_way_to_a_trace_that_begins() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, traced=1.0) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SAMPLED * 2 + STATE)).status == 200
        client.close()
        await spans(mesh)
    assert mesh.web.spans[0].trace_id != TRACE
    assert contexts(seen[0]) == [(mesh.web.spans[0].trace_id, mesh.api.spans[0].span_id, "01")]
    assert b"vendor=1" not in seen[0]


async def test_a_refused_request_has_its_trace_in_the_log_and_its_reason_in_the_span() -> None:
    async with http_app() as app, Mesh(http_app=app, traced=0.0, every=True) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("PUT", "/orders/1", headers=SAMPLED)).status == 403
        assert (await client.ask("GET", "/orders/1", headers=UNSAMPLED)).status == 200
        client.close()
        await spans(mesh)
        await until(lambda: len(mesh.web.log("request")) == len(mesh.api.log("request")) == 2)
        for side in (mesh.web, mesh.api):
            [denied] = side.log("request denied")
            assert denied["trace_id"] == TRACE
            assert {line["trace_id"] for line in side.log("request")} == {TRACE}
    [served] = mesh.api.spans
    assert (served.attributes["ringfence.reason"], served.attributes["http.response.status_code"]) == (
        "method_not_allowed",
        403,
    )


async def test_inbound_begins_a_trace_only_for_callers_that_have_no_sidecar() -> None:
    rules = (plaintext_rule("open", ports=[HTTP_PORT]),)
    async with (
        http_app() as app,
        Mesh(http_app=app, traced=1.0, intercept=True, mode=PortMode.PERMISSIVE, rules=rules) as mesh,
    ):
        mesh.web.recorder.tracer = None
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        by_sidecar = await HttpClient.to(mesh.http_listen)
        assert (await by_sidecar.ask("GET", "/orders/1")).status == 403
        by_sidecar.close()
        await until(lambda: not len(mesh.api.inbound.relays))
    [served] = mesh.api.spans
    assert served.parent_id == ""
    assert served.attributes["http.response.status_code"] == 200


async def test_without_tracing_nothing_stands_between_inspector_and_judge() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SAMPLED)).status == 200
        for side in (mesh.web.outbound, mesh.api.inbound):
            [(relay, _)] = list(side.relays)
            assert isinstance(relay, HttpRelay)
            assert not isinstance(relay.inspector._judge, TracedJudge)
            assert relay.inspector._judge is relay
        client.close()


async def test_grpc_calls_are_traced_before_and_after_their_tables_part() -> None:
    """A replaced field puts the two tables of a connection out of step: what is called after it must still be right."""

    class Told(Echo):
        def __init__(self) -> None:
            super().__init__()
            self.contexts: list[list[str]] = []

        def service(self, details):  # type: ignore[no-untyped-def]
            self.contexts.append([str(value) for name, value in details.invocation_metadata if name == "traceparent"])
            return super().service(details)

    told = Told()
    sampled, unsampled = SAMPLED.split()[1], UNSAMPLED.split()[1]
    async with (
        grpc_app(told) as app,
        Mesh(http_app=app, http=Protocol.GRPC, rules=(ECHO,), traced=0.0) as mesh,
        channel(mesh) as made,
    ):
        call = made.unary_unary("/test.Echo/One")
        for given in (None, sampled, unsampled, sampled, None):
            metadata = [("traceparent", given)] if given else None
            assert await call(b"abc", metadata=metadata) == b"cba"
        await spans(mesh, 2)
    assert told.contexts[0] == told.contexts[4] == []
    assert told.contexts[2] == [unsampled]
    assert [context for at in (1, 3) for context in told.contexts[at]] == [
        f"00-{TRACE}-{span.span_id}-01" for span in mesh.api.spans
    ]
    assert [span.parent_id for span in mesh.api.spans] == [span.span_id for span in mesh.web.spans]
    assert {span.parent_id for span in mesh.web.spans} == {SPAN}
    assert mesh.web.spans[0].attributes["url.path"] == "/test.Echo/One"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_sidecars_of_a_mesh_export_what_the_mesh_file_asks_for(tmp_path: Path) -> None:
    names = ("join", "listen", "signals", "web_mesh", "web", "http_listen", "tcp_listen", "api_mesh", "api")
    ports = {name: free_port() for name in names}
    secret = tmp_path / "headers"
    secret.write_text("authorization: Bearer abc\n")
    secret.chmod(0o600)
    async with http_app() as http:
        with collector() as (endpoint, seen):
            (tmp_path / "policies").mkdir()
            (tmp_path / "policies" / "api.yaml").write_text(POLICY)
            tracing = f'  tracing: {{endpoint: "{endpoint}", sample: 1, headersFile: headers}}\n  services:'
            mesh = MESH.format(http_app=http, tcp_app=free_port(), **ports).replace("  services:", tracing)
            (tmp_path / "mesh.yaml").write_text(mesh)
            marked = Marked(XDG_CONFIG_HOME=str(tmp_path / "config"))
            with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=tmp_path) as command:
                await asyncio.to_thread(command.wait_for_stdout, "\n")
                client = await HttpClient.to(ports["http_listen"])
                assert (await client.ask("GET", "/orders/1")).status == 200

                def told() -> dict[str, tuple[str, str]]:
                    """By service: trace and parent of its span."""
                    return {
                        next(one.value.string_value for one in by.resource.attributes if one.key == "service.name"): (
                            span.trace_id.hex(),
                            span.parent_span_id.hex(),
                        )
                        for _, message in seen
                        for by in message.resource_spans
                        for scope in by.scope_spans
                        for span in scope.spans
                    }

                await until(lambda: told().keys() == {"web", "api"}, 60)
                client.close()
    found = told()
    assert found["web"][0] == found["api"][0]
    assert (found["web"][1], len(found["api"][1])) == ("", 16)
    assert {headers["authorization"] for headers, _ in seen} == {"Bearer abc"}


async def test_calls_that_are_spread_over_endpoints_are_traced_one_by_one() -> None:
    async with spread() as (mesh, instances, _):
        mesh.web.recorder.tracer = Tracer(sample=0.0, sink=mesh.web, clock=mesh.web.clock)
        async with spread_channel(mesh) as made:
            call = made.unary_unary("/test.Echo/One")
            number = 0
            while not all(instance.metadata for instance in instances):  # chance chooses among them
                await call(b"%d" % number, metadata=[("traceparent", SAMPLED.split()[1])])
                number += 1
            await call(b"plain")
        await until(lambda: len(mesh.web.spans) == number)
        told = [metadata for instance in instances for metadata in instance.metadata]
        assert sorted(str(metadata.get("traceparent", "")) for metadata in told) == sorted(
            ["", *(f"00-{TRACE}-{span.span_id}-01" for span in mesh.web.spans)]
        )
        assert {span.parent_id for span in mesh.web.spans} == {SPAN}
