"""What is counted of calls: alike calls once, paths by their shape, never more than so much, whatever callers do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.policy.decision import Deny, Permit
from ringfence.policy.learning.flow import Verdict
from ringfence.policy.lists import METHODS as DOCUMENT_METHODS
from ringfence.policy.paths import judged_path
from ringfence.policy.reasons import DenyReason
from sidecar.flows import table as limits
from sidecar.flows.places import LIMIT_PLACES, LIMIT_WORDS
from sidecar.flows.reports import absorb, take_reports
from sidecar.flows.rows import Row
from sidecar.flows.table import FlowTable
from sidecar.http1.lines import METHODS

PERMIT = Permit("shop/orders-callers", "web-reads")
OBSERVED = Permit("", "", DenyReason.PATH_NOT_ALLOWED, "shop/orders-callers/web-reads")
REFUSED = Deny(DenyReason.CALLER_NOT_ALLOWED)
WEB = "spiffe://shop.example/ns/shop/sa/web"


def made() -> FlowTable:
    return FlowTable(lambda: 1000.0)


def taken(table: FlowTable) -> dict[tuple[str, str, str, str], Row]:
    return {
        (f.caller, row.key.verdict, row.key.method, row.key.path): row for f, rows in table.take()[0] for row in rows
    }


def test_calls_that_are_alike_are_one_row_and_others_are_not() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    for _ in range(3):
        flows.seen(PERMIT, b"GET", b"/orders")
    flows.seen(PERMIT, b"POST", b"/orders")
    flows.seen(OBSERVED, b"GET", b"/orders/7")
    flows.seen(REFUSED, b"GET", b"/orders/8")
    rows = taken(table)
    assert {key[1:]: row.count for key, row in rows.items()} == {
        ("permit", "GET", "/orders"): 3,
        ("permit", "POST", "/orders"): 1,
        ("would_deny", "GET", "/orders/{id}"): 1,
        ("deny", "GET", "/orders/{id}"): 1,
    }
    would_deny = next(row.key for row in rows.values() if row.key.verdict is Verdict.WOULD_DENY)
    assert would_deny.reason == "path_not_allowed"
    assert would_deny.rule == "shop/orders-callers/web-reads"
    assert table.empty


def test_a_report_begins_anew_also_for_relays_that_live_on() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    flows.seen(PERMIT, b"GET", b"/orders")
    assert len(taken(table)) == 1
    flows.seen(PERMIT, b"GET", b"/orders")
    flows.seen(PERMIT, b"GET", b"/orders")
    assert [row.count for row in taken(table).values()] == [2]


def test_no_query_is_kept_and_none_makes_a_row() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    for number in range(100):
        flows.seen(PERMIT, b"GET", b"/orders?token=secret%d" % number)
    rows = taken(table)
    assert [row.count for row in rows.values()] == [100]
    assert "secret" not in repr([row.key for row in rows.values()])


def test_what_is_ambiguous_and_an_odd_method_leave_no_words_of_the_caller() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    flows.seen(Deny(DenyReason.PATH_AMBIGUOUS), b"GET", b"/a/../b")
    flows.seen(PERMIT, b"BREW-SECRET", b"/pot")
    flows.seen(PERMIT, b"OPTIONS", b"*")
    assert {key[2:] for key in taken(table)} == {("GET", ""), ("{other}", "/pot"), ("OPTIONS", "*")}


def test_a_place_with_many_words_becomes_a_parameter_and_forgets_them() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    names = [b"name-" + bytes((65 + number // 26, 65 + number % 26)) for number in range(LIMIT_WORDS)]
    for name in names:
        flows.seen(PERMIT, b"GET", b"/users/" + name + b"/cart")
    assert len(flows._rows) == LIMIT_WORDS
    flows.seen(PERMIT, b"GET", b"/users/one-more/cart")
    rows = taken(table)
    assert [(key[3], row.count) for key, row in rows.items()] == [("/users/{word}/cart", LIMIT_WORDS + 1)]
    flows.seen(PERMIT, b"GET", b"/users/another/cart")
    assert [key[3] for key in taken(table)] == ["/users/{word}/cart"]


def test_words_that_are_met_often_keep_their_names_when_others_are_merged() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    for _ in range(30):
        flows.seen(PERMIT, b"GET", b"/orders")
    taken(table)
    for _ in range(30):
        flows.seen(PERMIT, b"GET", b"/healthz")
    for number in range(LIMIT_WORDS + 10):
        flows.seen(PERMIT, b"GET", b"/probe-" + bytes((65 + number // 26, 65 + number % 26)))
    flows.seen(PERMIT, b"GET", b"/orders")
    assert {key[3]: row.count for key, row in taken(table).items()} == {
        "/healthz": 30,
        "/orders": 1,
        "/{word}": LIMIT_WORDS + 10,
    }


def test_what_is_refused_does_not_merge_what_passes() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    for number in range(LIMIT_WORDS + 10):
        flows.seen(REFUSED, b"GET", b"/probe-" + bytes((65 + number // 26, 65 + number % 26)))
    flows.seen(PERMIT, b"GET", b"/orders")
    assert {key[1:] for key in taken(table)} == {("deny", "GET", "/{word}"), ("permit", "GET", "/orders")}


def test_another_caller_does_not_merge_the_paths_of_this_one() -> None:
    table = made()
    for number in range(LIMIT_WORDS + 10):
        table.of("spiffe://evil.example/x", 8080, "http").seen(
            OBSERVED, b"GET", b"/probe-" + bytes((65 + number // 26, 65 + number % 26))
        )
    table.of(WEB, 8080, "http").seen(PERMIT, b"GET", b"/orders")
    assert (WEB, "permit", "GET", "/orders") in taken(table)


def test_the_places_of_one_caller_are_bounded() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    word = [bytes((97 + number // 26, 97 + number % 26)) for number in range(40)]
    for first in word:
        for second in word[:20]:
            flows.seen(PERMIT, b"GET", b"/" + first + b"/" + second + b"/leaf/end")
    assert len(flows._places[True]._words) <= LIMIT_PLACES
    assert any(key[3].endswith("{rest}") for key in taken(table))


def test_misses_are_counted_with_their_call_and_never_beyond() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    flows.missed(b"GET", b"/nothing")
    flows.seen(PERMIT, b"GET", b"/nothing")
    flows.missed(b"GET", b"/nothing")
    flows.missed(b"GET", b"/nothing")
    assert [(row.count, row.missed) for row in taken(table).values()] == [(1, 1)]


def test_a_shadow_verdict_is_a_row_of_its_own() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    flows.seen(PERMIT, b"GET", b"/orders", PERMIT)
    flows.seen(PERMIT, b"GET", b"/orders", REFUSED)
    flows.seen(PERMIT, b"GET", b"/orders")
    shadows = sorted(row.key.shadow for _, rows in table.take()[0] for row in rows)
    assert shadows == ["", "caller_not_allowed", "permit"]


def test_refused_calls_cannot_fill_the_table_for_those_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_ROWS", 10)
    table = made()
    for number in range(30):
        table.of(f"spiffe://evil.example/{number}", 8080, "http").seen(REFUSED, b"GET", b"/orders")
    assert table.unrecorded == 20
    assert table.crowded
    table.of(WEB, 8080, "http").seen(PERMIT, b"GET", b"/orders")
    assert (WEB, "permit", "GET", "/orders") in taken(table)
    assert table.unrecorded == 0
    assert not table.crowded


def test_one_caller_cannot_fill_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_CALLER_ROWS", 5)
    table = made()
    flows = table.of(WEB, 8080, "http")
    for method in (b"GET", b"PUT"):
        for word in (b"/a", b"/b", b"/c", b"/d"):
            flows.seen(PERMIT, method, word)
    table.of("spiffe://shop.example/ns/shop/sa/cart", 8080, "http").seen(PERMIT, b"GET", b"/a")
    found, unrecorded = table.take()
    assert unrecorded == 3
    assert [len(rows) for _, rows in found] == [5, 1]


def test_calls_that_are_all_new_are_looked_at_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_LOOKS", 100)
    table = made()
    flows = table.of(WEB, 8080, "http")
    for number in range(300):
        flows.seen(PERMIT, b"GET", b"/orders/n-" + bytes(97 + number // 26**n % 26 for n in range(3)))
    found, unrecorded = table.take()
    assert [row.count for _, rows in found for row in rows] == [100]
    assert unrecorded == 200
    flows.seen(PERMIT, b"GET", b"/orders/1")
    assert table.take()[1] == 0


def test_callers_are_bounded_and_one_that_was_let_go_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_CALLERS", 3)
    table = made()
    first = table.of("spiffe://a.example/0", 1, "tcp")
    for number in range(1, 6):
        table.of(f"spiffe://a.example/{number}", 1, "tcp")
    assert len(table._callers) == 3
    first.connected(PERMIT)
    assert [f.caller for f, _ in table.take()[0]] == ["spiffe://a.example/0"]


def test_connections_have_neither_method_nor_path() -> None:
    table = made()
    table.of(WEB, 5432, "tcp").connected(PERMIT)
    table.of(WEB, 5432, "tcp").connected(PERMIT)
    assert {key: row.count for key, row in taken(table).items()} == {(WEB, "permit", "", ""): 2}


def test_calls_that_differ_in_numbers_uuids_and_queries_alone_need_no_second_look() -> None:
    table = made()
    flows = table.of(WEB, 8080, "http")
    for number in range(50):
        flows.seen(PERMIT, b"GET", b"/orders/%d/lines?page=%d" % (100 + number, number))
        flows.seen(PERMIT, b"GET", b"/blobs/%08x-1234-4abc-8def-%012x" % (number * 7919, number * 104729))
        flows.seen(PERMIT, b"GET", b"/v%d/status" % (number % 3))
        flows.missed(b"GET", b"/orders/%d/lines?page=%d" % (100 + number, number))
    assert flows._looks == 2 + 3
    assert {key[3]: (row.count, row.missed) for key, row in taken(table).items()} == {
        "/orders/{id}/lines": (50, 50),
        "/blobs/{id}": (50, 0),
        "/v0/status": (17, 0),
        "/v1/status": (17, 0),
        "/v2/status": (16, 0),
    }


def test_what_is_remembered_of_all_callers_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_KNOWN_OF_ALL", 30)
    table = made()
    for caller in range(10):
        flows = table.of(f"spiffe://shop.example/ns/shop/sa/c{caller}", 8080, "http")
        for word in (b"a", b"b", b"c", b"d" * 600):
            flows.seen(PERMIT, b"GET", b"/" + word)
    assert table.known == 30
    assert sum(len(one._known) + len(one._alike) for one in table._callers.values()) == 30
    found, unrecorded = table.take()
    assert sum(row.count for _, rows in found for row in rows) == 40
    assert unrecorded == 0
    assert table.known == 0


@given(st.lists(st.text("019af-/.vx%Z", max_size=14).map(lambda text: b"/" + text.encode()), min_size=2, max_size=40))
def test_short_cuts_lead_to_the_shape_that_a_look_finds(paths: list[bytes]) -> None:
    table, plain = made(), made()
    for path in paths:
        decision = PERMIT if judged_path(path) is not None else REFUSED
        table.of(WEB, 8080, "http").seen(decision, b"GET", path)
        plain.of(WEB, 8080, "http")._forget()
        plain.of(WEB, 8080, "http").seen(decision, b"GET", path)
    counts = [{key: row.count for key, row in taken(one).items()} for one in (table, plain)]
    assert counts[0] == counts[1]


def test_the_methods_that_are_kept_are_those_that_a_rule_can_name() -> None:
    assert {method.decode() for method in METHODS} == set(DOCUMENT_METHODS)


def test_whoever_has_no_identity_is_told_by_its_address_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LIMIT_ADDRESSES", 2)
    table = made()
    for number in (1, 2, 3, 4, 1):
        table.of("", 8080, "http", f"10.0.0.{number}").seen(OBSERVED, b"GET", b"/orders")
    table.of("", 8080, "http", "10.0.0.1").seen(REFUSED, b"GET", b"/admin")
    [report] = take_reports(table)
    told = sorted((flow.address, flow.path, flow.count) for flow in report.flows)
    assert told == [("", "/admin", 1), ("", "/orders", 2), ("10.0.0.1", "/orders", 2), ("10.0.0.2", "/orders", 1)]
    parent = made()
    absorb(parent, report.SerializeToString())
    [again] = take_reports(parent)
    assert sorted((flow.address, flow.path, flow.count) for flow in again.flows) == told
