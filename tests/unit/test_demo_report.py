"""What a round of calls adds up to, in the table, in the one line and in the JSON object."""

from __future__ import annotations

from controlplane.demo.calls import CallResult, Observed, failed, permitted, refused
from controlplane.demo.report import document, table, verdict


def _result(expected: str, observed: Observed) -> CallResult:
    return CallResult(
        source="web",
        target="orders",
        protocol="http",
        request="GET /",
        expected=expected,
        observed=observed,
        milliseconds=1.26,
    )


GOOD = _result("permitted: 200", permitted("200", reason="shop/orders-callers: web-reads"))
DENIED = _result("refused: expired", refused("expired", told_by="shop/orders sidecar", story="handshake refused"))
WRONG = _result("refused: expired", permitted("200"))
BROKEN = _result("permitted: 200", failed("connection refused"))


def test_all_is_well_only_if_every_call_came_out_as_expected() -> None:
    assert document([GOOD, DENIED], {})["ok"] is True
    assert document([GOOD, WRONG], {})["ok"] is False
    assert document([GOOD, BROKEN], {})["ok"] is False


def test_another_reason_than_the_expected_one_is_a_difference() -> None:
    assert not _result("refused: expired", refused("untrusted")).as_expected


def test_a_call_has_the_promised_fields_and_the_facts_of_the_mesh_stand_beside() -> None:
    told = document([DENIED], {"mesh": "shop"})
    assert told["mesh"] == "shop"
    assert told["calls"] == [
        {
            "from": "web",
            "to": "orders",
            "protocol": "http",
            "request": "GET /",
            "expected": "refused: expired",
            "observed": "refused: expired",
            "reason": "expired",
            "milliseconds": 1.3,
            "told_by": "shop/orders sidecar",
            "story": "handshake refused",
        }
    ]


def test_the_table_marks_what_differs_and_tells_who_refused_and_why() -> None:
    lines = table([GOOD, DENIED, WRONG]).splitlines()
    assert [line[:2] for line in lines[2:]] == ["ok", "ok", "  ", "!!"]
    assert lines[4].strip() == "shop/orders sidecar: handshake refused"


def test_the_verdict_counts_calls_reasons_and_differences() -> None:
    assert verdict([GOOD, DENIED]) == "2 calls, 1 permitted, 1 different reasons of refusal, all as expected"
    assert verdict([GOOD, WRONG, BROKEN]).endswith("2 NOT as expected")
