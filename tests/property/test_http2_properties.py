"""The HTTP/2 inspector between two hyper-h2 ends, which check all that they are sent: any interleaving of streams
conserves headers and bodies, what is judged is what the app reads, and how the bytes were cut never shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

import h2.exceptions
import hpack
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2 import Exchange, Heads
from sidecar.http2.block import read_block
from sidecar.http2.literal import encode
from sidecar.http2.reasons import BrokenError
from sidecar.http2.response_side import OWN_ROOM_BYTES
from sidecar.http2.table import Table
from tests.http2_ends import FORBIDDEN, IDENTITY, IDENTITY_NAME, IDENTITY_VALUE, Fields, Pair, bytewise

NAMES = st.sampled_from([b"x-a", b"x-b", b"x-c", b"accept", b"traceparent"])  # hyper-h2 joins cookies
VALUES = st.text("ab =;/é", max_size=12).map(lambda text: text.strip().encode("latin-1"))
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
PATHS = st.sampled_from([b"/db", b"/tmp", b"/secret", b"/a?b=c", b"/orders/17"])
METHODS = st.sampled_from([b"GET", b"POST", b"DELETE"])
BODY = st.binary(max_size=300)
LARGE = st.integers(0, 20_000).map(lambda size: random.Random(size).randbytes(size))
FORGED = st.sampled_from([[], [], [(IDENTITY_NAME, b"forged")], [(b"x-ringfence-x", b"1")]])


@dataclass(frozen=True)
class Call:
    """What one stream does, and how both ends go about it."""

    method: bytes
    path: bytes
    fields: Fields
    forged: Fields
    upload: list[bytes]
    trailers: Fields
    status: bytes
    download: list[bytes]
    response_fields: Fields
    response_trailers: Fields
    fate: str

    @property
    def head(self) -> Fields:
        return [
            (b":method", self.method),
            (b":scheme", b"http"),
            (b":path", self.path),
            (b":authority", b"orders:8080"),
            *self.fields,
        ]


CALLS = st.builds(
    Call,
    method=METHODS,
    path=PATHS,
    fields=FIELDS,
    forged=FORGED,
    upload=st.lists(st.one_of(BODY, LARGE), max_size=3),
    trailers=st.sampled_from([[], [(b"x-sum", b"1")]]),
    status=st.sampled_from([b"200", b"404", b"500"]),
    download=st.lists(st.one_of(BODY, LARGE), max_size=3),
    response_fields=FIELDS,
    response_trailers=st.sampled_from([[], [(b"grpc-status", b"0")], [(b"x-sum", b"2")]]),
    fate=st.sampled_from(["served", "served", "served", "served", "client resets", "app resets", "revoked"]),
)


def refused(exchange: Exchange) -> bool:
    return exchange.target == b"/secret"


class Side:
    """Sends pieces of a message as the window allows."""

    def __init__(self, pieces: list[bytes], trailers: Fields) -> None:
        self.pieces = list(pieces)
        self.trailers = trailers
        self.done = False

    def step(self, end: h2.connection.H2Connection, stream_id: int) -> bool:
        """Send the next piece; False if nothing could be done now."""
        if self.done:
            return False
        if not self.pieces:
            if self.trailers:
                end.send_headers(stream_id, self.trailers, end_stream=True)
            else:
                end.end_stream(stream_id)
            self.done = True
            return True
        room = min(end.local_flow_control_window(stream_id), end.max_outbound_frame_size)
        piece = self.pieces[0]
        if len(piece) <= room:
            end.send_data(stream_id, self.pieces.pop(0))
            return True
        if room <= 0:
            return False
        end.send_data(stream_id, piece[:room])
        self.pieces[0] = piece[room:]
        return True


class Conversation:
    """All calls at once, in an order that chance decides."""

    pair_of: type[Pair] = Pair

    def __init__(self, calls: list[Call], chance: random.Random, **kwargs: object) -> None:
        seconds = count()  # no flood, however many frames: each has a second of its own
        self.pair = self.pair_of(refuses=refused, inserted=IDENTITY, monotonic=lambda: float(next(seconds)), **kwargs)  # type: ignore[arg-type]
        self.pair.client.increment_flow_control_window(100_000)
        self.chance = chance
        self.calls = {2 * index + 1: call for index, call in enumerate(calls)}
        self.waiting = list(self.calls)
        self.uploads: dict[int, Side] = {}
        self.downloads: dict[int, Side] = {}
        self.gone: set[int] = set()

    def run(self) -> None:
        pair = self.pair
        pair.pump()
        moves = self.moves()
        idle = 0
        while idle < 3:
            moved = False
            for move in self.chance.sample(moves, len(moves)):
                moved |= move()
                if self.chance.random() < 0.5:
                    pair.attend()
            pair.attend()
            idle = 0 if moved else idle + 1

    def moves(self) -> list[Callable[[], bool]]:
        return [self._ask, self._upload, self._reply, self._download, self._end_early]

    def _pick(self, among: Iterable[int]) -> int | None:
        left = sorted(among)
        return self.chance.choice(left) if left else None

    def _ask(self) -> bool:
        if not self.waiting:
            return False
        stream_id = self.waiting.pop(0)
        call = self.calls[stream_id]
        end = not call.upload and not call.trailers
        self.pair.client.send_headers(stream_id, [*call.head, *call.forged], end_stream=end)
        if not end:
            self.uploads[stream_id] = Side(call.upload, call.trailers)
        return True

    def _upload(self) -> bool:
        stream_id = self._pick(n for n, side in self.uploads.items() if not side.done and n not in self.gone)
        return stream_id is not None and self._send(self.uploads[stream_id], self.pair.client, stream_id)

    def _reply(self) -> bool:
        stream_id = self._pick(n for n in self.pair.requests if n not in self.downloads and n not in self.gone)
        if stream_id is None:
            return False
        call = self.calls[stream_id]
        end = not call.download and not call.response_trailers
        fields = [(b":status", call.status), *call.response_fields]
        if not self._try(lambda: self.pair.server.send_headers(stream_id, fields, end_stream=end)):
            self.gone.add(stream_id)
            return True
        side = self.downloads[stream_id] = Side(call.download, call.response_trailers)
        side.done = end
        return True

    def _download(self) -> bool:
        stream_id = self._pick(n for n, side in self.downloads.items() if not side.done and n not in self.gone)
        return stream_id is not None and self._send(self.downloads[stream_id], self.pair.server, stream_id)

    def _send(self, side: Side, end: h2.connection.H2Connection, stream_id: int) -> bool:
        moved = False

        def step() -> None:
            nonlocal moved
            moved = side.step(end, stream_id)

        if not self._try(step):
            side.done = True
            return True
        return moved

    def _end_early(self) -> bool:
        stream_id = self._pick(
            n for n in self.pair.requests if self.calls[n].fate not in ("served", "") and n not in self.gone
        )
        if stream_id is None or self.chance.random() < 0.5:
            return False
        self.gone.add(stream_id)
        fate = self.calls[stream_id].fate
        if fate == "client resets":
            self._try(lambda: self.pair.client.reset_stream(stream_id, 8))
        elif fate == "app resets":
            self._try(lambda: self.pair.server.reset_stream(stream_id, 2))
        else:
            exchange = next(each for each in self.pair.exchanges if each.stream_id == stream_id)
            self.pair.inspector.revoke(exchange, FORBIDDEN)
        return True

    @staticmethod
    def _try(act: object) -> bool:
        """What a stream that was reset meanwhile does not take any more is not sent."""
        try:
            act()  # type: ignore[operator]
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            return False
        return True


def pieces(chance: random.Random) -> object:
    def chunk(data: bytes) -> Iterable[bytes]:
        for size in (1, 3, 9, 100, 5000):
            cut = chance.randrange(size + 1)
            yield from (data[:cut], data[cut : 2 * cut])
            data = data[2 * cut :]
        yield data

    return chunk


@settings(max_examples=120, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=7), st.randoms(use_true_random=False), st.booleans())
def test_any_interleaving_conserves_headers_and_bodies(
    calls: list[Call], chance: random.Random, fragmented: bool
) -> None:
    kwargs = {"chunk": pieces(chance)} if fragmented else {}
    talk = Conversation(calls, chance, **kwargs)
    talk.run()
    pair = talk.pair
    assert pair.flaws == []
    for exchange in pair.exchanges:
        call = talk.calls[exchange.stream_id]
        assert (exchange.method, exchange.target) == (call.method, call.path)
    for stream_id, call in talk.calls.items():
        if call.path == b"/secret":
            assert stream_id not in pair.requests
            assert pair.responses[stream_id][0] == (b":status", b"403")
            continue
        assert pair.requests[stream_id] == [*call.head, (IDENTITY_NAME, IDENTITY_VALUE)]
        upload, download = b"".join(call.upload), b"".join(call.download)
        if stream_id in talk.gone:
            assert upload.startswith(pair.uploads[stream_id])
            continue
        assert pair.uploads[stream_id] == upload
        assert pair.request_trailers.get(stream_id, []) == call.trailers
        assert pair.responses[stream_id] == [(b":status", call.status), *call.response_fields]
        assert pair.downloads[stream_id] == download
        assert pair.response_trailers.get(stream_id, []) == call.response_trailers
        assert {stream_id} <= pair.ended_at_client & pair.ended_at_server
    names = Counter(event[0] for event in pair.events)
    assert names["request"] == len(calls)
    assert names["done"] == names["request"] - len(pair.inspector.outstanding())
    assert pair.inspector.idle
    if not talk.gone:  # every window is whole again: nothing that was dropped or made here is owed to anybody
        assert pair.client.outbound_flow_control_window == 65_535
        assert pair.server.outbound_flow_control_window == 165_535 - OWN_ROOM_BYTES
    for end in (pair.client, pair.server):
        end.ping(b"12345678")
    pair.pump()
    assert not pair.inspector.close_after


class Undecided(Pair):
    """Some requests have no verdict until it is given."""

    def __init__(self, **kwargs: object) -> None:
        self.undecided: set[int] = set()
        super().__init__(**kwargs)  # type: ignore[arg-type]

    def request(self, exchange: Exchange) -> bytes | None:
        if exchange.stream_id in self.undecided:
            self.inspector.wait()
            return None
        return super().request(exchange)


class Waits(Conversation):
    """Some requests wait for their verdict, for as long as chance says; the client ends none meanwhile."""

    pair_of = Undecided
    pair: Undecided

    def moves(self) -> list[Callable[[], bool]]:
        self.pair.undecided = {stream_id for stream_id in self.calls if self.chance.random() < 0.5}
        return [*super().moves(), self._decide]

    def _decide(self) -> bool:
        left = self.pair.undecided
        if not left:
            return False
        if self.chance.random() < 0.3:
            left.discard(self.chance.choice(sorted(left)))
            self.pair.inspector.go_on()
            self.pair.attend()
        return True


@settings(max_examples=150, deadline=None)
@given(st.lists(CALLS, min_size=2, max_size=7), st.randoms(use_true_random=False), st.booleans())
def test_requests_that_wait_for_their_verdict_lose_nothing_and_hold_up_no_open_stream(
    calls: list[Call], chance: random.Random, fragmented: bool
) -> None:
    talk = Waits(calls, chance, **({"chunk": pieces(chance)} if fragmented else {}))
    talk.run()
    pair = talk.pair
    assert pair.flaws == []
    assert not pair.inspector.holds
    assert sorted(exchange.stream_id for exchange in pair.exchanges) == sorted(talk.calls)
    for stream_id, call in talk.calls.items():
        if call.path == b"/secret":
            assert stream_id not in pair.requests
            assert pair.responses[stream_id][0] == (b":status", b"403")
            continue
        assert pair.requests[stream_id] == [*call.head, (IDENTITY_NAME, IDENTITY_VALUE)]
        upload = b"".join(call.upload)
        if stream_id in talk.gone:
            assert upload.startswith(pair.uploads[stream_id])
            continue
        assert pair.uploads[stream_id] == upload
        assert pair.request_trailers.get(stream_id, []) == call.trailers
        assert pair.responses[stream_id] == [(b":status", call.status), *call.response_fields]
        assert pair.downloads[stream_id] == b"".join(call.download)
    assert pair.inspector.idle
    assert pair.open_count == 0
    if not talk.gone:
        assert pair.client.outbound_flow_control_window == 65_535
    for end in (pair.client, pair.server):
        end.ping(b"12345678")
    pair.pump()
    assert not pair.inspector.close_after


@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=5), st.integers(0, 1 << 30))
def test_how_the_bytes_were_cut_never_shows(calls: list[Call], seed: int) -> None:
    """The same conversation, in whole chunks and byte by byte: both ends see the same."""
    calls = [
        Call(
            **{
                **call.__dict__,
                "upload": [body[:400] for body in call.upload],
                "download": [b[:400] for b in call.download],
            }
        )
        for call in calls
    ]
    seen = []
    for chunk in (lambda data: [data], bytewise):
        talk = Conversation(calls, random.Random(seed), chunk=chunk)
        talk.run()
        pair = talk.pair
        seen.append((pair.events, pair.requests, pair.responses, pair.uploads, pair.downloads, pair.client_resets))
    assert seen[0] == seen[1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(CALLS, min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 7, 1000, 65_535, 200_000]),
    st.sampled_from([1, 50, 65_535]),
    st.sampled_from([0, 100, 4096]),
    st.sampled_from([16_384, 30_000, 1 << 20]),
)
def test_any_settings_of_the_two_ends_hold(
    calls: list[Call], chance: random.Random, client_window: int, server_window: int, table: int, frame: int
) -> None:
    """Small and large windows, tables and frames, changed in the middle: hyper-h2 finds no fault."""
    small = [
        Call(
            **{**call.__dict__, "upload": [b[:200] for b in call.upload], "download": [b[:200] for b in call.download]}
        )
        for call in calls
    ]
    talk = Conversation(small, chance)
    pair = talk.pair
    ask = talk._ask
    changed = [False]

    def ask_and_change() -> bool:
        if not changed[0]:
            changed[0] = True
            pair.client.update_settings(
                {SettingCodes.INITIAL_WINDOW_SIZE: client_window, SettingCodes.HEADER_TABLE_SIZE: table}
            )
            pair.server.update_settings(
                {
                    SettingCodes.INITIAL_WINDOW_SIZE: server_window,
                    SettingCodes.HEADER_TABLE_SIZE: table,
                    SettingCodes.MAX_FRAME_SIZE: frame,
                }
            )
        return ask()

    talk._ask = ask_and_change  # type: ignore[method-assign]
    talk.run()
    assert pair.flaws == []
    for stream_id, call in talk.calls.items():
        if call.path != b"/secret" and stream_id not in talk.gone:
            assert pair.uploads[stream_id] == b"".join(call.upload)
            assert pair.downloads[stream_id] == b"".join(call.download)
    assert pair.inspector.idle


# --- header blocks ---

LISTS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(LISTS, max_size=8), st.booleans(), st.lists(st.integers(0, 4096), max_size=3))
def test_blocks_read_as_the_library_reads_them(lists: list[Fields], huffman: bool, sizes: list[int]) -> None:
    encoder, oracle, table = hpack.Encoder(), hpack.Decoder(), Table()
    for index, fields in enumerate(lists):
        if index < len(sizes):
            encoder.header_table_size = sizes[index]
        block = encoder.encode(fields, huffman=huffman)
        found, table = read_block(block, table, 4096, {})
        assert found == fields == oracle.decode(block, raw=True)
        assert table.entries[::-1] == list(oracle.header_table.dynamic_entries)
        assert table.limit_bytes == oracle.header_table_size


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=6))
def test_random_blocks_are_read_or_refused_as_the_library_does(blocks: list[bytes]) -> None:
    oracle, table = hpack.Decoder(max_header_list_size=1 << 30), Table()
    for block in blocks:
        try:
            expected: list[object] | None = list(oracle.decode(block, raw=True))
        except hpack.HPACKError:
            expected = None
        try:
            found, table = read_block(block, table, 4096, {})
        except BrokenError:
            assert expected is None
            return
        assert found == expected
        assert table.entries[::-1] == list(oracle.header_table.dynamic_entries)


@settings(max_examples=200, deadline=None)
@given(LISTS)
def test_what_is_written_without_a_table_reads_the_same_everywhere(fields: Fields) -> None:
    decoder = hpack.Decoder()
    decoder.decode(hpack.Encoder().encode([(b"x-before", b"1")]), raw=True)
    before = list(decoder.header_table.dynamic_entries)
    assert decoder.decode(encode(fields), raw=True) == fields
    assert list(decoder.header_table.dynamic_entries) == before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(METHODS, PATHS, FIELDS, FORGED), max_size=25), st.integers(0, 3))
def test_connections_that_share_a_memory_do_not_share_a_fate(
    requests: list[tuple[bytes, bytes, Fields, Fields]], rotate: int
) -> None:
    """Several clients, one `Heads`: each request is read as its own client meant it."""
    heads = Heads()
    for turn in range(3):
        pair = Pair(refuses=refused, heads=heads)
        order = requests[turn * rotate :] + requests[: turn * rotate]
        for index, (method, path, fields, forged) in enumerate(order):
            head: Fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"a:1")]
            pair.client.send_headers(2 * index + 1, [*head, *fields, *forged], end_stream=True)
            pair.pump()
            pair.attend()
            exchange = pair.exchanges[-1]
            assert (exchange.method, exchange.target) == (method, path)
            if path == b"/secret":
                assert 2 * index + 1 not in pair.requests
            else:
                assert pair.requests[2 * index + 1] == [*head, *fields]
                pair.server.send_headers(2 * index + 1, [(b":status", b"200"), *fields], end_stream=True)
