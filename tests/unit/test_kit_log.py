"""Structured log lines: one JSON object a line, whatever a peer puts into a field."""

from __future__ import annotations

import io
import json

import pytest

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.policy.reasons import DenyReason


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().split("\n") if line]


def test_a_line_has_time_level_logger_message_and_fields(clock: FakeClock) -> None:
    stream = io.StringIO()
    log = Logger("ca", stream=stream, clock=clock, fields={"a": 1}).bind("desk", b=True)
    clock.advance(0.25)
    log.info("issued", spiffe_id="spiffe://a/b", none=None, share=0.5)
    assert logged(stream) == [
        {
            "ts": "2027-01-15T08:00:00.250Z",
            "level": "info",
            "logger": "desk",
            "msg": "issued",
            "a": 1,
            "b": True,
            "spiffe_id": "spiffe://a/b",
            "none": None,
            "share": 0.5,
        }
    ]


def test_below_its_level_nothing_is_written_and_the_level_is_the_whole_family_s() -> None:
    stream = io.StringIO()
    log = Logger("a", stream=stream, level="warning")
    child = log.bind("b")
    child.info("no")
    log.set_level("info")
    child.info("yes")
    child.debug("no")
    assert [line["msg"] for line in logged(stream)] == ["yes"]


@pytest.mark.parametrize(
    "value",
    ["a\nb", "a\r\x1b[2Jb", "a\x9b2Jb", "a\x85b", "a\u2028b", "a\u202eb", "a\x00\x7fb", "caf\u00e9", "\udcff"],
)
def test_no_value_ends_a_line_or_speaks_to_a_terminal(value: str) -> None:
    stream = io.StringIO()
    Logger("a", stream=stream).warning("refused", detail=value, listed=[value], mapped={value: value})
    text = stream.getvalue()
    assert text.isascii()
    assert text[:-1].isprintable()
    [line] = logged(stream)
    assert (line["detail"], line["listed"], line["mapped"]) == (value, [value], {value: value})


def test_values_are_bounded_and_bytes_shown() -> None:
    stream = io.StringIO()
    Logger("a", stream=stream).info("x", long="y" * 10_000, raw=b"\xff", many=list(range(1000)), odd=ValueError("z"))
    [line] = logged(stream)
    assert line["long"] == "y" * 2048 + "…"
    assert line["raw"] == "\\xff"
    assert line["many"] == list(range(64))
    assert line["odd"] == "z"


@pytest.mark.parametrize(
    "value",
    [
        0,
        -7,
        True,
        None,
        1.5,
        1e300,
        float("inf"),
        "",
        'a"b\\c\n\x1b[31m€',
        "x" * 5000,
        b"\xff\x00",
        DenyReason.OVERLOADED,
        [1, "two", None],
        {"key": 3.0},
        object,
    ],
)
def test_a_line_is_the_json_of_its_values_however_it_is_put_together(value: object) -> None:
    """A field that stands in the place of a bound one makes the line whole; the others are put together from parts."""
    parts, whole = io.StringIO(), io.StringIO()
    clock = FakeClock(0.0)
    Logger("test", stream=parts, clock=clock, fields={"bound": 1}).info("said", field=value, last=1)
    Logger("test", stream=whole, clock=clock, fields={"bound": 0}).info("said", bound=1, field=value, last=1)
    assert parts.getvalue() == whole.getvalue()
    assert parts.getvalue().isascii()
    assert parts.getvalue().count("\n") == 1
