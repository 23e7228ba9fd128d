"""The export format: what is written is read back, and whatever else is refused with its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.flow_file import FlowFile, file_lines, flow_document, read_file
from ringfence.spiffe import SpiffeId

WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
FLOW = Flow(
    caller=WEB,
    service="shop/orders",
    port=8080,
    protocol="http",
    method="GET",
    path="/orders/{id}",
    verdict=Verdict.PERMIT,
    rule="shop/orders-callers/web-reads",
    count=3,
    missed=1,
    first_seen=1_700_000_000.25,
    last_seen=1_700_000_001.5,
)


def content(file: FlowFile) -> bytes:
    return "".join(f"{line}\n" for line in file_lines(file)).encode()


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    verdict = draw(st.sampled_from(Verdict))
    opaque = draw(st.booleans())
    words = st.sampled_from(["orders", "{id}", "v1", "{word}", ""])
    first = draw(st.integers(1, 2**39))
    count = draw(st.integers(1, 2**53))
    caller = draw(st.sampled_from([None, WEB]))
    return Flow(
        caller=caller,
        address="" if caller is not None else draw(st.sampled_from(["", "10.0.0.7", "fd00::7"])),
        service="shop/orders",
        port=draw(st.integers(1, 65535)),
        protocol="tcp" if opaque else draw(st.sampled_from(["http", "http2", "grpc"])),
        method="" if opaque else draw(st.sampled_from(["GET", "PROPFIND", "{other}"])),
        path="" if opaque else "/v/" + "/".join(draw(st.lists(words.filter(bool), min_size=1, max_size=4))),
        verdict=verdict,
        rule="shop/a/b" if verdict is Verdict.PERMIT else draw(st.sampled_from(["", "shop/a/b"])),
        reason="" if verdict is Verdict.PERMIT else "caller_not_allowed",
        shadow=draw(st.sampled_from(["", "permit", "denylisted"])),
        count=count,
        missed=draw(st.integers(0, count)),
        first_seen=float(first % 2**34 + 1),
        last_seen=float(first % 2**34 + 1 + draw(st.integers(0, 1000))),
    )


@given(st.lists(flows(), max_size=5), st.dictionaries(st.just("shop/orders"), st.integers(0, 2**53)))
def test_what_is_written_is_read_back(found: list[Flow], unrecorded: dict[str, int]) -> None:
    file = FlowFile(flows=tuple(found), unrecorded=unrecorded)
    assert read_file(content(file), "flows.jsonl") == (file, [])


def problem_of(*lines: str) -> str:
    file, problems = read_file("\n".join(lines).encode(), "flows.jsonl")
    assert file == FlowFile()
    return str(problems[0])


HEAD = '{"format": "ringfence flows 1", "unrecorded": {}}'


def changed(**changes: object) -> str:
    return json.dumps({**flow_document(FLOW), **changes})


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([""], "flows.jsonl:1:1: line is no JSON"),
        (["[]"], "flows.jsonl:1:1: line is no JSON object"),
        (['{"format": "ringfence flows 2", "unrecorded": {}}'], "flows.jsonl:1:1: first line has no format"),
        (['{"format": "ringfence flows 1"}'], "flows.jsonl:1:1: first line has other fields"),
        (['{"format": "ringfence flows 1", "unrecorded": {"a": -1}}'], "flows.jsonl:1:1: unrecorded of 'a'"),
        ([HEAD, "nonsense"], "flows.jsonl:2:1: line is no JSON"),
        ([HEAD, changed(), '{"count": 1, "count": 2}'], "flows.jsonl:3:1: line is no JSON"),
        ([HEAD, "[" * 100_000], "flows.jsonl:2:1: line of more than"),
        ([HEAD, "[" * 10_000], "flows.jsonl:2:1: line is no JSON"),
        ([HEAD, changed(pth="/x")], "flows.jsonl:2:1: unknown field 'pth' (did you mean path?)"),
        ([HEAD, "{}"], "flows.jsonl:2:1: caller is missing"),
        ([HEAD, changed(caller="web")], "flows.jsonl:2:1: caller"),
        ([HEAD, changed(caller=7)], "flows.jsonl:2:1: caller is no text"),
        ([HEAD, changed(service="orders")], "flows.jsonl:2:1: service 'orders' is not <namespace>/<name>"),
        ([HEAD, changed(port=True)], "flows.jsonl:2:1: port is no whole number"),
        ([HEAD, changed(port=0)], "flows.jsonl:2:1: port '0' is not from 1"),
        ([HEAD, changed(count=1.5)], "flows.jsonl:2:1: count is no whole number"),
        ([HEAD, changed(missed=4)], "flows.jsonl:2:1: missed '4' is not from 0 to count"),
        ([HEAD, changed(verdict="maybe")], "flows.jsonl:2:1: verdict 'maybe' is unknown"),
        ([HEAD, changed(path="/a/../b")], "flows.jsonl:2:1: path '/a/../b' is not as the judge spells it"),
        ([HEAD, changed(path="/a/x{id}")], "flows.jsonl:2:1: path '/a/x{id}' is not as the judge spells it"),
        ([HEAD, changed(path="/{rest}/a")], "flows.jsonl:2:1: path '/{rest}/a' has {rest} before its end"),
        ([HEAD, changed(method="get")], "flows.jsonl:2:1: method 'get' is no upper-case word"),
        ([HEAD, changed(first_seen="2026-03-01")], "flows.jsonl:2:1: first_seen '2026-03-01' is no time"),
        ([HEAD, changed(last_seen="1999-03-01T12:00:00Z")], "flows.jsonl:2:1: last_seen"),
    ],
)
def test_whatever_else_is_refused_with_its_line(lines: list[str], told: str) -> None:
    assert problem_of(*lines).startswith(told)


def test_all_problems_are_told_and_nothing_is_taken_of_a_file_that_has_any() -> None:
    lines = [HEAD, changed(port=0), changed(), changed(port=0)]
    file, problems = read_file("\n".join(lines).encode(), "f")
    assert file.flows == ()
    assert [problem.line for problem in problems] == [2, 4]


def test_a_file_of_an_earlier_release_has_no_addresses() -> None:
    lines = content(FlowFile(flows=(FLOW,))).decode().replace(', "address": ""', "")
    assert "address" not in lines
    assert read_file(lines.encode(), "flows.jsonl") == (FlowFile(flows=(FLOW,)), [])
