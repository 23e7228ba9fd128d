"""Taps: whom a filter wants, and what a slow reader costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.tap import QUEUE_LIMIT_LINES, Seen, Tap, TapFilter, TapFilterError, Taps, read_filter

WEB = "spiffe://shop.example/ns/shop/sa/web"


def seen(caller: str = WEB, service: str = "shop/orders", denied: bool = False) -> Seen:
    return Seen(caller=caller, service=service, denied=denied)


@pytest.mark.parametrize(
    ("query", "wanted", "unwanted"),
    [
        ("", seen(), None),
        ("denied=1", seen(denied=True), seen()),
        ("denied=0", seen(), None),
        ("from=web", seen(), seen(caller="spiffe://shop.example/ns/shop/sa/webber")),
        ("from=shop/web", seen(), seen(caller="spiffe://shop.example/ns/other/sa/web")),
        (f"from={WEB}", seen(), seen(caller=WEB + "2")),
        ("from=spiffe%3A%2F%2Fshop.example%2Fns%2Fshop%2Fsa%2Fweb", seen(), seen(caller="")),
        ("from=web", seen(), seen(caller="")),
        ("from=web", seen(), seen(caller="spiffe://shop.example/job/ns/shop/sa/web")),
        ("to=orders", seen(), seen(service="shop/borders")),
        ("to=shop/orders", seen(), seen(service="other/orders")),
        ("denied=1&to=orders", seen(denied=True), seen(service="shop/other", denied=True)),
    ],
)
def test_a_filter_takes_what_it_names_and_nothing_else(query: str, wanted: Seen, unwanted: Seen | None) -> None:
    made = read_filter(query)
    assert made.wants(wanted)
    assert unwanted is None or not made.wants(unwanted)


def test_a_filter_of_several_kinds_takes_what_is_of_one() -> None:
    would, shadow = replace(seen(), would_deny=True), replace(seen(), shadow=True)
    told = (would, shadow, seen(denied=True), seen())
    assert [read_filter("would_deny=1").wants(one) for one in told] == [True, False, False, False]
    either = read_filter("denied=1&shadow=1&to=orders")
    assert [either.wants(one) for one in told] == [False, True, True, False]
    assert not either.wants(seen(service="shop/other", denied=True))


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("denied=yes", "denied"),
        ("would_deny=x", "would_deny"),
        ("shadow=2", "shadow"),
        ("would-deny=1", "unknown filter"),
        ("denied=1&denied=1", "twice"),
        ("form=web", "unknown filter 'form'"),
        ("from=", "from"),
        ("to=a/b/c", "namespace/name"),
        ("to=/orders", "to"),
        ("from=spiffe://sh!op/ns", "from"),
        ("to=%ff", "not a query"),
        ("to=%1b[0m", "to"),
        ("orders", "not a query"),
        ("&".join("to=a" for _ in range(9)), "not a query"),
        ("to=" + "a" * 3000, "to"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_by_name(query: str, word: str) -> None:
    with pytest.raises(TapFilterError, match=word):
        read_filter(query)


class Reader:
    """A tap with its schedule and its writes in hand."""

    def __init__(self, taps: Taps, wanted: TapFilter = TapFilter()) -> None:  # noqa: B008 - frozen
        self.later: list[Callable[[], None]] = []
        self.writes: list[bytes] = []
        self.tap = Tap(taps, wanted, self.later.append)
        self.tap.started(self.writes.append)

    def turn(self) -> None:
        while self.later:
            self.later.pop()()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in b"".join(self.writes).splitlines()]


def tell(taps: Taps, number: int, denied: bool = False) -> None:
    taps.tell(seen(denied=denied), lambda: {"number": number})


def test_the_lines_of_a_turn_leave_in_one_write() -> None:
    taps = Taps()
    reader = Reader(taps)
    for number in range(5):
        tell(taps, number)
    assert reader.writes == []
    reader.turn()
    assert len(reader.writes) == 1
    assert [line["number"] for line in reader.lines()] == [0, 1, 2, 3, 4]


def test_what_a_slow_reader_misses_is_dropped_and_told_with_the_next_line() -> None:
    taps = Taps()
    slow, quick = Reader(taps), Reader(taps)
    slow.tap.full()
    for number in range(QUEUE_LIMIT_LINES + 7):
        tell(taps, number)
        quick.turn()
    slow.turn()
    assert slow.writes == []
    assert len(quick.lines()) == QUEUE_LIMIT_LINES + 7
    slow.tap.room()
    tell(taps, 5000)
    slow.turn()
    lines = slow.lines()
    assert len(lines) == QUEUE_LIMIT_LINES + 1
    assert lines[-1] == {"number": 5000, "missed": 7}
    assert all("missed" not in line for line in [*lines[:-1], *quick.lines()])
    tell(taps, 5001)
    slow.turn()
    assert slow.lines()[-1] == {"number": 5001}


def test_no_line_is_made_that_nobody_wants() -> None:
    taps = Taps()
    made: list[int] = []
    reader = Reader(taps, TapFilter(denied=True))
    taps.tell(seen(), lambda: made.append(1) or {})  # type: ignore[func-returns-value]
    assert made == []
    tell(taps, 1, denied=True)
    reader.turn()
    assert len(reader.lines()) == 1


def test_taps_tell_whether_any_is_open() -> None:
    taps = Taps()
    changes: list[bool] = []
    taps.changed = lambda: changes.append(taps.any)
    one, two = Reader(taps), Reader(taps)
    one.tap.gone()
    assert taps.any
    two.tap.gone()
    two.tap.gone()
    assert changes == [True, True, True, False, False]
    assert len(taps) == 0


def test_a_line_is_ascii_whatever_a_peer_sent() -> None:
    taps = Taps()
    reader = Reader(taps)
    taps.tell(seen(), lambda: {"target": "/\x1b[2J\x9b\udcff"})
    reader.turn()
    assert reader.writes[0].isascii()
    assert b"\x1b" not in reader.writes[0]
