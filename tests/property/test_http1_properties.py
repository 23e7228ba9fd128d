"""HTTP/1.x: how the bytes were cut never shows, and an independent parser reads what was forwarded as it was judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http1 import Exchange, Heads
from sidecar.http1.lines import METHODS, read_request_line
from sidecar.http1.reasons import MalformedError
from tests.http1_ends import IDENTITY, Between, bytewise, request

METHOD = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND"])
TOKEN = st.text("abcXYZ-_.!~0189", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("ab \t:;,=/\"'\xe9~%", max_size=20).map(lambda text: text.strip(" \t").encode("latin-1"))
TARGET = st.text("ab/.%20?=&;:@~", max_size=20).map(lambda text: b"/" + text.encode())
BODY = st.binary(max_size=200)
NAMES_TO_LEAVE = (
    b"host",
    b"content",
    b"transfer",
    b"connection",
    b"upgrade",
    b"expect",
    b"x-forwarded",
    b"x-ringfence",
)


def _harmless(line: tuple[bytes, bytes]) -> bool:
    return not line[0].lower().replace(b"_", b"-").startswith(NAMES_TO_LEAVE)


FIELDS = st.lists(st.tuples(TOKEN, VALUE).filter(_harmless), max_size=4)
FORGED = st.sampled_from(
    [(), (b"X-Forwarded-Client-Cert: By=me",), (b"x_ringfence_id: 1", b"x-forwarded-client-cert:")]
)


@dataclass(frozen=True)
class Message:
    """A lawful request: its bytes, and what any reader must find in it."""

    data: bytes
    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)


def _chunked(body: bytes, cuts: list[int], trailer: bytes) -> bytes:
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[a:b] for a, b in pairwise(edges)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


@st.composite
def messages(draw: st.DrawFn) -> Message:
    method, target, fields, body = draw(METHOD), draw(TARGET), draw(FIELDS), draw(BODY)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    lines = [name + b":" + draw(st.sampled_from([b"", b" ", b"  \t"])) + value for name, value in fields]
    lines += draw(FORGED)
    raw = b""
    if framing == "none":
        body = b""
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
        raw = body
    else:
        lines.append(b"Transfer-Encoding: chunked")
        raw = _chunked(
            body, draw(st.lists(st.integers(0, 300), max_size=4)), draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
        )
    form = draw(st.sampled_from([target, target, b"http://Orders:8080" + target]))
    data = request(b"%b %b HTTP/1.1" % (method, form), *lines, body=raw)
    return Message(data, method, target, fields, body)


WORDS = ["GET", "POST", "/", "/a?b", "*", "#", "http://a/", "HTTP/1.1", "HTTP/1.0", "HTTP/9", "", "\t", "\x00", "\xe9"]
REFUSES = st.sampled_from([lambda _: False, lambda _: True, lambda exchange: exchange.method == b"POST"])
RAGGED = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def _ragged(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    return pieces


@given(st.lists(messages(), min_size=1, max_size=4), REFUSES, RAGGED, st.sampled_from([b"", IDENTITY]))
@settings(max_examples=150, deadline=None)
def test_requests_whole_and_bytewise_are_the_same(
    sent: list[Message], refuses: object, sizes: list[int], put: bytes
) -> None:
    data = b"".join(message.data for message in sent)
    states = []
    for pieces in ([data], bytewise(data), _ragged(data, sizes), [message.data for message in sent]):
        wire = Between(inserted=put, refuses=refuses)  # type: ignore[arg-type]
        wire.client(*pieces)
        states.append(wire.state())
    assert states[0] == states[1] == states[2] == states[3]


class Undecided(Between):
    """Each request has no verdict for as many questions as ``waits`` says."""

    def __init__(self, waits: list[int], **kwargs: object) -> None:
        self.waits = list(waits)
        super().__init__(**kwargs)  # type: ignore[arg-type]

    def request(self, exchange: Exchange) -> bytes | None:
        if self.waits and self.waits[0] > 0:
            self.waits[0] -= 1
            self.inspector.wait()
            return None
        self.waits = self.waits[1:]
        return super().request(exchange)

    def go_on(self) -> None:
        self.inspector.go_on()
        self._attend()


@given(
    st.lists(messages(), min_size=1, max_size=4),
    REFUSES,
    RAGGED,
    st.lists(st.integers(0, 2), max_size=4),
    st.lists(st.booleans(), max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_requests_that_wait_for_their_verdict_are_the_same_as_those_that_do_not(
    sent: list[Message], refuses: object, sizes: list[int], waits: list[int], order: list[bool]
) -> None:
    data = b"".join(message.data for message in sent)
    at_once = Between(inserted=IDENTITY, refuses=refuses)  # type: ignore[arg-type]
    at_once.client(data)
    wire = Undecided(waits, inserted=IDENTITY, refuses=refuses)
    pieces = _ragged(data, sizes)
    for ask in order:
        if ask and pieces:
            wire.client(pieces.pop(0))
        elif not ask:
            wire.go_on()
    wire.client(*pieces)
    for _ in range(1 + sum(waits)):
        wire.go_on()
    assert wire.state() == at_once.state()


@given(messages(), st.integers(0, 400), st.binary(min_size=1, max_size=3), RAGGED)
@settings(max_examples=300, deadline=None)
def test_damaged_requests_whole_and_bytewise_are_the_same(
    sent: Message, at: int, damage: bytes, sizes: list[int]
) -> None:
    at %= len(sent.data)
    data = (
        request(b"GET /first HTTP/1.1") + sent.data[:at] + damage + sent.data[at + 1 :] + request(b"GET /last HTTP/1.1")
    )
    states = []
    for pieces in ([data], bytewise(data), _ragged(data, sizes)):
        wire = Between()
        wire.client(*pieces)
        wire.client_eof()
        states.append(_without_sizes(wire))
    assert states[0] == states[1] == states[2]


def _without_sizes(wire: Between) -> tuple[object, ...]:
    """Of a message that was refused half-way, how much had been counted by then depends on the cut."""
    events = [event[:4] if event[0] == "done" else event for event in wire.events]
    return (wire.to_server, wire.to_client, events, *wire.state()[3:])


@given(st.lists(messages(), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_h11_reads_what_was_forwarded_as_it_was_judged(sent: list[Message]) -> None:
    wire = Between(inserted=IDENTITY)
    wire.client(b"".join(message.data for message in sent))
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(wire.to_server)
    for message, exchange in zip(sent, wire.exchanges, strict=True):
        head = oracle.next_event()
        assert isinstance(head, h11.Request)
        assert (exchange.method, exchange.target) == (message.method, message.target)
        assert (head.method, head.target) == (message.method, message.target)
        identity = [value for name, value in head.headers if name.replace(b"_", b"-") == b"x-forwarded-client-cert"]
        assert identity == [b"URI=spiffe://shop.example/ns/shop/sa/web"]
        names = [name.lower() for name, _ in message.fields]
        kept = [(name, value) for name, value in head.headers if name in names]
        assert kept == [(name.lower(), value) for name, value in message.fields]
        assert b"".join(_data(oracle)) == message.body
        oracle.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        oracle.send(h11.EndOfMessage())
        oracle.start_next_cycle()
    assert oracle.next_event() is h11.NEED_DATA
    assert oracle.trailing_data == (b"", False)


def _data(oracle: h11.Connection) -> list[bytes]:
    found = []
    while not isinstance(event := oracle.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        found.append(bytes(event.data))
    return found


@dataclass(frozen=True)
class Answer:
    data: bytes
    body: bytes
    interim: int


@st.composite
def answers(draw: st.DrawFn, *, head: bool) -> Answer:
    body = draw(BODY)
    status = draw(st.sampled_from([b"200 OK", b"404 Not Found", b"204 No Content", b"304 Not Modified"]))
    lines = [b"HTTP/1.1 " + status]
    lines += [name + b": " + value for name, value in draw(FIELDS)]
    bodiless = status[:3] in (b"204", b"304")
    raw = b""
    if draw(st.booleans()) and not bodiless:
        lines.append(b"Transfer-Encoding: chunked")
        raw = _chunked(body, draw(st.lists(st.integers(0, 300), max_size=3)), b"")
    elif status[:3] != b"204":
        lines.append(b"Content-Length: %d" % len(body))
        raw = body
    if head or bodiless:
        raw = body = b""
    interim = draw(st.integers(0, 2))
    data = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * interim + b"\r\n".join(lines) + b"\r\n\r\n" + raw
    return Answer(data, body, interim)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[Answer]]:
    methods = draw(st.lists(METHOD, min_size=1, max_size=4))
    return methods, [draw(answers(head=method == b"HEAD")) for method in methods]


@given(conversations(), RAGGED)
@settings(max_examples=200, deadline=None)
def test_responses_whole_and_bytewise_are_the_same(talk: tuple[list[bytes], list[Answer]], sizes: list[int]) -> None:
    methods, given_back = talk
    asked = b"".join(request(b"%b / HTTP/1.1" % method) for method in methods)
    data = b"".join(answer.data for answer in given_back)
    states = []
    for pieces in ([data], bytewise(data), _ragged(data, sizes), [answer.data for answer in given_back]):
        wire = Between()
        wire.client(asked)
        assert wire.server(*pieces) == data
        states.append(wire.state())
        assert wire.inspector.idle
        assert wire.open_count == 0
    assert states[0] == states[1] == states[2] == states[3]


@given(conversations(), st.integers(0, 600), st.binary(min_size=1, max_size=3), RAGGED)
@settings(max_examples=300, deadline=None)
def test_damaged_responses_whole_and_bytewise_are_the_same(
    talk: tuple[list[bytes], list[Answer]], at: int, damage: bytes, sizes: list[int]
) -> None:
    methods, given_back = talk
    asked = b"".join(request(b"%b / HTTP/1.1" % method) for method in methods)
    data = b"".join(answer.data for answer in given_back)
    at %= len(data)
    data = data[:at] + damage + data[at + 1 :]
    states = []
    for pieces in ([data], bytewise(data), _ragged(data, sizes)):
        wire = Between()
        wire.client(asked)
        wire.server(*pieces)
        wire.server_eof()
        states.append(_without_sizes(wire))
        assert wire.open_count == 0
    assert states[0] == states[1] == states[2]


@given(conversations())
@settings(max_examples=150, deadline=None)
def test_h11_reads_each_response_as_it_was_framed(talk: tuple[list[bytes], list[Answer]]) -> None:
    for method, answer in zip(*talk, strict=True):
        wire = Between()
        wire.client(request(b"%b / HTTP/1.1" % method))
        wire.server(answer.data)
        oracle = h11.Connection(h11.CLIENT)
        oracle.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        oracle.send(h11.EndOfMessage())
        oracle.receive_data(wire.to_client)
        for _ in range(answer.interim):
            assert isinstance(oracle.next_event(), h11.InformationalResponse)
        head = oracle.next_event()
        assert isinstance(head, h11.Response)
        assert head.status_code == wire.exchanges[0].status
        assert b"".join(_data(oracle)) == answer.body
        assert wire.inspector.idle


@given(st.binary(max_size=300), st.binary(max_size=300), RAGGED)
@settings(max_examples=300, deadline=None)
def test_any_bytes_at_all_do_no_harm(from_client: bytes, from_server: bytes, sizes: list[int]) -> None:
    asked = request(b"GET / HTTP/1.1")
    states = []
    for ragged in (False, True):
        wire = Between()
        wire.client(asked)
        wire.client(*(_ragged(from_client, sizes) if ragged else [from_client]))
        wire.server(*(_ragged(from_server, sizes) if ragged else [from_server]))
        wire.client_eof()
        wire.server_eof()
        wire.inspector.cut()
        assert wire.open_count == 0
        assert len(wire.inspector._partial) + len(wire.inspector._held) == 0
        states.append(_without_sizes(wire))
    assert states[0] == states[1]


@given(st.lists(st.sampled_from(WORDS), max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_short_way_takes_no_request_line_that_the_long_way_refuses(words: list[str]) -> None:
    line = " ".join(words).encode("latin-1")
    heads = Heads()
    warm = Between(heads=heads)
    warm.client(request(b"GET / HTTP/1.1"))
    wire = Between(heads=heads)
    wire.client(request(line))
    try:
        method, target, _ = read_request_line(line)
    except MalformedError:
        assert len(wire.flaws) == 1
        assert wire.to_server == b""
    else:
        assert method in METHODS
        if target.startswith(b"/"):
            assert wire.to_server == request(line)


@given(conversations(), st.lists(st.booleans(), max_size=200), RAGGED)
@settings(max_examples=200, deadline=None)
def test_a_server_that_answers_what_it_was_sent_is_relayed_in_any_interleaving(
    talk: tuple[list[bytes], list[Answer]], order: list[bool], sizes: list[int]
) -> None:
    """Bytes are conserved: each response goes to the client exactly once, in order, whenever the rest is sent."""
    methods, given_back = talk
    pieces = _ragged(b"".join(request(b"%b / HTTP/1.1" % method) for method in methods), sizes)
    wire = Between()
    expected, answered = b"", 0
    for ask in [*order, *([True] * len(pieces)), *([False] * len(methods))]:
        if ask and pieces:
            wire.client(pieces.pop(0))
        elif answered < len(wire.exchanges):
            wire.server(given_back[answered].data)
            expected += given_back[answered].data
            answered += 1
    assert wire.to_client == expected
    assert answered == len(methods)
    assert wire.inspector.idle
    assert wire.flaws == []
