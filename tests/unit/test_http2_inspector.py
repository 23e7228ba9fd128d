"""The HTTP/2 inspector's duties on one connection, each as a transcript."""

from __future__ import annotations

import pytest

from sidecar.http2 import Exchange, Heads, Malformed, literal
from sidecar.http2 import frames as f
from sidecar.http2.mediation import STREAM_LIMIT
from sidecar.http2.messages import INTERIM_LIMIT
from tests.http2_ends import (
    BAD_GATEWAY,
    FORBIDDEN,
    GET,
    GRPC,
    IDENTITY,
    IDENTITY_NAME,
    IDENTITY_VALUE,
    OK,
    POST,
    Between,
    Fields,
)

IDENTITY_FIELD = (IDENTITY_NAME, IDENTITY_VALUE)


def field(fields: Fields, name: bytes) -> bytes | None:
    return next((value for key, value in fields if key == name), None)


def denies(path: bytes) -> object:
    return lambda exchange: exchange.target == path


# --- passing ---


def test_the_same_object_is_forwarded_where_nothing_is_to_change() -> None:
    wire = Between()
    request = f.frame(f.HEADERS, 4, 1, wire.client_encoder.encode(POST)) + f.frame(f.DATA, 1, 1, b"x" * 9)
    response = f.frame(f.HEADERS, 4, 1, wire.server_encoder.encode(OK)) + f.frame(f.DATA, 1, 1, b"hello")
    assert wire.inspector.from_client(request) is request
    assert not wire.inspector.idle
    assert wire.inspector.from_server(response) is response
    assert wire.inspector.idle
    assert wire.events == [("request", 1, b"POST", b"/orders"), ("response", 1, 200), ("done", 1, 200, None, False)]


def test_the_exchange_tells_what_was_asked_and_how_much_passed() -> None:
    wire = Between()
    wire.ask(1, [*POST, (b"content-length", b"5")], body=b"12345")
    exchange = wire.exchanges[0]
    assert (exchange.method, exchange.target, exchange.host) == (b"POST", b"/orders", b"orders:8080")
    assert exchange.fields.length == 5
    assert not exchange.grpc
    assert exchange.fields.first(b"content-length") == b"5"
    assert exchange.fields.first(b"cookie") is None
    head = exchange.request_bytes - 5
    assert head > 10
    wire.reply(1, body=b"hello")
    assert exchange.response_bytes > 5
    assert (exchange.status, exchange.cut) == (200, False)


def test_the_identity_is_appended_and_the_tables_stay_equal() -> None:
    wire = Between(inserted=IDENTITY)
    for stream_id in (1, 3, 5):
        (frame,) = wire.ask(stream_id)
        assert frame.flags == f.FLAG_END_HEADERS | f.FLAG_END_STREAM
        assert wire.to_server.headers(stream_id) == [[*GET, IDENTITY_FIELD]]
    assert frame.payload.endswith(IDENTITY)
    assert len(frame.payload) < len(IDENTITY) + 8  # the rest is indexes: the app's table is the client's


def test_forged_identities_are_taken_out_in_any_spelling() -> None:
    forged: Fields = [
        (b"x-forwarded-client-cert", b"URI=spiffe://shop.example/ns/shop/sa/admin"),
        (b"x_forwarded_client_cert", b"1"),
        (b"x.forwarded-client_cert", b"1"),
        (b"x-ringfence-anything", b"1"),
        (b"x_ringfence~anything", b"1"),
    ]
    harmless = (b"x-forwarded-client-certs", b"1")
    wire = Between(inserted=IDENTITY)
    for stream_id in (1, 3, 5):
        wire.ask(stream_id, [*GET, *forged, harmless])
        assert wire.to_server.headers(stream_id) == [[*GET, harmless, IDENTITY_FIELD]]
    wire.ask(7)
    assert wire.to_server.headers(7) == [[*GET, IDENTITY_FIELD]]


def test_forged_refusals_of_the_app_are_taken_out_and_the_mesh_s_own_are_read() -> None:
    told = (b"x-ringfence-refusal", b"reason=x")
    for heads, refusal in ((Heads(), None), (Heads(refusal_name=told[0]), told[1])):
        wire = Between(heads=heads)
        for stream_id in (1, 3):
            wire.ask(stream_id, GRPC)
            wire.reply(stream_id, [*OK, told], end=False)
            wire.reply(stream_id, [(b"grpc-status", b"7")])
            assert wire.to_client.headers(stream_id) == [OK, [(b"grpc-status", b"7")]]
            assert wire.exchanges[-1].refusal == refusal
        wire.ask(5, GRPC)
        wire.reply(5, OK, end=False)
        wire.reply(5, [(b"grpc-status", b"7"), told])
        assert wire.to_client.headers(5) == [OK, [(b"grpc-status", b"7")]]
        assert wire.exchanges[-1].refusal == refusal


def test_grpc_status_comes_from_trailers_or_from_a_response_of_trailers_only() -> None:
    wire = Between()
    wire.ask(1, GRPC, body=b"\0\0\0\0\0")
    wire.reply(1, end=False, body=b"\0\0\0\0\0")
    wire.reply(1, [(b"grpc-status", b"5"), (b"grpc-message", b"no such order")])
    wire.ask(3, GRPC, body=b"\0\0\0\0\0")
    wire.reply(3, [*OK, (b"grpc-status", b"13")])
    wire.ask(5, GRPC, body=b"\0\0\0\0\0")
    wire.reply(5, [*OK, (b"grpc-status", b"zero")])
    assert [event[2:4] for event in wire.events if event[0] == "done"] == [(200, 5), (200, 13), (200, -1)]
    assert all(exchange.grpc for exchange in wire.exchanges)


def test_many_streams_interleave_each_with_its_own_exchange() -> None:
    wire = Between(inserted=IDENTITY)
    for stream_id in (1, 3, 5):
        wire.ask(stream_id, [*POST[:2], (b":path", b"/%d" % stream_id), POST[3]], end=False)
    for stream_id in (5, 1, 3):
        wire.client(f.frame(f.DATA, 0, stream_id, b"a"), f.frame(f.DATA, 1, stream_id, b"%d" % stream_id))
    assert [exchange.target for exchange in wire.inspector.outstanding()] == [b"/1", b"/3", b"/5"]
    for stream_id in (3, 5, 1):
        wire.reply(stream_id, body=b"to %d" % stream_id)
    assert [wire.to_server.content(n) for n in (1, 3, 5)] == [b"a1", b"a3", b"a5"]
    assert [wire.to_client.content(n) for n in (1, 3, 5)] == [b"to 1", b"to 3", b"to 5"]
    assert wire.inspector.idle


def test_trailers_of_a_request_pass_and_end_it() -> None:
    wire = Between()
    wire.ask(1, POST, end=False, body=b"x")
    wire.ask(1, [(b"x-checksum", b"1")])
    assert wire.to_server.headers(1) == [POST, [(b"x-checksum", b"1")]]
    assert not wire.exchanges[0].request_open


def test_interim_responses_pass_and_the_final_one_counts() -> None:
    wire = Between()
    wire.ask(1, [*POST, (b"expect", b"100-continue")], end=False)
    wire.reply(1, [(b":status", b"100")], end=False)
    wire.reply(1, [(b":status", b"103"), (b"link", b"</a>")], end=False)
    wire.client(f.frame(f.DATA, 1, 1, b"x"))
    wire.reply(1)
    assert [fields[0][1] for fields in wire.to_client.headers(1)] == [b"100", b"103", b"200"]
    assert [event for event in wire.events if event[0] == "response"] == [("response", 1, 200)]


def test_a_response_to_head_may_announce_content_that_does_not_come() -> None:
    wire = Between()
    wire.ask(1, [(b":method", b"HEAD"), *GET[1:]])
    wire.reply(1, [*OK, (b"content-length", b"5000")])
    assert wire.flaws == []
    assert wire.inspector.idle


def test_padding_and_priority_of_a_header_block_are_left_behind() -> None:
    wire = Between(inserted=IDENTITY)
    block = wire.client_encoder.encode(GET)
    payload = b"\x03" + b"\0\0\0\0\x10" + block + b"\0\0\0"
    flags = f.FLAG_END_HEADERS | f.FLAG_END_STREAM | f.FLAG_PADDED | f.FLAG_PRIORITY
    (frame,) = wire.client(f.frame(f.HEADERS, flags, 1, payload))
    assert frame.flags == f.FLAG_END_HEADERS | f.FLAG_END_STREAM
    assert frame.payload == block + IDENTITY


def test_padded_data_passes_as_it_is_and_counts_without_its_padding() -> None:
    wire = Between()
    wire.ask(1, [*POST, (b"content-length", b"2")], end=False)
    padded = f.frame(f.DATA, f.FLAG_PADDED | f.FLAG_END_STREAM, 1, b"\x04" + b"ab" + bytes(4))
    wire.client(padded)
    assert wire.to_server.data.endswith(padded)
    assert wire.flaws == []
    assert not wire.exchanges[0].request_open


def test_a_block_in_many_frames_is_judged_as_one() -> None:
    wire = Between(inserted=IDENTITY)
    block = wire.client_encoder.encode(GET)
    parts = [
        f.frame(f.HEADERS, f.FLAG_END_STREAM, 1, block[:3]),
        f.frame(f.CONTINUATION, 0, 1, block[3:5]),
        f.frame(f.CONTINUATION, f.FLAG_END_HEADERS, 1, block[5:]),
    ]
    assert wire.client(parts[0], parts[1]) == []
    assert wire.inspector.progress == "frame"
    assert len(wire.client(parts[2])) == 1
    assert wire.to_server.headers(1) == [[*GET, IDENTITY_FIELD]]
    assert wire.inspector.progress == "streams"


def test_a_block_that_the_identity_makes_too_long_is_cut_into_frames_the_app_takes() -> None:
    wire = Between(inserted=IDENTITY)
    cookie = (b"cookie", b"c" * 16_300)
    block = literal(*cookie)
    data = wire.inspector.from_client(f.frame(f.HEADERS, 5, 1, wire.client_encoder.encode(GET) + block))
    kinds = [(frame.kind, frame.flags, len(frame.payload)) for frame in wire.to_server.take(data)]
    assert len(data) > 16_384 + 18
    assert kinds[0][0] == f.HEADERS
    assert int.from_bytes(data[:3], "big") == 16_384
    assert wire.to_server.headers(1) == [[*GET, cookie, IDENTITY_FIELD]]


def test_pings_pass_and_so_do_their_answers() -> None:
    wire = Between()
    assert [frame.payload for frame in wire.client(f.ping(b"12345678"))] == [b"12345678"]
    assert [frame.flags for frame in wire.server(f.ping(b"12345678", ack=True))] == [f.FLAG_ACK]


def test_priorities_and_unknown_frames_go_no_further() -> None:
    wire = Between()
    assert wire.client(f.frame(f.PRIORITY, 0, 3, bytes(5)), f.frame(0xEE, 0, 1, b"x"), f.frame(0x10, 0, 0, b"x")) == []
    assert wire.flaws == []
    wire.ask(3)
    assert wire.to_server.headers(3) == [GET]


# --- refusals ---


def test_a_refused_request_is_answered_here_and_the_app_never_hears_of_it() -> None:
    wire = Between(refuses=lambda exchange: exchange.method == b"GET")
    wire.client(f.window_update(0, 100_000))
    wire.to_server.frames.clear()
    assert wire.ask(1) == []
    (head,) = wire.to_client.headers(1)
    assert head[0] == (b":status", b"403")
    assert field(head, b"content-length") == b"%d" % len(FORBIDDEN.content)
    assert field(head, b"x-ringfence-refusal") == FORBIDDEN.fields[0][1]
    assert wire.to_client.content(1) == FORBIDDEN.content
    assert wire.to_client.ended(1)
    assert wire.to_client.codes(1) == []  # the request was complete
    assert wire.events == [("request", 1, b"GET", b"/orders"), ("done", 1, 0, None, False)]
    assert wire.exchanges[0].local is FORBIDDEN
    wire.ask(3, POST)
    assert wire.to_server.headers(3) == [POST]


def test_a_refusal_without_room_for_content_comes_without() -> None:
    wire = Between(refuses=lambda _: True)
    wire.ask(1)
    (head,) = wire.to_client.headers(1)
    assert head[0] == (b":status", b"403")
    assert field(head, b"content-length") is None
    assert wire.to_client.content(1) == b""
    assert wire.to_client.ended(1)


@pytest.mark.parametrize("initial_window", [0, len(FORBIDDEN.content) - 1])
def test_a_refusal_respects_the_client_s_stream_window(initial_window: int) -> None:
    wire = Between(refuses=lambda _: True, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: initial_window})
    wire.client(f.window_update(0, 100_000))
    wire.ask(1)
    assert wire.to_client.content(1) == b""
    assert wire.to_client.ended(1)


def test_a_refusal_of_head_has_no_content() -> None:
    wire = Between(refuses=lambda _: True)
    wire.client(f.window_update(0, 100_000))
    wire.ask(1, [(b":method", b"HEAD"), *GET[1:]])
    assert wire.to_client.content(1) == b""
    assert wire.to_client.ended(1)


def test_a_refused_grpc_call_ends_with_trailers_only() -> None:
    wire = Between(refuses=lambda _: True)
    wire.ask(1, GRPC, end=False)
    assert wire.to_client.headers(1) == [
        [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"7"),
            (b"grpc-message", b"denied: path_not_allowed; request 1234"),
            *FORBIDDEN.fields,
        ]
    ]
    assert wire.to_client.ended(1)
    assert wire.to_client.codes(1) == [f.NO_ERROR]
    assert wire.to_server.frames == []


def test_the_body_of_a_refused_request_is_dropped_and_its_window_given_back() -> None:
    wire = Between(refuses=lambda exchange: exchange.method == b"POST")
    wire.ask(1, POST, end=False)
    assert wire.to_client.codes(1) == [f.NO_ERROR]
    assert wire.client(f.frame(f.DATA, 0, 1, b"x" * 500), f.window_update(1, 500)) == []
    assert [x.increment for x in wire.to_client.frames if x.kind == f.WINDOW_UPDATE] == [500]
    assert wire.client(f.frame(f.DATA, 1, 1, b"x" * 20)) == []
    wire.ask(3)
    assert wire.to_server.headers(3) == [GET]
    assert wire.flaws == []


def test_trailers_of_a_refused_request_are_dropped_too() -> None:
    wire = Between(refuses=lambda exchange: exchange.method == b"POST")
    wire.ask(1, POST, end=False)
    assert wire.ask(1, [(b"x-checksum", b"12345")]) == []
    wire.ask(3, [*GET, (b"x-checksum", b"12345")])
    assert wire.to_server.headers(3) == [[*GET, (b"x-checksum", b"12345")]]


def test_a_refusal_without_an_answer_is_a_reset() -> None:
    wire = Between(refuses=lambda _: True, answer=None)
    wire.ask(1)
    assert wire.to_client.codes(1) == [f.INTERNAL_ERROR]
    assert wire.open_count == 0


def test_a_refusal_before_the_server_has_spoken_begins_with_settings() -> None:
    wire = Between(greet=False, refuses=lambda _: True)
    wire.client(f.PREFACE + f.settings({}))
    wire.ask(1)
    assert wire.to_client.kinds() == [f.SETTINGS, f.HEADERS]
    assert wire.client(f.SETTINGS_ACK) == []  # of our settings: not the server's business
    wire.server(f.settings({}))
    assert [frame.flags for frame in wire.client(f.SETTINGS_ACK)] == [f.FLAG_ACK]
    assert wire.flaws == []


# --- revoking what had been permitted ---


def test_a_revoked_grpc_call_ends_by_trailers_in_the_middle_of_its_response() -> None:
    wire = Between()
    wire.ask(1, GRPC, end=False)
    wire.reply(1, end=False, body=b"\0\0\0")
    wire.ask(3, GRPC, end=False)
    wire.tell(lambda: wire.inspector.revoke(wire.exchanges[0], FORBIDDEN))
    assert wire.to_client.headers(1)[1][0] == (b"grpc-status", b"7")
    assert wire.to_client.ended(1)
    assert wire.to_client.codes(1) == [f.NO_ERROR]
    assert wire.to_server.codes(1) == [f.CANCEL]
    assert [exchange.stream_id for exchange in wire.inspector.outstanding()] == [3]
    assert wire.events[-1] == ("done", 1, 200, None, True)
    # frames of both ends that crossed it go nowhere, and cost nobody a window
    before = len(wire.to_client.frames)
    wire.server(f.frame(f.DATA, 0, 1, b"x" * 100))
    wire.reply(1, [(b"grpc-status", b"0")])
    assert len(wire.to_client.frames) == before
    assert [x.increment for x in wire.to_server.frames if x.kind == f.WINDOW_UPDATE] == [100]
    assert wire.client(f.frame(f.DATA, 1, 1, b"y" * 70)) == []
    assert [x.increment for x in wire.to_client.frames if x.kind == f.WINDOW_UPDATE] == [70]
    wire.reply(3, [*OK, (b"grpc-status", b"0")])
    assert wire.to_client.headers(3) == [[*OK, (b"grpc-status", b"0")]]


def test_a_revoked_request_without_a_response_is_answered() -> None:
    wire = Between()
    wire.ask(1)
    wire.tell(lambda: wire.inspector.revoke(wire.exchanges[0], FORBIDDEN))
    assert wire.to_client.headers(1)[0][0] == (b":status", b"403")
    assert wire.to_server.codes(1) == [f.CANCEL]


def test_a_revoked_request_in_the_middle_of_its_response_is_reset() -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1, end=False, body=b"half")
    wire.tell(lambda: wire.inspector.revoke(wire.exchanges[0], FORBIDDEN))
    assert wire.to_client.codes(1) == [f.CANCEL]
    assert not wire.to_client.ended(1)


def test_revoking_what_has_ended_does_nothing() -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1)
    frames = len(wire.to_client.frames)
    wire.tell(lambda: wire.inspector.revoke(wire.exchanges[0], FORBIDDEN))
    assert len(wire.to_client.frames) == frames
    assert wire.open_count == 0


# --- resets ---


def test_a_client_s_reset_ends_the_exchange_and_late_frames_of_the_app_pass() -> None:
    wire = Between()
    wire.ask(1)
    wire.client(f.rst_stream(1, f.CANCEL))
    assert wire.to_server.codes(1) == [f.CANCEL]
    assert wire.events[-1] == ("done", 1, 0, None, True)
    wire.reply(1, [*OK, (b"x-new", b"1")], end=False, body=b"late")
    assert wire.to_client.content(1) == b"late"  # so both the tables and the windows stay as the ends believe
    wire.ask(3)
    wire.reply(3, [*OK, (b"x-new", b"1")])
    assert wire.to_client.headers(3) == [[*OK, (b"x-new", b"1")]]


def test_the_app_s_reset_passes_and_late_frames_of_the_client_too() -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    wire.server(f.rst_stream(1, f.REFUSED_STREAM))
    assert wire.to_client.codes(1) == [f.REFUSED_STREAM]
    assert wire.events[-1] == ("done", 1, 0, None, True)
    assert len(wire.client(f.frame(f.DATA, 1, 1, b"late"))) == 1


def test_a_reset_after_a_whole_response_is_no_cut() -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    wire.reply(1, body=b"enough")
    assert not wire.inspector.idle
    wire.server(f.rst_stream(1, f.NO_ERROR))
    assert wire.events[-1] == ("done", 1, 200, None, False)


def test_frames_about_streams_that_ended_are_let_go() -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1)
    assert wire.client(f.window_update(1, 1000), f.rst_stream(1, f.CANCEL), f.window_update(1, 1000)) == []
    assert wire.server(f.window_update(1, 1000), f.rst_stream(1, f.NO_ERROR)) == []
    assert wire.flaws == []


# --- bad messages ---


def test_a_body_longer_than_announced_goes_no_further() -> None:
    wire = Between()
    wire.ask(1, [*POST, (b"content-length", b"3")], end=False)
    wire.client(f.frame(f.DATA, 0, 1, b"abc"), f.frame(f.DATA, 1, 1, b"d"))
    assert wire.to_server.content(1) == b"abc"
    assert not wire.to_server.ended(1)
    assert wire.to_server.codes(1) == [f.CANCEL]
    assert wire.to_client.codes(1) == [f.PROTOCOL_ERROR]
    assert wire.flaws == [Malformed.LENGTH_MISMATCH]


def test_a_body_shorter_than_announced_is_never_ended() -> None:
    for last in (b"ab", b""):
        wire = Between()
        wire.ask(1, [*POST, (b"content-length", b"3")], end=False)
        wire.client(f.frame(f.DATA, 1, 1, last))
        assert not wire.to_server.ended(1)
        assert wire.flaws == [Malformed.LENGTH_MISMATCH]
    for data in (b"", b"ab"):
        wire = Between()
        wire.ask(1, [*POST, (b"content-length", b"3")], end=not data)
        if data:
            wire.client(f.frame(f.DATA, 0, 1, data))
            wire.ask(1, [(b"x-checksum", b"1")])
        assert not wire.to_server.ended(1)
        assert wire.flaws == [Malformed.LENGTH_MISMATCH]


def test_frames_after_the_end_of_a_request_reset_it() -> None:
    wire = Between()
    wire.ask(1)
    wire.client(f.frame(f.DATA, 0, 1, b"more"))
    assert wire.to_client.codes(1) == [f.STREAM_CLOSED]
    assert wire.to_server.content(1) == b""
    wire.ask(3)
    wire.ask(3, [(b"x-checksum", b"1")])
    assert wire.to_client.codes(3) == [f.STREAM_CLOSED]
    assert wire.flaws == [Malformed.STREAM_CLOSED] * 2
    wire.ask(5)
    assert wire.to_server.headers(5) == [GET]


def test_a_window_update_of_nothing_resets_the_stream() -> None:
    wire = Between()
    wire.ask(1)
    wire.client(f.window_update(1, 0))
    assert wire.to_client.codes(1) == [f.PROTOCOL_ERROR]
    assert wire.flaws == [Malformed.BAD_WINDOW]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(b":status", b"101")], Malformed.BAD_STATUS),
        ([(b":status", b"20")], Malformed.BAD_STATUS),
        ([(b":status", b"600")], Malformed.BAD_STATUS),
        ([(b":status", b"100")], Malformed.BAD_STATUS),  # ends the stream
        ([(b"content-type", b"a")], Malformed.BAD_PSEUDO_FIELDS),
        ([], Malformed.BAD_PSEUDO_FIELDS),
        ([(b":status", b"200"), (b":status", b"200")], Malformed.BAD_PSEUDO_FIELDS),
        ([(b":status", b"200"), (b":path", b"/")], Malformed.BAD_PSEUDO_FIELDS),
        ([*OK, (b":status", b"200")], Malformed.BAD_PSEUDO_FIELDS),
        ([*OK, (b"connection", b"close")], Malformed.CONNECTION_FIELD),
        ([*OK, (b"transfer-encoding", b"chunked")], Malformed.CONNECTION_FIELD),
        ([*OK, (b"Server", b"x")], Malformed.BAD_FIELD_NAME),
        ([*OK, (b"server", b"x\r\nset-cookie: a")], Malformed.BAD_FIELD_VALUE),
        ([*OK, (b"content-length", b"+1")], Malformed.BAD_CONTENT_LENGTH),
        ([*OK, (b"content-length", b"1"), (b"content-length", b"1")], Malformed.DUPLICATE_CONTENT_LENGTH),
        ([*OK, (b"content-length", b"1")], Malformed.LENGTH_MISMATCH),
        ([(b":status", b"204"), (b"content-length", b"1")], Malformed.BODY_NOT_ALLOWED),
    ],
)
def test_a_malformed_response_is_answered_in_the_app_s_place(fields: Fields, reason: Malformed) -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1, fields)
    assert wire.flaws == [reason]
    assert wire.to_client.headers(1)[0][0] == (b":status", b"502")
    assert wire.to_client.ended(1)
    assert wire.to_server.codes(1) == [f.PROTOCOL_ERROR]
    assert wire.open_count == 0
    wire.ask(3)
    wire.reply(3)
    assert wire.to_client.headers(3) == [OK]


def test_data_before_the_response_s_head_is_no_response() -> None:
    wire = Between()
    wire.ask(1)
    wire.server(f.frame(f.DATA, 1, 1, b"boo"))
    assert wire.flaws == [Malformed.UNEXPECTED_RESPONSE]
    assert wire.to_client.content(1) == b""
    assert [x.increment for x in wire.to_server.frames if x.kind == f.WINDOW_UPDATE] == [3]


def test_a_response_that_goes_wrong_half_way_is_never_ended_as_if_whole() -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1, [*OK, (b"content-length", b"9")], end=False, body=b"123")
    wire.server(f.frame(f.DATA, 1, 1, b"4"))
    assert wire.to_client.codes(1) == [f.INTERNAL_ERROR]
    assert not wire.to_client.ended(1)
    wire.ask(3, GRPC)
    wire.reply(3, end=False, body=b"123")
    wire.reply(3, [(b"grpc-status", b"0")], end=False)  # trailers that do not end the stream
    assert wire.to_client.headers(3)[1][0] == (b"grpc-status", b"14")
    assert wire.flaws == [Malformed.LENGTH_MISMATCH, Malformed.BAD_TRAILER]


def test_a_bad_response_may_be_left_without_a_word() -> None:
    wire = Between(bad_gateway=None)
    wire.ask(1)
    wire.reply(1, [(b":status", b"0")])
    assert wire.to_client.headers(1) == []
    assert wire.to_client.codes(1) == [f.INTERNAL_ERROR]


def test_endless_interim_responses_are_no_response() -> None:
    wire = Between()
    wire.ask(1)
    for _ in range(INTERIM_LIMIT):
        wire.reply(1, [(b":status", b"100")], end=False)
    assert wire.flaws == []
    wire.reply(1, [(b":status", b"100")], end=False)
    assert wire.flaws == [Malformed.TOO_MANY_INTERIM]


# --- the ends of the connection ---


def test_the_server_closing_answers_what_is_due() -> None:
    wire = Between()
    wire.ask(1)
    wire.ask(3, GRPC, body=b"x")
    wire.ask(5, GRPC, end=False)
    wire.reply(5, end=False, body=b"half")
    wire.ask(7)
    wire.reply(7, end=False, body=b"half")
    wire.to_client.take(wire.inspector.server_eof())
    wire.attend()
    assert wire.to_client.headers(1)[0][0] == (b":status", b"502")
    assert field(wire.to_client.headers(3)[0], b"grpc-status") == b"14"
    assert wire.to_client.headers(5)[1][0] == (b"grpc-status", b"14")
    assert wire.to_client.codes(5) == [f.NO_ERROR]
    assert wire.to_client.codes(7) == [f.INTERNAL_ERROR]
    assert wire.to_client.goaways() == [f.NO_ERROR]
    assert wire.inspector.close_after
    assert wire.flaws == [Malformed.NO_RESPONSE] * 2 + [Malformed.TRUNCATED] * 2
    assert wire.open_count == 0
    assert wire.inspector.from_client(f.ping(b"12345678")) == b""


def test_a_server_that_cannot_be_had_is_told_to_those_who_asked() -> None:
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({}) + f.window_update(0, 100_000))
    wire.ask(1)
    wire.ask(3, GRPC, end=False)
    wire.tell(lambda: wire.inspector.fail(BAD_GATEWAY))
    assert wire.to_client.kinds()[0] == f.SETTINGS
    assert wire.to_client.headers(1)[0][0] == (b":status", b"502")
    assert wire.to_client.content(1) == BAD_GATEWAY.content
    assert field(wire.to_client.headers(3)[0], b"grpc-status") == b"14"
    acks = [x for x in wire.to_client.frames if x.kind == f.SETTINGS and x.flags & f.FLAG_ACK]
    assert len(acks) == 1
    assert wire.to_client.goaways() == [f.NO_ERROR]
    assert wire.inspector.close_after


def test_a_server_that_cannot_be_had_is_no_connection_for_a_client_that_waits_for_settings() -> None:
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({}))
    wire.tell(lambda: wire.inspector.fail(BAD_GATEWAY))
    assert wire.to_client.data == b""
    assert wire.inspector.close_after


def test_a_client_that_closes_has_its_complete_requests_answered() -> None:
    wire = Between()
    wire.ask(1)
    wire.ask(3, POST, end=False)
    wire.to_server.take(wire.inspector.client_eof())
    assert wire.to_server.codes(3) == [f.CANCEL]
    assert not wire.inspector.close_after
    wire.reply(1)
    assert wire.to_client.headers(1) == [OK]
    assert wire.inspector.close_after
    assert wire.open_count == 0


def test_an_idle_client_that_closes_is_gone() -> None:
    wire = Between()
    wire.tell(wire.inspector.client_eof)
    assert wire.inspector.close_after


def test_cut_ends_every_exchange() -> None:
    wire = Between()
    wire.ask(1)
    wire.ask(3, POST, end=False)
    wire.inspector.cut()
    assert [event[1:] for event in wire.events if event[0] == "done"] == [(1, 0, None, True), (3, 0, None, True)]
    assert wire.inspector.progress == "closed"
    wire.inspector.cut()
    assert wire.open_count == 0


def test_a_drain_lets_what_is_under_way_arrive_and_end() -> None:
    wire = Between()
    wire.ask(1)
    wire.tell(wire.inspector.drain)
    goaway, ping = wire.to_client.frames
    assert (goaway.kind, goaway.payload[:4], goaway.code) == (f.GOAWAY, b"\x7f\xff\xff\xff", f.NO_ERROR)
    assert ping.kind == f.PING
    wire.ask(3)  # had been under way
    assert wire.to_server.headers(3) == [GET]
    assert wire.client(f.ping(ping.payload, ack=True)) == []
    assert wire.to_client.frames[-1].payload[:4] == bytes((0, 0, 0, 3))
    assert wire.ask(5, POST, end=False, body=b"after it was told") == []
    wire.reply(1)
    assert not wire.inspector.close_after
    wire.reply(3)
    assert wire.inspector.close_after
    assert wire.flaws == []
    assert wire.open_count == 0


def test_an_idle_drain_closes_when_the_client_has_read_it() -> None:
    wire = Between()
    wire.tell(wire.inspector.drain)
    wire.tell(wire.inspector.drain)
    assert len(wire.to_client.frames) == 2
    assert not wire.inspector.close_after
    wire.client(f.ping(wire.to_client.frames[-1].payload, ack=True))
    assert wire.inspector.close_after


def test_a_drain_before_anything_was_said_just_closes() -> None:
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({}))
    wire.tell(wire.inspector.drain)
    assert wire.inspector.close_after
    assert wire.to_client.data == b""


def test_the_server_s_goaway_passes_and_ends_what_it_will_not_answer() -> None:
    wire = Between()
    for stream_id in (1, 3, 5):
        wire.ask(stream_id)
    (frame,) = wire.server(f.goaway(3, f.NO_ERROR, b"bye"))
    assert frame.payload == b"\0\0\0\x03" + bytes(4) + b"bye"
    assert [exchange.stream_id for exchange in wire.inspector.outstanding()] == [1, 3]
    assert wire.events[-1] == ("done", 5, 0, None, True)
    wire.tell(wire.inspector.drain)
    assert wire.to_client.frames[-2].payload[:4] == b"\0\0\0\x03"  # the last id never rises


def test_the_client_s_goaway_passes() -> None:
    wire = Between()
    (frame,) = wire.client(f.goaway(0, f.NO_ERROR))
    assert frame.kind == f.GOAWAY
    assert not wire.inspector.close_after


# --- bounds ---


def test_streams_beyond_the_limit_are_turned_away_and_may_be_tried_again() -> None:
    wire = Between()
    for index in range(STREAM_LIMIT):
        wire.ask(2 * index + 1, POST, end=False)
    last = 2 * STREAM_LIMIT + 1
    assert wire.ask(last) == []
    assert wire.to_client.codes(last) == [f.REFUSED_STREAM]
    assert len(wire.inspector.outstanding()) == STREAM_LIMIT
    wire.client(f.rst_stream(1, f.CANCEL))
    wire.ask(last + 2)
    assert wire.to_server.headers(last + 2) == [GET]


def test_progress_names_what_the_connection_waits_for() -> None:
    wire = Between(greet=False)
    assert wire.inspector.progress == "preface"
    wire.client(f.PREFACE)
    assert wire.inspector.progress == "preface"
    wire.client(f.settings({}))
    assert wire.inspector.progress == "idle"
    wire.client(f.ping(b"12345678")[:5])
    assert wire.inspector.progress == "frame"
    wire.client(f.ping(b"12345678")[5:])
    assert wire.inspector.progress == "idle"
    wire.ask(1)
    assert wire.inspector.progress == "streams"
    head = len(wire.to_server.frames[-1].payload)
    assert (wire.inspector.client_bytes, wire.inspector.server_bytes) == (24 + 9 + 17 + 9 + head, 0)


def test_exactly_one_done_for_each_request_whatever_happens() -> None:
    def refuses(exchange: Exchange) -> bool:
        return exchange.target == b"/no"

    wire = Between(refuses=refuses)
    wire.ask(1)
    wire.ask(3, [*GET[:2], (b":path", b"/no"), GET[3]])
    wire.ask(5, POST, end=False)
    wire.client(f.rst_stream(5, f.CANCEL))
    wire.ask(7)
    wire.server(f.rst_stream(7, f.INTERNAL_ERROR))
    wire.ask(9)
    wire.tell(lambda: wire.inspector.revoke(wire.exchanges[-1], FORBIDDEN))
    wire.inspector.cut()
    assert sorted(event[1] for event in wire.events if event[0] == "done") == [1, 3, 5, 7, 9]  # type: ignore[type-var]
