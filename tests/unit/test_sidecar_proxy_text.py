"""What an operator reads of the admin socket's documents."""

from __future__ import annotations

import pytest

from sidecar.proxy_text import certs_lines, connections_lines, duration, size, tap_line

WEB = "spiffe://shop.example/ns/shop/sa/web"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.9, "59 s"), (200, "3 m 20 s"), (7500, "2 h 5 m"), (4 * 86400 + 3600, "4 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")])
def test_sizes_have_a_unit(count: int, text: str) -> None:
    assert size(count) == text


def test_an_svid_that_is_over_is_said_to_be() -> None:
    svid = {"spiffe_id": WEB, "serial": "0a", "not_before": "x", "not_after": "y", "left_seconds": 0.0}
    bundles = [{"trust_domain": "shop.example", "roots": ["ab"]}]
    assert "left          none: it is over" in list(certs_lines({"svid": svid, "bundles": bundles}))
    assert next(certs_lines({"svid": None, "bundles": []})) == "SVID          none yet"


def test_what_was_left_out_is_told() -> None:
    document = {
        "connections": [], "connections_left_out": 3, "links": [], "links_left_out": 0,
        "endpoints": [], "endpoints_left_out": 0,
    }  # fmt: skip
    assert "and 3 more connections (--limit shows more)" in list(connections_lines(document))


def test_an_endpoint_that_is_left_out_tells_for_how_long() -> None:
    endpoint = {
        "service": "shop/api", "port": 8080, "endpoint": "10.0.0.1:15008", "state": "left out",
        "left_out_seconds": 90.0, "connections": 1, "calls": 2, "latency_ms": 1.5, "failures": 0,
    }  # fmt: skip
    document = {
        "connections": [], "connections_left_out": 0, "links": [], "links_left_out": 0,
        "endpoints": [endpoint], "endpoints_left_out": 0,
    }  # fmt: skip
    assert any("10.0.0.1:15008" in line and "left out for 1 m" in line for line in connections_lines(document))


def test_a_denied_request_tells_its_reason_and_id() -> None:
    line = tap_line(
        {
            "ts": 1.25, "event": "request", "direction": "inbound", "decision": "deny", "from": WEB,
            "to": "shop/orders", "port": 8080, "protocol": "http", "method": "DELETE", "target": "/orders/1",
            "reason": "method_not_allowed", "request_id": "ab12", "missed": 4,
        }
    )  # fmt: skip
    assert line == (
        f"00:00:01.250 deny   inbound  {WEB} -> shop/orders:8080 DELETE /orders/1 reason=method_not_allowed "
        "request_id=ab12 (missed 4 before this)"
    )


def test_what_is_observed_and_what_the_shadow_thinks_are_told_in_words_of_their_own() -> None:
    event = {
        "ts": 1.25, "direction": "inbound", "decision": "permit", "policy": "", "rule": "", "from": WEB,
        "to": "shop/orders", "port": 8080, "protocol": "http", "method": "GET", "target": "/a", "request_id": "ab12",
    }  # fmt: skip
    assert tap_line({**event, "event": "would_deny", "would_deny": "path_not_allowed", "nearest": "shop/a/b"}) == (
        f"00:00:01.250 would deny inbound  {WEB} -> shop/orders:8080 GET /a would_deny=path_not_allowed "
        "nearest=shop/a/b request_id=ab12"
    )
    shadow = {"event": "shadow", "shadow": "would_deny", "shadow_reason": "path_not_allowed", "shadow_rule": "shop/c/d"}
    assert tap_line({**event, "policy": "shop/a", "rule": "b", **shadow}) == (
        f"00:00:01.250 shadow inbound  {WEB} -> shop/orders:8080 GET /a policy=shop/a rule=b shadow=would_deny "
        "shadow_reason=path_not_allowed shadow_rule=shop/c/d request_id=ab12"
    )
    assert "request_id" not in tap_line({**event, "policy": "shop/a", "rule": "b", "event": "request"})


def test_connections_that_live_by_observation_are_told() -> None:
    connection = {
        "direction": "inbound", "peer": WEB, "service": "shop/orders", "port": 1, "protocol": "tcp", "age_seconds": 1.0,
        "bytes_from_app": 0, "bytes_to_app": 0, "requests": 0, "decision": "permit", "policy": "", "rule": "",
        "reason": "port_not_allowed", "would_deny": 1,
    }  # fmt: skip
    http = {**connection, "protocol": "http", "would_deny": 3, "requests": 7}
    del http["decision"]
    document = {
        "connections": [connection, http], "connections_left_out": 0, "links": [], "links_left_out": 0,
        "endpoints": [], "endpoints_left_out": 0,
    }  # fmt: skip
    rows = list(connections_lines(document))
    assert rows[1].endswith("would deny port_not_allowed")
    assert rows[2].endswith("per request, would deny 3")


def test_nothing_that_a_peer_chose_steers_the_terminal() -> None:
    event = {"ts": 1.0, "event": "request", "direction": "inbound", "from": "", "to": "shop/orders", "port": 1}
    line = tap_line({**event, "protocol": "http", "method": "GET", "target": "/\x1b]0;x\x07\x9b\u202e"})
    assert line.isprintable()
    assert "unauthenticated -> shop/orders:1 GET /\\x1b" in line
