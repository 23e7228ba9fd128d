"""hyper-h2 as the other end: an independent implementation must understand our tunnel and we must understand it."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tunnel_ends import End

AUTHORITY = [(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:8080")]


def oracle(*, client: bool) -> h2.connection.H2Connection:
    """An h2 connection that takes CONNECT and checks all it sees."""
    made = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=client, header_encoding=None))
    made.initiate_connection()
    return made


def carry(ours: End, theirs: h2.connection.H2Connection) -> list[h2.events.Event]:
    """Bytes both ways until silence; what the oracle saw. It credits what it reads."""
    events: list[h2.events.Event] = []
    while True:
        out = ours.machine.take()
        ours.machine.set_room(1 << 20)
        seen = theirs.receive_data(out) if out else []
        events += seen
        for event in seen:
            if isinstance(event, h2.events.DataReceived):
                theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        back = theirs.data_to_send()
        if back:
            ours.machine.receive(back)
        if not out and not back:
            return events


def body(events: list[h2.events.Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40_000), max_size=6),
    st.lists(st.binary(min_size=1, max_size=9000), max_size=4),
)
def test_our_server_serves_an_independent_client(answers: list[bytes], questions: list[bytes]) -> None:
    ours, theirs = End(server=True), oracle(client=True)
    ours.machine.start()
    theirs.send_headers(1, AUTHORITY)
    carry(ours, theirs)
    accepted, headers = ours.connects[0]
    assert [(bytes(name), bytes(value)) for name, value in headers] == AUTHORITY
    ours.machine.reply(accepted, [(b":status", b"200")])
    for question in questions:
        theirs.send_data(1, question)
    theirs.end_stream(1)
    for answer in answers:
        accepted.send(answer)
    accepted.end()
    events = carry(ours, theirs)
    assert bytes(ours.endpoints[1].received) == b"".join(questions)
    assert ours.endpoints[1].ended
    assert body(events) == b"".join(answers)
    assert any(isinstance(event, h2.events.StreamEnded) for event in events)
    assert not ours.machine.streams


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=6), st.integers(1, 65_535))
def test_our_client_respects_an_independent_server_with_any_window(parts: list[bytes], window: int) -> None:
    ours, theirs = End(server=False), oracle(client=False)
    theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    ours.machine.start()
    carry(ours, theirs)
    stream, endpoint = ours.open()
    carry(ours, theirs)
    theirs.send_headers(1, [(b":status", b"200")])
    for part in parts:
        stream.send(part)
    stream.end()
    events = carry(ours, theirs)
    assert body(events) == b"".join(parts)
    assert any(isinstance(event, h2.events.StreamEnded) for event in events)
    theirs.end_stream(1)
    carry(ours, theirs)
    assert endpoint.ended
    assert endpoint.headers == [[(b":status", b"200")]]
    assert not ours.machine.streams
