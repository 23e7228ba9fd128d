"""The inspector's duties on one connection, each as a transcript."""

from __future__ import annotations

import pytest

from sidecar.http1 import Exchange, Heads, Inspector, Malformed
from sidecar.http1.outstanding import OUTSTANDING_LIMIT
from sidecar.http1.request_side import HELD_LIMIT_BYTES, SWALLOW_LIMIT_BYTES
from sidecar.http1.response_side import INTERIM_LIMIT
from tests.http1_ends import BAD_GATEWAY, BAD_REQUEST, FORBIDDEN, IDENTITY, Between, request, response

GET = request()
OK = response(body=b"hello")
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")
SWITCH = response(b"HTTP/1.1 101 Switching Protocols", *WEBSOCKET, body=None)


def told_close(answer: bytes) -> bytes:
    return answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)


def test_bytes_pass_unchanged_where_nothing_is_to_change() -> None:
    wire = Between()
    assert wire.client(GET) == GET
    assert not wire.inspector.idle
    assert wire.server(OK) == OK
    assert wire.inspector.idle
    assert wire.events == [
        ("request", b"GET", b"/orders", b"orders:8080", 0),
        ("response", b"/orders", 200),
        ("done", b"/orders", 200, False, len(GET), len(OK)),
    ]


def test_the_same_object_is_forwarded_without_a_copy() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(OK)
    assert wire.inspector.from_client(GET) is GET
    assert wire.inspector.from_server(OK) is OK


def test_identity_line_follows_the_request_line_and_forged_ones_are_taken_out() -> None:
    forged = request(
        b"GET /orders HTTP/1.1",
        b"X-Forwarded-Client-Cert: URI=spiffe://shop.example/ns/shop/sa/admin",
        b"Accept: */*",
        b"x_forwarded_client_cert: URI=spiffe://shop.example/ns/shop/sa/admin",
        b"x.forwarded-client_cert: URI=spiffe://shop.example/ns/shop/sa/admin",
        b"X-Ringfence-Anything: 1",
        b"x_ringfence~anything: 1",
    )
    clean = b"GET /orders HTTP/1.1\r\n" + IDENTITY + b"Host: orders:8080\r\nAccept: */*\r\n\r\n"
    wire = Between(inserted=IDENTITY)
    for _ in range(3):  # judged anew, then remembered
        assert wire.client(forged) == clean
        wire.server(OK)


def test_a_neighbour_of_the_identity_header_stays() -> None:
    wire = Between()
    harmless = request(b"GET / HTTP/1.1", b"X-Forwarded-Client-Certs: 1", b"Ringfence: 1")
    assert wire.client(harmless) == harmless


def test_absolute_form_is_judged_and_forwarded_in_origin_form() -> None:
    wire = Between()
    out = wire.client(request(b"GET http://ORDERS:8080/a?b=c HTTP/1.1"))
    assert out == request(b"GET /a?b=c HTTP/1.1")
    assert wire.exchanges[0].target == b"/a?b=c"


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET http://orders:8080 HTTP/1.1", b"/"),
        (b"GET http://orders:8080?x HTTP/1.1", b"/?x"),
        (b"OPTIONS http://orders:8080 HTTP/1.1", b"*"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"GET /a//b?c HTTP/1.1", b"/a//b?c"),
    ],
)
def test_targets(line: bytes, target: bytes) -> None:
    wire = Between()
    wire.client(request(line))
    assert wire.exchanges[0].target == target


def test_a_body_passes_through_and_ends_the_request() -> None:
    wire = Between()
    head = request(b"POST /orders HTTP/1.1", b"Content-Length: 5")
    assert wire.client(head) == head
    assert wire.inspector.progress == "request_body"
    assert wire.client(b"he") == b"he"
    assert wire.client(b"llo" + GET) == b"llo" + GET
    assert len(wire.exchanges) == 2


def test_chunked_bodies_both_ways() -> None:
    chunked = b"5\r\nhello\r\n0;\r\n\r\n".replace(b";", b"")
    wire = Between()
    out = wire.client(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=chunked))
    assert out.endswith(b"\r\n\r\n" + chunked)
    answer = response(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", body=None) + chunked
    assert wire.server(answer) == answer
    assert wire.inspector.idle
    assert not wire.inspector.close_after


def test_a_head_response_has_no_body() -> None:
    wire = Between()
    wire.client(request(b"HEAD / HTTP/1.1"), GET)
    head_only = response(b"HTTP/1.1 200 OK", b"Content-Length: 1000", body=None)
    assert wire.server(head_only + OK) == head_only + OK
    assert [event[2] for event in wire.events if event[0] == "done"] == [200, 200]


@pytest.mark.parametrize("line", [b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 204 No Content"])
def test_responses_that_never_have_a_body(line: bytes) -> None:
    wire = Between()
    wire.client(GET)
    wire.server(response(line, body=None))
    assert wire.inspector.idle
    assert wire.client(GET) == GET


def test_a_304_may_tell_the_length_it_would_have_had() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(response(b"HTTP/1.1 304 Not Modified", b"Content-Length: 77", body=None))
    assert wire.inspector.idle


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(response(b"HTTP/1.1 200 OK", body=None), b"abc")
    assert not wire.inspector.idle
    wire.server_eof()
    assert wire.events[-1][:4] == ("done", b"/orders", 200, False)
    assert wire.inspector.close_after
    assert not wire.inspector.abort


def test_interim_responses_pass_and_do_not_answer() -> None:
    wire = Between()
    wire.client(request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 2"))
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.server(interim) == interim
    assert wire.client(b"ab") == b"ab"
    assert wire.server(OK) == OK
    assert wire.inspector.idle
    assert wire.client(GET) == GET


def test_interim_responses_are_bounded_for_each_request_and_not_for_a_connection() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    wire = Between()
    for _ in range(3):
        wire.client(GET)
        wire.server(interim * INTERIM_LIMIT, OK)
    assert wire.flaws == []
    wire.client(GET)
    wire.server(interim * (INTERIM_LIMIT + 1))
    assert wire.flaws == [Malformed.TOO_MANY_INTERIM]


def test_an_http10_client_gets_no_interim_response() -> None:
    wire = Between()
    wire.client(request(b"GET / HTTP/1.0", b"Connection: keep-alive"))
    assert wire.server(b"HTTP/1.1 103 Early Hints\r\n\r\n") == b""
    assert wire.server(OK) == OK


# --- refusals ---


def test_a_refused_request_never_reaches_the_server_and_the_connection_lives_on() -> None:
    wire = Between(refuses=lambda exchange: exchange.target == b"/admin")
    for _ in range(2):
        assert wire.client(request(b"GET /admin HTTP/1.1")) == b""
        assert wire.to_client == FORBIDDEN
        assert wire.client(GET) == GET
        assert wire.server(OK) == OK
        wire.to_client = b""
    assert wire.open_count == 0
    assert not wire.inspector.close_after


def test_a_refusal_waits_for_the_responses_before_it() -> None:
    wire = Between(refuses=lambda exchange: exchange.target == b"/admin")
    assert wire.client(GET + request(b"GET /admin HTTP/1.1") + GET) == GET + GET
    assert wire.to_client == b""
    assert wire.server(OK[:10]) == b""
    assert wire.server(OK[10:] + OK) == OK + FORBIDDEN + OK


def test_the_body_of_a_refused_request_is_swallowed() -> None:
    wire = Between(refuses=lambda exchange: exchange.method == b"POST")
    post = request(b"POST / HTTP/1.1", b"Content-Length: 5")
    assert wire.client(post, b"he", b"llo" + GET) == GET
    assert wire.to_client == FORBIDDEN
    assert wire.events[1] == ("done", b"/", 0, False, len(post) + 5, 0)


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: %d" % (SWALLOW_LIMIT_BYTES + 1),),
        (b"Transfer-Encoding: chunked",),
        (b"Content-Length: 5", b"Expect: 100-continue"),
        (b"Connection: close",),
    ],
)
def test_a_refusal_closes_where_the_next_request_would_be_hard_to_find(fields: tuple[bytes, ...]) -> None:
    wire = Between(refuses=lambda _: True)
    wire.client(request(b"POST / HTTP/1.1", *fields))
    assert wire.to_client == told_close(FORBIDDEN)
    assert wire.inspector.close_after
    assert not wire.inspector.abort
    assert wire.client(GET) == b""
    assert len(wire.exchanges) == 1


def test_the_largest_body_that_is_swallowed() -> None:
    wire = Between(refuses=lambda exchange: exchange.method == b"POST")
    wire.client(request(b"POST / HTTP/1.1", b"Content-Length: %d" % SWALLOW_LIMIT_BYTES), b"x" * SWALLOW_LIMIT_BYTES)
    assert wire.client(GET) == GET


def test_a_refusal_may_ask_to_close() -> None:
    wire = Between(refuses=lambda _: True, close=True)
    wire.client(GET)
    assert wire.to_client == told_close(FORBIDDEN)
    assert wire.inspector.close_after


def test_a_refused_head_request_gets_no_body() -> None:
    wire = Between(refuses=lambda _: True)
    wire.client(request(b"HEAD / HTTP/1.1"))
    assert wire.to_client == FORBIDDEN[:-2]


def test_a_judge_that_neither_permits_nor_answers_ends_the_connection() -> None:
    class Mute(Between):
        def request(self, exchange: Exchange) -> bytes | None:
            super().request(exchange)
            return None

    wire = Mute()
    assert wire.client(GET) == b""
    assert wire.inspector.abort
    assert wire.open_count == 0


def test_malformed_bytes_are_answered_in_their_turn() -> None:
    wire = Between()
    assert wire.client(GET + b"get / HTTP/1.1\r\n\r\n" + GET) == GET
    assert wire.to_client == b""
    assert wire.server(OK) == OK + told_close(BAD_REQUEST)
    assert wire.inspector.close_after
    assert wire.open_count == 0


def test_a_malformed_body_is_not_forwarded_and_is_answered() -> None:
    wire = Between()
    head = request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked")
    assert wire.client(head, b"3\r\nabc\r\n", b"zz\r\n") == head + b"3\r\nabc\r\n"
    assert wire.to_client == told_close(BAD_REQUEST)
    assert wire.events[-1][3] is True


def test_a_malformed_body_under_a_response_that_has_begun_aborts() -> None:
    wire = Between()
    wire.client(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"), b"3\r\nabc\r\n")
    wire.server(response(b"HTTP/1.1 200 OK", b"Content-Length: 5", body=None))
    wire.client(b"zz\r\n")
    assert wire.inspector.abort
    assert wire.open_count == 0


# --- the server's part ---


@pytest.mark.parametrize("data", [OK, b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_bytes_from_a_server_that_was_asked_nothing_go_nowhere(data: bytes) -> None:
    wire = Between()
    assert wire.server(data) == b""
    assert wire.inspector.close_after
    assert not wire.inspector.abort


def test_a_second_response_to_one_request_goes_nowhere() -> None:
    wire = Between()
    wire.client(GET)
    assert wire.server(OK + OK) == OK
    assert wire.inspector.close_after


def test_a_malformed_response_is_answered_in_the_servers_place() -> None:
    wire = Between()
    wire.client(GET)
    assert wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx") == told_close(BAD_GATEWAY)
    assert wire.flaws == [Malformed.BAD_CONTENT_LENGTH]
    assert wire.inspector.close_after
    assert wire.open_count == 0


def test_a_malformed_response_body_aborts() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(response(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", body=None), b"5;x=y\r\n")
    assert wire.inspector.abort
    assert wire.events[-1][3] is True


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", Malformed.NO_RESPONSE),
        (OK[:9], Malformed.TRUNCATED),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Malformed.NO_RESPONSE),
    ],
)
def test_a_server_that_closes_before_its_head_is_complete(sent: bytes, reason: Malformed) -> None:
    wire = Between()
    wire.client(GET)
    wire.server(sent)
    wire.server_eof()
    assert wire.to_client.endswith(told_close(BAD_GATEWAY))
    assert wire.flaws == [reason]
    assert not wire.inspector.abort
    assert wire.open_count == 0


def test_a_truncated_response_does_not_look_complete() -> None:
    wire = Between()
    wire.client(GET)
    assert wire.server(OK[:-1]) == OK[:-1]
    wire.server_eof()
    assert wire.inspector.abort
    assert wire.events[-1][3] is True


def test_a_judge_with_nothing_to_say_of_a_missing_response_aborts() -> None:
    wire = Between(bad_gateway=b"")
    wire.client(GET)
    wire.server_eof()
    assert wire.to_client == b""
    assert wire.inspector.abort


def test_a_server_that_closes_an_idle_connection() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(OK)
    wire.server_eof()
    assert wire.inspector.close_after
    assert not wire.inspector.abort


@pytest.mark.parametrize(
    ("asked", "answered", "closes"),
    [
        (GET, OK, False),
        (GET, response(b"HTTP/1.1 200 OK", b"Connection: close"), True),
        (request(b"GET / HTTP/1.1", b"Connection: close"), OK, True),
        (request(b"GET / HTTP/1.0"), OK, True),
        (request(b"GET / HTTP/1.0", b"Connection: Keep-Alive"), OK, False),
        (GET, response(b"HTTP/1.0 200 OK"), True),
        (GET, response(b"HTTP/1.0 200 OK", b"Connection: keep-alive"), False),
        (request(b"GET / HTTP/1.1", b"Connection: keep-alive, close"), OK, True),
    ],
)
def test_who_ends_the_connection(asked: bytes, answered: bytes, closes: bool) -> None:
    wire = Between()
    wire.client(asked)
    assert wire.server(answered) == answered
    assert wire.inspector.close_after is closes
    assert wire.client(GET) == (b"" if closes else GET)


def test_nothing_is_read_after_a_last_request() -> None:
    wire = Between()
    last = request(b"GET / HTTP/1.1", b"Connection: close")
    assert wire.client(last + GET) == last
    assert len(wire.exchanges) == 1


def test_requests_behind_a_response_that_closes_are_cut() -> None:
    wire = Between()
    wire.client(GET + GET)
    wire.server(response(b"HTTP/1.1 200 OK", b"Connection: close"))
    assert [event[3] for event in wire.events if event[0] == "done"] == [False, True]


def test_an_early_answer_makes_the_request_the_last_one() -> None:
    """A server that leaves a body unread may take its rest for a request that was never judged."""
    wire = Between()
    wire.client(request(b"POST / HTTP/1.1", b"Content-Length: 5"), b"he")
    assert wire.server(OK) == told_close(OK)
    assert not wire.inspector.close_after
    assert wire.client(b"llo" + GET) == b"llo"
    assert wire.inspector.close_after
    assert wire.events[-1][:4] == ("done", b"/", 200, False)


def test_an_expectation_that_was_answered_otherwise_takes_no_body() -> None:
    wire = Between()
    wire.client(request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 50"))
    assert wire.server(OK) == told_close(OK)
    assert wire.inspector.close_after
    assert wire.client(GET) == b""


# --- pipelining ---


def test_pipelining_is_bounded_and_goes_on_when_half_is_answered() -> None:
    wire = Between()
    out = wire.client(GET * (OUTSTANDING_LIMIT + 3))
    assert out == GET * OUTSTANDING_LIMIT
    assert wire.inspector.paused
    wire.client(GET)
    for _ in range(OUTSTANDING_LIMIT):
        wire.server(OK)
    assert not wire.inspector.paused
    assert wire.to_server == GET * (OUTSTANDING_LIMIT + 4)
    assert len(wire.inspector.outstanding()) == 4


def test_every_call_that_holds_bytes_back_says_so() -> None:
    """The adapter owes no credit for them until the pause is over, however many reads were under way."""
    inspector = Between().inspector
    inspector.from_client(GET * (OUTSTANDING_LIMIT + 1))
    for _ in range(2):
        assert inspector.attention
        inspector.take_client()
        inspector.from_client(GET)
    assert inspector.attention
    assert inspector.paused


def test_a_paused_machine_holds_no_more_than_its_bound() -> None:
    wire = Between()
    wire.client(GET * (OUTSTANDING_LIMIT + 1))
    wire.client(b"x" * HELD_LIMIT_BYTES)
    assert wire.flaws == [Malformed.HELD_TOO_MUCH]
    wire.server(OK * OUTSTANDING_LIMIT)
    assert wire.to_client == OK * OUTSTANDING_LIMIT + told_close(BAD_REQUEST)
    assert wire.inspector.close_after


# --- upgrades ---


def test_an_upgrade_that_is_accepted_makes_both_ways_raw() -> None:
    wire = Between()
    asked = request(b"GET /chat HTTP/1.1", *WEBSOCKET)
    assert wire.client(asked + b"early") == asked
    assert wire.inspector.paused
    assert wire.server(SWITCH + b"frames") == SWITCH + b"frames"
    assert wire.to_server == asked + b"early"
    assert wire.inspector.raw
    assert not wire.inspector.paused
    assert wire.client(b"\x81\x00") == b"\x81\x00"
    assert wire.server(b"\x82\x00") == b"\x82\x00"
    assert wire.inspector.progress == "raw"
    wire.inspector.cut()
    assert wire.events[-1] == ("done", b"/chat", 101, False, len(asked) + 7, len(SWITCH) + 8)


def test_an_upgrade_that_is_declined_leaves_http() -> None:
    wire = Between()
    asked = request(b"GET /chat HTTP/1.1", *WEBSOCKET)
    assert wire.client(asked + GET) == asked
    assert wire.server(OK) == OK
    assert wire.to_server == asked + GET
    assert not wire.inspector.paused
    assert wire.server(OK) == OK
    assert wire.inspector.idle


def test_an_upgrade_to_another_http_is_withdrawn() -> None:
    wire = Between()
    asked = request(
        b"GET / HTTP/1.1",
        b"Connection: Upgrade, HTTP2-Settings, keep-alive",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
        b"Accept: */*",
    )
    assert wire.client(asked) == request(b"GET / HTTP/1.1", b"Accept: */*", b"connection: keep-alive")
    wire.server(response(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: h2c", body=None))
    assert wire.flaws == [Malformed.UNEXPECTED_UPGRADE]
    assert not wire.inspector.raw


@pytest.mark.parametrize(
    "fields",
    [
        (b"Upgrade: websocket",),
        (b"Connection: upgrade", b"Upgrade: websocket, h2c"),
        (b"Connection: upgrade", b"Upgrade: tcp"),
    ],
)
def test_offers_that_are_withdrawn(fields: tuple[bytes, ...]) -> None:
    wire = Between()
    assert wire.client(request(b"GET / HTTP/1.1", *fields)) == request(b"GET / HTTP/1.1")
    assert wire.exchanges[0].fields.upgrade == ()


def test_other_protocols_may_be_allowed() -> None:
    wire = Between(heads=Heads(upgrades={b"tcp"}))
    asked = request(b"GET / HTTP/1.1", b"Connection: upgrade", b"Upgrade: TCP")
    assert wire.client(asked) == asked
    wire.server(response(b"HTTP/1.1 101 Switching", b"Connection: upgrade", b"Upgrade: tcp", body=None))
    assert wire.inspector.raw


def test_a_last_request_offers_no_upgrade() -> None:
    wire = Between()
    asked = request(b"GET / HTTP/1.1", b"Connection: close, upgrade", b"Upgrade: websocket")
    assert wire.client(asked + b"x") == request(b"GET / HTTP/1.1", b"connection: close")


@pytest.mark.parametrize("token", [b"Upgrade: tcp", b"X: y"])
def test_a_switch_to_what_was_not_offered(token: bytes) -> None:
    wire = Between()
    wire.client(request(b"GET / HTTP/1.1", *WEBSOCKET))
    assert wire.server(response(b"HTTP/1.1 101 Switching", token, body=None)) == told_close(BAD_GATEWAY)
    assert not wire.inspector.raw


def test_a_refused_upgrade_holds_nothing() -> None:
    wire = Between(refuses=lambda exchange: exchange.target == b"/chat")
    assert wire.client(request(b"GET /chat HTTP/1.1", *WEBSOCKET) + GET) == GET
    assert wire.to_client == FORBIDDEN


# --- ends ---


def test_a_client_may_half_close_after_its_last_request() -> None:
    wire = Between()
    wire.client(GET)
    wire.client_eof()
    assert not wire.inspector.close_after
    assert wire.server(OK) == OK
    assert wire.inspector.close_after
    assert not wire.inspector.abort


def test_a_client_that_leaves_between_requests() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(OK)
    wire.client_eof()
    assert wire.inspector.close_after
    assert not wire.inspector.abort


@pytest.mark.parametrize("cut", [GET[:1], GET[:-1], request(b"POST / HTTP/1.1", b"Content-Length: 2", body=b"a")])
def test_a_client_that_leaves_inside_a_request(cut: bytes) -> None:
    wire = Between()
    wire.client(cut)
    wire.client_eof()
    assert wire.inspector.abort
    assert wire.open_count == 0


def test_a_client_that_leaves_while_its_bytes_are_held() -> None:
    wire = Between()
    asked = request(b"GET /chat HTTP/1.1", *WEBSOCKET)
    wire.client(asked + GET[:-1])
    wire.client_eof()
    assert not wire.inspector.close_after
    wire.server(OK)
    assert wire.inspector.abort
    assert wire.to_server == asked


def test_draining_ends_an_idle_connection_at_once() -> None:
    wire = Between()
    wire.inspector.drain()
    assert wire.inspector.close_after


def test_draining_tells_the_client_with_the_last_response() -> None:
    wire = Between()
    wire.client(GET + GET)
    wire.inspector.drain()
    assert wire.server(OK + OK) == OK + told_close(OK)
    assert wire.inspector.close_after
    assert wire.client(GET) == b""


def test_draining_with_patience_tells_an_idle_client_with_its_next_response() -> None:
    wire = Between()
    wire.client(GET)
    assert wire.server(OK) == OK
    wire.inspector.drain(patient=True)
    assert not wire.inspector.close_after
    assert wire.client(GET) == GET
    assert wire.server(OK) == told_close(OK)
    assert wire.inspector.close_after
    wire = Between()
    wire.inspector.drain(patient=True)
    wire.inspector.drain()
    assert wire.inspector.close_after
    assert wire.open_count == 0


def test_draining_while_a_refused_body_is_swallowed() -> None:
    wire = Between(refuses=lambda _: True)
    wire.client(request(b"POST / HTTP/1.1", b"Content-Length: 2"))
    wire.inspector.drain()
    assert not wire.inspector.close_after
    wire.client(b"ab")
    assert wire.inspector.close_after
    assert not wire.inspector.abort


def test_draining_lets_an_upgraded_connection_be() -> None:
    wire = Between()
    wire.client(request(b"GET / HTTP/1.1", *WEBSOCKET))
    wire.server(SWITCH)
    wire.inspector.drain()
    assert wire.client(b"x") == b"x"


def test_failing_answers_in_the_servers_place() -> None:
    wire = Between()
    wire.client(GET + GET)
    wire.inspector.fail(BAD_GATEWAY)
    assert wire.inspector.take_client() == told_close(BAD_GATEWAY)
    assert wire.inspector.close_after
    assert wire.open_count == 0


def test_failing_under_a_response_that_has_begun_aborts() -> None:
    wire = Between()
    wire.client(GET)
    wire.server(OK[:-1])
    wire.inspector.fail(BAD_GATEWAY)
    assert wire.inspector.take_client() == b""
    assert wire.inspector.abort


def test_every_request_is_done_exactly_once_when_the_connection_is_cut() -> None:
    wire = Between(refuses=lambda exchange: exchange.target == b"/admin")
    wire.client(GET + request(b"GET /admin HTTP/1.1") + GET)
    wire.inspector.cut()
    wire.inspector.cut()
    wire.server_eof()
    wire.client_eof()
    assert wire.open_count == 0
    assert [event[3] for event in wire.events if event[0] == "done"] == [True, True, True]
    assert wire.server(OK) == b""


def test_attention_is_for_what_a_call_does_not_return() -> None:
    wire = Between(refuses=lambda exchange: exchange.target == b"/admin")
    inspector = wire.inspector
    inspector.from_client(GET)
    inspector.from_server(OK)
    assert not inspector.attention
    inspector.from_client(request(b"GET /admin HTTP/1.1"))
    assert inspector.attention
    assert inspector.take_client() == FORBIDDEN
    assert not inspector.attention


# --- fields that sidecars tell each other ---


def test_the_refusal_field_is_read_by_the_outbound_side_and_taken_out() -> None:
    heads = Heads(refusal_name=b"x-ringfence-refusal")
    wire = Between(heads=heads)
    for _ in range(2):
        wire.client(GET)
        assert wire.server(response(b"HTTP/1.1 403 Forbidden", b"X-Ringfence-Refusal: a=b")) == response(
            b"HTTP/1.1 403 Forbidden"
        )
        assert wire.exchanges[-1].refusal == b"a=b"
        wire.client(GET)
        wire.server(OK)
        assert wire.exchanges[-1].refusal is None


def test_a_refusal_field_from_an_application_is_a_forgery() -> None:
    wire = Between(heads=Heads())
    wire.client(GET)
    assert wire.server(response(b"HTTP/1.1 200 OK", b"x-ringfence-refusal: a=b")) == response(b"HTTP/1.1 200 OK")
    assert wire.exchanges[-1].refusal is None


def test_two_refusal_fields_tell_nothing() -> None:
    wire = Between(heads=Heads(refusal_name=b"x-ringfence-refusal"))
    wire.client(GET)
    twice = (b"x-ringfence-refusal: a", b"x-ringfence-refusal: b")
    assert wire.server(response(b"HTTP/1.1 403 Forbidden", *twice)) == response(b"HTTP/1.1 403 Forbidden")
    assert wire.exchanges[-1].refusal is None


def test_bytes_are_counted_on_the_short_way_and_on_the_long_one() -> None:
    wire = Between()
    wire.client(GET, GET[:5], GET[5:] + GET)
    wire.server(OK, OK[:-2], OK[-2:] + OK)
    assert wire.inspector.client_bytes == 3 * len(GET)
    assert wire.inspector.server_bytes == 3 * len(OK)


def test_an_inspector_needs_no_more_than_its_slots() -> None:
    assert not hasattr(Inspector(Between(), Heads()), "__dict__")
    assert not hasattr(Exchange(b"GET", b"/", Heads().judge_request(b" HTTP/1.1\r\nHost: a\r\n\r\n"), 0), "__dict__")
