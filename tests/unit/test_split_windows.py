"""Windows through the splitter: a stream's are end to end, a connection's are local; what is held is bounded."""

from __future__ import annotations

from sidecar.http2 import frames as f
from sidecar.split.client_end import HELD_LIMIT_BYTES, STREAM_WINDOW_BYTES
from sidecar.split.end import WINDOW_BYTES
from tests.http2_ends import OK, POST, Frame
from tests.split_ends import Fan


def updates(frames: list[Frame], stream_id: int) -> list[int]:
    return [x.increment for x in frames if x.kind == f.WINDOW_UPDATE and x.stream_id == stream_id]


def test_the_client_s_windows_are_told_to_the_endpoint() -> None:
    fan = Fan(1, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: 1000})
    fan.ask(1)
    told = f.parse_settings(fan.at(0)[0].payload)
    assert told[f.SETTING_INITIAL_WINDOW_SIZE] == 1000
    assert told[f.SETTING_ENABLE_PUSH] == 0
    fan.client(f.window_update(1, 500))
    assert updates(fan.at(0), 1) == [500]
    fan.client(f.settings({f.SETTING_INITIAL_WINDOW_SIZE: 3000}))
    assert f.parse_settings(fan.at(0)[-1].payload) == {f.SETTING_INITIAL_WINDOW_SIZE: 3000}
    fan.ask(3)
    assert updates(fan.at(0), 3) == []


def test_what_the_client_opened_before_there_was_an_endpoint_is_told_with_the_request() -> None:
    fan = Fan(1, silent={0})
    fan.ask(1)
    fan.client(f.window_update(1, 7000))
    fan.server(0, f.settings({}))
    assert updates(fan.at(0), 1) == [7000]


def test_a_slow_reader_on_one_stream_holds_up_no_other() -> None:
    fan = Fan(1)
    fan.client(f.window_update(0, 1 << 20))
    fan.ask(1)
    fan.ask(3)
    fan.reply(0, 1, end=False)
    for _ in range(4):  # all that the stream's window takes
        fan.server(0, f.frame(f.DATA, 0, 1, bytes(16_000)))
    fan.reply(0, 3, body=b"not held up")
    assert fan.to_client.content(3) == b"not held up"


def test_a_client_that_shuts_its_connection_s_window_bounds_what_is_held_of_an_endpoint() -> None:
    fan = Fan(1, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: 1 << 30})
    fan.ask(1)
    fan.reply(0, 1, end=False)
    for _ in range(WINDOW_BYTES // 16_384):
        fan.server(0, f.frame(f.DATA, 0, 1, bytes(16_384)))
    assert len(fan.to_client.content(1)) == f.DEFAULT_WINDOW_BYTES
    assert fan.flaws == []
    assert updates(fan.at(0)[2:], 0) == []  # nothing is given back
    fan.client(f.window_update(0, WINDOW_BYTES))
    assert len(fan.to_client.content(1)) == WINDOW_BYTES
    assert updates(fan.at(0)[2:], 0) != []


def test_responses_that_wait_for_the_connection_s_window_get_it_in_turns() -> None:
    fan = Fan(2)
    for stream_id, number in ((1, 1), (3, 0)):
        fan.ask(stream_id)
        fan.reply(number, 1, end=False)
    for _ in range(4):
        for number in (1, 0):
            fan.server(number, f.frame(f.DATA, 0, 1, bytes(16_000)))
    before = [len(fan.to_client.content(stream_id)) for stream_id in (1, 3)]
    fan.client(f.window_update(0, 32_768))
    after = [len(fan.to_client.content(stream_id)) for stream_id in (1, 3)]
    assert sum(before) == 65_535
    assert all(late > early for early, late in zip(before, after, strict=True))


def test_uploads_wait_for_the_endpoint_and_the_client_gets_its_window_back_when_they_are_gone() -> None:
    fan = Fan(1, server_settings={f.SETTING_INITIAL_WINDOW_SIZE: 100})
    fan.ask(1, POST, end=False)
    for _ in range(4):
        fan.client(f.frame(f.DATA, 0, 1, bytes(16_000)))
    assert len(fan.to_leg[0].content(1)) == 100
    assert updates(fan.to_client.frames, 1) == []
    fan.server(0, f.window_update(1, 50_000))
    assert len(fan.to_leg[0].content(1)) == 50_100
    assert sum(updates(fan.to_client.frames, 1)) >= STREAM_WINDOW_BYTES // 2
    fan.client(f.frame(f.DATA, f.FLAG_END_STREAM, 1, b"end"))
    fan.server(0, f.window_update(1, 50_000))
    assert fan.to_leg[0].content(1) == bytes(64_000) + b"end"
    assert fan.to_leg[0].ended(1)
    assert fan.splitter._client.held_bytes == 0


def test_what_is_held_of_all_uploads_is_bounded_by_shutting_the_connection_s_window() -> None:
    fan = Fan(1, server_settings={f.SETTING_INITIAL_WINDOW_SIZE: 0})
    client = fan.splitter._client
    sent = 0
    stream_id = 1
    while client.window >= 16_000:
        fan.ask(stream_id, POST, end=False)
        for _ in range(4):
            if client.window >= 16_000:
                fan.client(f.frame(f.DATA, 0, stream_id, bytes(16_000)))
                sent += 16_000
        stream_id += 2
    assert HELD_LIMIT_BYTES < sent <= HELD_LIMIT_BYTES + 2 * WINDOW_BYTES
    assert fan.flaws == []
    for number in range(1, stream_id, 2):
        fan.server(0, f.window_update(number, 1 << 20))
    fan.server(0, f.window_update(0, 1 << 24))
    for number in range(1, stream_id, 2):
        fan.server(0, f.window_update(number, 1 << 20))
    assert client.held_bytes == 0
    assert client.window > WINDOW_BYTES // 2


def test_an_endpoint_that_takes_nothing_holds_up_no_other() -> None:
    fan = Fan(2)
    assert fan.ask(1, POST, end=False) == 1
    fan.tell(lambda: fan.splitter.leg_full(fan.leg[1], True))
    fan.client(f.frame(f.DATA, 0, 1, b"waits"))
    assert fan.to_leg[1].content(1) == b""
    assert [fan.ask(stream_id) for stream_id in (3, 5, 7)] == [0, 0, 0]
    fan.tell(lambda: fan.splitter.leg_full(fan.leg[1], False))
    assert fan.to_leg[1].content(1) == b"waits"
    assert 1 in [fan.ask(stream_id) for stream_id in (9, 11)]


def test_an_app_that_takes_nothing_gets_its_responses_later() -> None:
    fan = Fan(1)
    fan.ask(1)
    fan.tell(lambda: fan.splitter.client_full(True))
    fan.reply(0, 1, body=b"later")
    assert fan.to_client.content(1) == b""
    fan.tell(lambda: fan.splitter.client_full(False))
    assert fan.to_client.headers(1) == [OK]
    assert fan.to_client.content(1) == b"later"
    assert fan.splitter.idle


def test_padding_costs_nobody_a_window() -> None:
    fan = Fan(1)
    fan.ask(1, POST, end=False)
    fan.reply(0, 1, end=False)
    fan.client(f.frame(f.DATA, f.FLAG_PADDED, 1, b"\xc8" + b"x" + bytes(200)))
    fan.server(0, f.frame(f.DATA, f.FLAG_PADDED, 1, b"\xc8" + b"y" + bytes(200)))
    assert fan.to_leg[0].content(1) == b"x"
    assert fan.to_client.content(1) == b"y"
    assert updates(fan.at(0), 1) == [201]


def test_what_was_held_of_a_request_that_came_back_in_vain_is_given_back() -> None:
    """Else calls that all endpoints refuse would shut the connection's window, one after the other, for good."""
    fan = Fan(1, server_settings={f.SETTING_INITIAL_WINDOW_SIZE: 0})
    size, sent = 16_000, 0
    for number in range(2 * HELD_LIMIT_BYTES // size):
        stream_id = 2 * number + 1
        fan.ask(stream_id, POST, body=bytes(size))
        fan.server(0, f.rst_stream(stream_id, f.REFUSED_STREAM))
        sent += size
        assert not fan.splitter.outstanding()
    assert sent - sum(updates(fan.to_client.frames, 0)) < WINDOW_BYTES


def test_an_endpoint_that_resets_a_response_gets_back_what_was_held_of_it() -> None:
    """Else every such reset would leave less of its connection's window to its other calls."""
    fan = Fan(1, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: 0})
    sent = 0
    for stream_id in range(1, 400, 2):
        fan.ask(stream_id)
        fan.reply(0, stream_id, end=False)
        fan.server(0, f.frame(f.DATA, 0, stream_id, bytes(16_000)) + f.rst_stream(stream_id, f.CANCEL))
        sent += 16_000
    assert fan.flaws == []
    assert sent - sum(updates(fan.at(0)[2:], 0)) < WINDOW_BYTES


def test_requests_that_are_answered_but_never_read_do_not_shut_the_connection_s_window() -> None:
    fan = Fan(1, server_settings={f.SETTING_INITIAL_WINDOW_SIZE: 0})
    sent = 0
    for stream_id in range(1, 4 * HELD_LIMIT_BYTES // 16_000, 2):
        fan.ask(stream_id, POST, body=bytes(16_000))
        fan.reply(0, stream_id)
        sent += 16_000
    assert fan.flaws == []
    assert sent > HELD_LIMIT_BYTES + WINDOW_BYTES
    assert sent - sum(updates(fan.to_client.frames, 0)) < WINDOW_BYTES
    assert f.CANCEL in [x.code for x in fan.at(0) if x.kind == f.RST_STREAM]
