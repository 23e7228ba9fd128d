"""What counts as a trace context, and which traces belong to a share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http1 import Heads
from sidecar.http2.heads import Heads as Heads2
from sidecar.http2.literal import encode
from sidecar.trace_context import SEVERAL, is_drawn, parse_traceparent, traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01".encode()


def test_a_lawful_value_is_read() -> None:
    context = parse_traceparent(GOOD)
    assert context is not None
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, SPAN, True)
    unsampled = parse_traceparent(GOOD[:-2] + b"00")
    assert unsampled is not None
    assert not unsampled.sampled
    assert parse_traceparent(b"01" + GOOD[2:] + b"-what-a-later-version-has") is not None
    assert parse_traceparent(b"cc" + GOOD[2:]) is not None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        SEVERAL,
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-more",
        b"ff" + GOOD[2:],
        b" " + GOOD,
        GOOD + b" ",
        GOOD.replace(b"-", b"_"),
        GOOD.replace(TRACE.encode(), b"0" * 32),
        GOOD.replace(SPAN.encode(), b"0" * 16),
        GOOD.replace(b"4bf9", b"4bg9"),
        GOOD + b"," + GOOD,
        b"01" + GOOD[2:] + b"more",
        b"01" + GOOD[2:] + b"-" + b"x" * 257,
        GOOD.decode().encode("utf-16"),
    ],
)
def test_its_neighbour_counts_as_absent(value: bytes) -> None:
    assert parse_traceparent(value) is None


@given(st.binary(max_size=80))
def test_whatever_is_read_is_of_the_form(value: bytes) -> None:
    context = parse_traceparent(value)
    if context is not None:
        assert parse_traceparent(traceparent(context.trace_id, context.parent_id)) is not None


@given(st.integers(0, 2**128 - 1), st.floats(0, 1), st.floats(0, 1))
def test_a_trace_of_a_small_share_belongs_to_every_larger_one(number: int, one: float, other: float) -> None:
    trace_id = f"{number:032x}"
    small, large = sorted((one, other))
    assert is_drawn(trace_id, large) or not is_drawn(trace_id, small)
    assert is_drawn(trace_id, 1.0)
    assert not is_drawn(trace_id, 0.0)


def test_one_value_is_found_in_a_head_of_http1_and_several_count_as_none() -> None:
    def of(*lines: bytes) -> bytes:
        block = b" HTTP/1.1\r\n" + b"\r\n".join([b"host: api", *lines]) + b"\r\n\r\n"
        return Heads().judge_request(block).traceparent

    assert of() == b""
    assert of(b"x-traceparent: a", b"a: traceparent: b") == b""
    assert of(b"TraceParent:  " + GOOD + b" \t") == GOOD
    assert of(b"traceparent:") == b""
    assert of(b"traceparent: a", b"traceparent: a") == SEVERAL


def test_one_value_is_found_in_a_head_of_http2_and_several_count_as_none() -> None:
    def of(*values: bytes) -> bytes:
        heads = Heads2()
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"api")]
        fields += [(b"traceparent", value) for value in values]
        return heads.request(heads.read(encode(fields), heads.request_table, 4096)).traceparent

    assert of() == b""
    assert of(GOOD) == GOOD
    assert of(GOOD, GOOD) == SEVERAL
