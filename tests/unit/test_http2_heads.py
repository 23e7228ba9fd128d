"""What lists of fields say, and the memory for blocks that say the same."""

from __future__ import annotations

import hpack
import pytest

from sidecar.http2.answer import Answer
from sidecar.http2.fields import FIELDS_LIMIT
from sidecar.http2.frames import ENHANCE_YOUR_CALM
from sidecar.http2.head import UNANNOUNCED
from sidecar.http2.heads import LIST_CEILING_BYTES, LIST_LIMIT_BYTES, REMEMBERED_BYTES, Entry, Heads
from sidecar.http2.literal import encode
from sidecar.http2.reasons import BrokenError, Malformed, MalformedError
from sidecar.http2.table import Field, Table
from tests.http2_ends import GET, GRPC, OK, Fields


def entry(fields: Fields, heads: Heads | None = None) -> tuple[Heads, Entry]:
    heads = heads or Heads()
    return heads, heads.read(encode(fields), heads.request_table, 4096)


def test_a_request_head_says_what_is_asked() -> None:
    heads, read = entry([*GET, (b"content-length", b"17"), (b"expect", b"100-Continue"), (b"te", b"Trailers")])
    head = heads.request(read)
    assert (head.method, head.target, head.host) == (b"GET", b"/orders", b"orders:8080")
    assert (head.length, head.grpc, head.expect_continue, head.kept) == (17, False, True, None)
    assert read.request is head
    assert heads.request(entry(GET, heads)[1]).length == UNANNOUNCED


@pytest.mark.parametrize(
    ("content_type", "grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpcish", False),
        (b"application/json", False),
    ],
)
def test_grpc_is_known_by_its_content_type(content_type: bytes, grpc: bool) -> None:
    heads, read = entry([*GRPC[:-1], (b"content-type", content_type)])
    assert heads.request(read).grpc is grpc


def test_host_stands_in_for_a_missing_authority_and_may_repeat_it() -> None:
    heads, read = entry([*GET[:3], (b"host", b"orders:8080")])
    assert heads.request(read).host == b"orders:8080"
    heads, read = entry([*GET, (b"host", b"ORDERS:8080")])
    assert heads.request(read).host == b"orders:8080"


def test_a_response_head_says_how_it_went() -> None:
    heads, read = entry([*OK, (b"content-length", b"5"), (b"grpc-status", b"0")])
    head = heads.response(read)
    assert (head.status, head.length, head.grpc_status, head.refusal) == (200, 5, 0, None)
    for status in (b"204", b"304"):
        heads, read = entry([(b":status", status)])
        assert heads.response(read).length == 0


def test_two_refusals_are_none() -> None:
    name = b"x-ringfence-refusal"
    heads, read = entry([*OK, (name, b"a"), (name, b"b")], Heads(refusal_name=name))
    assert heads.response(read).refusal is None


def test_a_known_block_is_the_same_entry_for_every_connection() -> None:
    heads = Heads()
    encoder = hpack.Encoder()
    first, second = encoder.encode(GET), encoder.encode(GET)
    one = heads.read(first, heads.request_table, 4096)
    assert heads.request_table.known[first] is one
    assert one.after is not None
    again = heads.read(second, one.after, 4096)
    assert one.after.known[second] is again
    assert again.after is None


def test_size_updates_are_read_every_time() -> None:
    """Whether one is lawful depends on the connection."""
    heads = Heads()
    block = b"\x3f\x45" + encode(GET)
    heads.read(block, heads.request_table, 4096)
    assert block not in heads.request_table.known
    plain = encode(GET)
    heads.read(plain, heads.request_table, 4096)
    assert plain in heads.request_table.known
    with pytest.raises(BrokenError):
        heads.read(block, heads.request_table, 50)


def test_the_memory_is_bounded_in_all() -> None:
    heads = Heads()
    table: Table = heads.request_table
    kept = 0
    for number in range(20_000):
        block = encode([*GET, (b"x-number", b"%d" % number)])
        heads.read(block, table, 4096)
        kept = max(kept, len(table.known))
    assert kept * 600 < REMEMBERED_BYTES
    assert len(table.known) < kept  # all was forgotten at least once, and it began again
    heads.read(encode([*GET, (b"x-long", b"v" * 4000)]), table, 4096)
    assert not any(len(block) > 2048 for block in table.known)


def test_a_client_that_changes_its_table_for_ever_is_not_followed_for_ever() -> None:
    heads = Heads()
    encoder = hpack.Encoder()
    table = heads.request_table
    remembered = 0
    for number in range(3000):
        found = heads.read(encoder.encode([*GET, (b"x-trace", b"%d" % number)]), table, 4096)
        remembered += len(table.known)
        assert found.after is not None
        table = found.after
    assert 0 < remembered < 1000


def test_large_lists_are_refused_and_enormous_ones_break_the_connection() -> None:
    def read(size: int) -> MalformedError | None:
        heads, found = entry([*GET, (b"x", b"v" * size)])
        try:
            heads.request(found)
        except MalformedError as error:
            return error
        return None

    head_bytes = sum(len(name) + len(value) + 32 for name, value in GET) + 33
    assert read(LIST_LIMIT_BYTES - head_bytes) is None
    error = read(LIST_LIMIT_BYTES - head_bytes + 1)
    assert error is not None
    assert error.reason is Malformed.HEAD_TOO_LARGE
    with pytest.raises(BrokenError) as caught:
        read(LIST_CEILING_BYTES)
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_a_bomb_of_references_to_a_large_entry_is_measured() -> None:
    heads = Heads()
    block = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 70
    with pytest.raises(BrokenError) as caught:
        heads.read(block, heads.request_table, 4096)
    assert caught.value.code == ENHANCE_YOUR_CALM
    heads.read(block[:-60], heads.request_table, 4096)


def test_many_fields_are_refused() -> None:
    heads, read = entry([*GET, *[(b"x", b"%d" % n) for n in range(FIELDS_LIMIT - len(GET))]])
    heads.request(read)
    heads, read = entry([*GET, *[(b"x", b"%d" % n) for n in range(FIELDS_LIMIT - len(GET) + 1)]])
    with pytest.raises(MalformedError) as caught:
        heads.request(read)
    assert caught.value.reason is Malformed.TOO_MANY_FIELDS


def test_the_rules_hold_for_fields_seen_before() -> None:
    """What was judged harmless as a field is judged anew as a pseudo-header field, a trailer, or beside another."""
    heads = Heads()
    for _ in range(3):
        heads.request(entry([*GET, (b"content-length", b"1")], heads)[1])
        with pytest.raises(MalformedError):
            heads.request_trailers(entry([(b"content-length", b"1")], heads)[1])
        heads.response_trailers(entry([(b"date", b"1")], heads)[1])
        with pytest.raises(MalformedError):
            heads.request_trailers(entry([(b"date", b"1")], heads)[1])
        with pytest.raises(MalformedError):
            heads.request(entry([*GET, (b"content-length", b"1"), (b"content-length", b"1")], heads)[1])


def test_a_request_s_trailers_are_not_judged_as_a_response_s() -> None:
    """The two directions may come to share a table of equal content."""
    heads = Heads()
    block = encode([(b"date", b"1")])
    found = heads.read(block, heads.request_table, 4096)
    heads.response_trailers(found)
    assert found.request_trailers is None
    with pytest.raises(MalformedError):
        heads.request_trailers(found)


# --- answers ---


def decoded(block: bytes) -> list[Field]:
    return [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]


def test_an_answer_speaks_http() -> None:
    answer = Answer(status=403, message="no", content=b"{}", fields=((b"x-a", b"1"),))
    assert decoded(answer.head(with_content=True)) == [
        (b":status", b"403"),
        (b"cache-control", b"no-store"),
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"x-a", b"1"),
    ]
    assert decoded(answer.head(with_content=False)) == [
        (b":status", b"403"),
        (b"cache-control", b"no-store"),
        (b"x-a", b"1"),
    ]


@pytest.mark.parametrize(("status", "grpc"), [(403, b"7"), (502, b"14"), (503, b"14"), (500, b"13"), (418, b"2")])
def test_an_answer_speaks_grpc(status: int, grpc: bytes) -> None:
    fields = dict(decoded(Answer(status=status, message="50% no\nü", fields=((b"x-a", b"1"),)).trailers_only()))
    assert fields[b":status"] == b"200"
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-status"] == grpc
    assert fields[b"grpc-message"] == b"50%25 no%0A%C3%BC"
    assert fields[b"x-a"] == b"1"
