"""Body machines by themselves: what they consume, what they hold, when they end."""

from __future__ import annotations

import pytest

from sidecar.http1 import CHUNKED, UNTIL_CLOSE, Heads, MalformedError
from sidecar.http1.body import ChunkedBody, CountedBody, EndlessBody, body_for


def test_each_framing_has_its_machine() -> None:
    heads = Heads()
    assert isinstance(body_for(CHUNKED, heads), ChunkedBody)
    assert isinstance(body_for(UNTIL_CLOSE, heads), EndlessBody)
    assert isinstance(body_for(7, heads), CountedBody)


def test_a_counted_body_takes_its_own_and_no_more() -> None:
    body, out = CountedBody(5), []
    assert body.take(b"..abc", 2, out) == 5
    assert not body.ended
    assert body.take(b"defgh", 0, out) == 2
    assert body.ended
    assert out == [b"abc", b"de"]


def test_a_counted_body_passes_a_whole_chunk_without_a_copy() -> None:
    body, out = CountedBody(500), []
    data = b"x" * 100
    body.take(data, 0, out)
    assert out[0] is data


def test_an_endless_body_takes_all() -> None:
    body, out = EndlessBody(), []
    assert body.take(b"abc", 1, out) == 3
    assert out == [b"bc"]
    assert not body.ended
    assert body.endless


def test_a_chunked_body_stops_at_its_end() -> None:
    body, out = ChunkedBody(Heads()), []
    data = b"3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n"
    assert body.take(b"." + data, 1, out) == 1 + data.index(b"GET")
    assert body.ended
    assert b"".join(out) == b"3\r\nabc\r\n0\r\n\r\n"


def test_control_bytes_are_held_until_they_are_complete() -> None:
    body, out = ChunkedBody(Heads()), []
    sent = b""
    passed = []
    for byte in b"3\r\nabc\r\n0\r\nA: b\r\n\r\n":
        sent += bytes([byte])
        body.take(bytes([byte]), 0, out)
        passed.append(b"".join(out))
        assert sent.startswith(passed[-1])
    assert body.ended
    assert sorted(set(passed), key=len) == [
        b"",
        b"3\r\n",
        b"3\r\na",
        b"3\r\nab",
        b"3\r\nabc",
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n0\r\n",
        b"3\r\nabc\r\n0\r\nA: b\r\n\r\n",
    ]


def test_what_was_lawful_before_a_flaw_passes() -> None:
    body, out = ChunkedBody(Heads()), []
    with pytest.raises(MalformedError):
        body.take(b"3\r\nabc\r\nq\r\n", 0, out)
    assert b"".join(out) == b"3\r\nabc\r\n"


def test_a_large_chunk_is_counted_across_pieces() -> None:
    body, out = ChunkedBody(Heads()), []
    data = b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n"
    for at in range(0, len(data), 1000):
        body.take(data[at : at + 1000], 0, out)
    assert body.ended
    assert b"".join(out) == data
