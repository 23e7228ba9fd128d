"""The splitter's duties towards calls and endpoints, each as a transcript of frames."""

from __future__ import annotations

import pytest

from sidecar.balance import Outcome
from sidecar.http2 import Malformed
from sidecar.http2 import frames as f
from sidecar.split import Unprocessed
from sidecar.split.call import KEPT_CALL_BYTES
from sidecar.split.calls import ATTEMPTS_LIMIT
from tests.http2_ends import GET, GRPC, IDENTITY, IDENTITY_NAME, IDENTITY_VALUE, OK, POST
from tests.split_ends import Fan

GRPC_OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]
DONE = [(b"grpc-status", b"0")]


def test_each_request_goes_to_the_endpoint_that_is_chosen_and_its_response_comes_back() -> None:
    fan = Fan(3, inserted=IDENTITY)
    went = [fan.ask(stream_id, [*GET[:2], (b":path", b"/%d" % stream_id), GET[3]]) for stream_id in (1, 3, 5, 7)]
    assert went == [1, 2, 0, 1]
    assert [number for number, leg in fan.leg.items() if leg.ready] == [1, 2, 0]
    assert fan.to_leg[1].headers(1)[0][2] == (b":path", b"/1")
    assert fan.to_leg[1].headers(3)[0] == [*GET[:2], (b":path", b"/7"), GET[3], (IDENTITY_NAME, IDENTITY_VALUE)]
    fan.reply(0, 1, body=b"five")
    fan.reply(1, 3, body=b"seven")
    assert (fan.to_client.content(5), fan.to_client.content(7)) == (b"five", b"seven")
    assert fan.chooser.outcomes == [(0, Outcome.ANSWERED), (1, Outcome.ANSWERED)]
    assert [exchange.stream_id for exchange in fan.splitter.outstanding()] == [1, 3]


def test_a_field_that_the_client_indexes_means_the_same_at_each_endpoint() -> None:
    """The trap of unequal tables: the second request is an index into the first, which went elsewhere."""
    fan = Fan(2)
    danger = [*GET[:2], (b":path", b"/db"), GET[3], (b"x-secret", b"of the first")]
    fan.ask(1, danger)
    fan.ask(3, [*GET, (b"x-secret", b"of the second")])
    fan.ask(5, danger)  # all of it in indexes
    fan.ask(7, danger)
    assert [fan.to_leg[1].headers(stream_id) for stream_id in (1, 3)] == [[danger], [danger]]
    assert fan.to_leg[0].headers(1) == [[*GET, (b"x-secret", b"of the second")]]
    assert fan.to_leg[0].headers(3) == [danger] * 1
    for number in (0, 1):
        assert not fan.to_leg[number].decoder.header_table.dynamic_entries


def test_a_table_that_an_end_makes_smaller_is_heeded() -> None:
    fan = Fan(1, server_settings={f.SETTING_HEADER_TABLE_SIZE: 0}, client_settings={f.SETTING_HEADER_TABLE_SIZE: 0})
    fan.ask(1)
    first = next(frame for frame in fan.at(0) if frame.kind == f.HEADERS)
    assert first.payload[:1] == b"\x20"
    fan.reply(0, 1)
    assert next(frame for frame in fan.to_client.frames if frame.kind == f.HEADERS).payload[:1] == b"\x20"


def test_nothing_is_sent_to_an_endpoint_before_it_has_greeted() -> None:
    fan = Fan(1, silent={0})
    assert fan.ask(1, POST, body=b"hello") == -1
    assert [frame.kind for frame in fan.at(0)] == [f.SETTINGS, f.WINDOW_UPDATE]
    fan.server(0, f.settings({}))
    assert fan.to_leg[0].headers(1) == [POST]
    assert fan.to_leg[0].content(1) == b"hello"
    assert fan.to_leg[0].ended(1)


def test_a_request_waits_for_its_endpoint_to_open_but_not_too_long() -> None:
    fan = Fan(2, silent={0})
    assert fan.ask(1) == 1
    assert fan.ask(3) == -1
    assert fan.ask(5) == 1
    fan.tell(lambda: fan.splitter.leg_late(fan.leg[0]))
    assert len(fan.to_leg[1].headers(5)) == 1
    assert fan.ask(7) == 1  # nobody waits for an endpoint that is late
    fan.server(0, f.settings({}))
    assert fan.ask(9) == 0 or fan.ask(11) == 0


def test_an_endpoint_that_cannot_be_had_costs_no_request_while_there_is_another() -> None:
    fan = Fan(2, silent={0, 1})
    fan.ask(1)
    fan.ask(3)
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[1], "refused"))
    fan.server(0, f.settings({}))
    assert len(fan.to_leg[0].headers(1)) == len(fan.to_leg[0].headers(3)) == 1
    assert fan.chooser.failures == [1]
    assert fan.flaws == []


def test_requests_are_answered_when_no_endpoint_can_be_had_and_the_connection_stays() -> None:
    fan = Fan(1, silent={0})
    fan.ask(1, GRPC, end=False)
    fan.ask(3)
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[0], "refused"))
    assert dict(fan.to_client.headers(1)[0])[b"grpc-status"] == b"14"
    assert fan.to_client.codes(1) == [f.NO_ERROR]  # of the request that was not complete
    assert fan.to_client.headers(3)[0][0] == (b":status", b"503")
    assert [event for event in fan.events if event[0] == "unreachable"] == [
        ("unreachable", 1, "refused"),
        ("unreachable", 3, "refused"),
    ]
    assert not fan.splitter.close_after
    fan.silent.clear()
    assert fan.ask(5) == 0
    assert fan.open_count == 1


def test_what_an_endpoint_has_not_begun_by_its_goaway_goes_elsewhere() -> None:
    fan = Fan(2)
    assert [fan.ask(n, GRPC, body=b"call %d" % n) for n in (1, 3, 5, 7)] == [1, 0, 1, 0]
    fan.server(1, f.goaway(1, f.NO_ERROR))
    assert fan.to_leg[0].headers(5) == [GRPC]
    assert fan.to_leg[0].content(5) == b"call 5"
    assert fan.events[-1] == ("sent_again", 5, Unprocessed.GOAWAY)
    fan.reply(1, 1, GRPC_OK, end=False)  # the other one goes on
    fan.reply(1, 1, DONE)
    assert fan.to_client.headers(1) == [GRPC_OK, DONE]
    assert fan.closed == [1]
    for stream_id in (1, 3, 5):
        fan.reply(0, stream_id, GRPC_OK, end=False)
        fan.reply(0, stream_id, DONE)
    assert fan.splitter.idle
    assert fan.chooser.open_count == fan.open_count == 0


def test_a_refused_stream_goes_elsewhere_with_all_its_bytes_and_its_trailers() -> None:
    fan = Fan(2)
    assert fan.ask(1, POST, end=False, body=b"one") == 1
    fan.client(f.frame(f.DATA, 0, 1, b"two"))
    fan.ask(1, [(b"x-sum", b"2")])
    fan.server(1, f.rst_stream(1, f.REFUSED_STREAM))
    assert fan.to_leg[0].headers(1) == [POST, [(b"x-sum", b"2")]]
    assert fan.to_leg[0].content(1) == b"onetwo"
    fan.reply(0, 1)
    assert fan.to_client.headers(1) == [OK]
    assert fan.chooser.outcomes == [(1, Outcome.FAILED), (0, Outcome.ANSWERED)]


def test_a_request_that_all_refuse_is_answered_in_the_end() -> None:
    fan = Fan(ATTEMPTS_LIMIT + 3)
    fan.ask(1)
    for _ in range(ATTEMPTS_LIMIT + 1):
        call = fan.splitter.outstanding()[0]
        number = fan.number(call.leg)  # type: ignore[attr-defined]
        fan.server(number, f.rst_stream(1, f.REFUSED_STREAM))
    assert fan.to_client.headers(1)[0][0] == (b":status", b"502")
    assert fan.open_count == fan.chooser.open_count == 0


def test_a_request_that_may_not_be_sent_again_is_answered() -> None:
    fan = Fan(2, attempts=0)
    fan.ask(1, GRPC, body=b"x")
    fan.server(1, f.rst_stream(1, f.REFUSED_STREAM))
    assert dict(fan.to_client.headers(1)[0])[b"grpc-status"] == b"14"
    assert fan.to_leg.keys() == {1}


@pytest.mark.parametrize("size, again", [(KEPT_CALL_BYTES - 1000, True), (KEPT_CALL_BYTES + 1, False)])
def test_only_what_is_still_held_is_sent_again(size: int, again: bool) -> None:
    fan = Fan(2, server_settings={f.SETTING_INITIAL_WINDOW_SIZE: 1 << 20})
    fan.ask(1, POST, end=False)
    fan.server(1, f.window_update(0, 1 << 20))
    for at in range(0, size, 10_000):
        fan.client(f.frame(f.DATA, 0, 1, bytes(min(10_000, size - at))))
    fan.server(1, f.rst_stream(1, f.REFUSED_STREAM))
    assert (0 in fan.to_leg and bool(fan.to_leg[0].headers(1))) is again
    assert (fan.flaws == [Malformed.NO_RESPONSE]) is not again
    client = fan.splitter._client
    fan.client(f.rst_stream(1, f.CANCEL))
    assert (client.held_bytes, client.kept_bytes) == (0, 0)


def test_nothing_is_sent_again_once_a_response_has_begun() -> None:
    for began in ([(b":status", b"103")], GRPC_OK):
        fan = Fan(2)
        fan.ask(1, GRPC, body=b"x")
        fan.reply(1, 1, began, end=False)
        fan.server(1, f.goaway(0, f.NO_ERROR))
        assert fan.to_leg.get(0) is None
        assert not [event for event in fan.events if event[0] == "sent_again"]
        assert dict(fan.to_client.headers(1)[-1])[b"grpc-status"] == b"14"


def test_a_leg_that_is_lost_costs_its_own_calls_each_in_its_words() -> None:
    fan = Fan(2)
    assert [fan.ask(n, fields, end=False) for n, fields in ((1, GRPC), (3, POST), (5, POST))] == [1, 0, 1]
    fan.ask(7, GRPC)
    fan.ask(9, GRPC)
    fan.reply(1, 5, GRPC_OK, end=False, body=b"half")
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[1], "link lost"))
    assert dict(fan.to_client.headers(1)[0])[b"grpc-status"] == b"14"
    assert fan.to_client.headers(5)[0][0] == (b":status", b"503")
    assert dict(fan.to_client.headers(9)[-1])[b"grpc-status"] == b"14"
    assert [exchange.stream_id for exchange in fan.splitter.outstanding()] == [3, 7]
    fan.reply(0, 1)
    assert fan.to_client.headers(3) == [OK]
    assert not fan.splitter.close_after


def test_a_response_that_was_whole_is_delivered_although_its_leg_is_lost() -> None:
    fan = Fan(1, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: 10})
    fan.ask(1, POST, end=False)
    fan.reply(0, 1, body=b"0123456789abcdef")
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[0], "link lost"))
    fan.client(f.window_update(1, 100))
    assert fan.to_client.content(1) == b"0123456789abcdef"
    assert fan.to_client.ended(1)


def test_resets_pass_both_ways() -> None:
    fan = Fan(1)
    fan.ask(1, POST, end=False)
    fan.ask(3, POST, end=False)
    fan.client(f.rst_stream(1, f.CANCEL))
    assert fan.to_leg[0].codes(1) == [f.CANCEL]
    fan.server(0, f.rst_stream(3, f.INTERNAL_ERROR))
    assert fan.to_client.codes(3) == [f.INTERNAL_ERROR]
    fan.client(f.frame(f.DATA, 1, 3, b"late"))  # what was under way
    fan.reply(0, 1)
    assert fan.flaws == []
    assert fan.splitter.idle
    assert fan.chooser.open_count == 0


def test_a_reset_behind_a_whole_response_comes_behind_it() -> None:
    fan = Fan(1, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: 4})
    fan.ask(1, POST, end=False)
    fan.reply(0, 1, body=b"early answer")
    fan.server(0, f.rst_stream(1, f.NO_ERROR))
    assert fan.to_client.codes(1) == []
    fan.client(f.window_update(1, 100))
    assert fan.to_client.content(1) == b"early answer"
    assert fan.to_client.codes(1) == [f.NO_ERROR]
    assert fan.events[-1] == ("done", 1, 200, None, False)


def test_the_stream_limit_of_an_endpoint_holds_and_requests_wait_their_turn() -> None:
    fan = Fan(1, server_settings={f.SETTING_MAX_CONCURRENT_STREAMS: 2})
    for stream_id in (1, 3, 5, 7):
        fan.ask(stream_id)
    assert [len(fan.to_leg[0].headers(n)) for n in (1, 3, 5, 7)] == [1, 1, 0, 0]
    fan.reply(0, 3)
    assert len(fan.to_leg[0].headers(5)) == 1
    fan.client(f.rst_stream(7, f.CANCEL))  # it gave up waiting
    fan.reply(0, 1)
    fan.reply(0, 5)
    assert fan.splitter.idle
    assert fan.open_count == fan.chooser.open_count == 0


def test_a_request_that_waits_in_vain_is_answered() -> None:
    now = [0.0]
    fan = Fan(1, server_settings={f.SETTING_MAX_CONCURRENT_STREAMS: 1}, monotonic=lambda: now[0])
    fan.ask(1)
    fan.ask(3)
    now[0] = 9.0
    fan.tell(lambda: fan.splitter.give_up(0.0, "late"))
    assert fan.to_client.headers(3) == []
    fan.tell(lambda: fan.splitter.give_up(1.0, "late"))
    assert fan.to_client.headers(3)[0][0] == (b":status", b"503")
    assert fan.events[-2:] == [("unreachable", 3, "late"), ("done", 3, 0, None, True)]


def test_an_endpoint_that_is_gone_gets_nothing_new_and_closes_after_its_last() -> None:
    fan = Fan(2)
    assert [fan.ask(1), fan.ask(3)] == [1, 0]
    fan.chooser.members[1].gone = True
    fan.tell(fan.splitter.keep)
    assert [fan.ask(5), fan.ask(7)] == [0, 0]
    assert fan.closed == []
    fan.reply(1, 1)
    assert fan.to_client.headers(1) == [OK]
    assert fan.closed == [1]
    assert fan.to_leg[1].goaways() == [f.NO_ERROR]


def test_a_refusal_by_the_judge_reaches_no_endpoint() -> None:
    fan = Fan(1, refuses=lambda exchange: exchange.target == b"/secret")
    assert fan.ask(1, [*GET[:2], (b":path", b"/secret"), GET[3]]) == -1
    assert fan.to_client.headers(1)[0][0] == (b":status", b"403")
    assert fan.to_leg == {}


def test_a_drain_tells_the_client_what_was_taken_and_ends_with_the_last_call() -> None:
    fan = Fan(2)
    fan.ask(1)
    fan.tell(fan.splitter.drain)
    (first,) = [frame for frame in fan.to_client.frames if frame.kind == f.GOAWAY]
    (ping,) = [frame for frame in fan.to_client.frames if frame.kind == f.PING]
    assert first.payload[:4] == b"\x7f\xff\xff\xff"
    assert fan.ask(3) != -1  # it was under way
    fan.client(f.ping(ping.payload, ack=True))
    last = [frame for frame in fan.to_client.frames if frame.kind == f.GOAWAY][-1]
    assert int.from_bytes(last.payload[:4], "big") == 3
    assert fan.ask(5) == -1
    fan.reply(1, 1)
    assert not fan.splitter.close_after
    fan.reply(0, 1)
    assert fan.splitter.close_after
    assert sorted(fan.closed) == [0, 1]


def test_the_end_of_the_connection_ends_all_that_it_had_everywhere() -> None:
    fan = Fan(2, silent={0})
    fan.ask(1)
    fan.ask(3)
    fan.tell(fan.splitter.cut)
    assert fan.to_leg[1].codes(1) == [f.CANCEL]
    assert sorted(fan.closed) == [0, 1]
    assert fan.open_count == fan.chooser.open_count == 0


@pytest.mark.parametrize(
    "end",
    [f.rst_stream(1, f.NO_ERROR), f.window_update(1, 0), f.window_update(1, (1 << 31) - 1)],
    ids=lambda e: e[3:].hex(),
)
def test_an_endpoint_that_stops_reading_a_request_that_it_has_answered_costs_nobody_anything(end: bytes) -> None:
    """The client's call is over then, although the endpoint has not read the request to its end."""
    fan = Fan(1, server_settings={f.SETTING_INITIAL_WINDOW_SIZE: 2})
    fan.ask(1, POST, body=b"hello")
    fan.ask(3)
    fan.reply(0, 1, [(b":status", b"413")])
    assert fan.events[-1] == ("done", 1, 413, None, False)
    fan.to_client.frames.clear()
    fan.server(0, end)
    assert fan.to_client.frames == []
    assert fan.flaws == []
    fan.reply(0, 3)
    assert fan.to_client.ended(3)
    assert (fan.chooser.open_count, fan.open_count) == (0, 0)
    assert [event[1] for event in fan.events if event[0] == "done"] == [1, 3]
