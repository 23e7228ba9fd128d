"""Verdicts on field blocks, and how they are remembered."""

from __future__ import annotations

import httptools
import pytest

from sidecar.http1 import CHUNKED, UNTIL_CLOSE, Heads, Malformed, MalformedError
from sidecar.http1 import head as head_module
from sidecar.http1.head import REMEMBERED_BLOCK_BYTES, REMEMBERED_BLOCKS, REMEMBERED_BYTES
from sidecar.http1.verdicts import RequestFields


def key(*lines: bytes, version: bytes = b"1.1") -> bytes:
    return b" HTTP/" + version + b"\r\n" + b"".join(line + b"\r\n" for line in (b"Host: a", *lines)) + b"\r\n"


def answer(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *lines]) + b"\r\n\r\n"


def test_a_plain_request() -> None:
    fields = Heads().judge_request(key(b"Accept: */*"))
    assert (fields.length, fields.keep_alive, fields.http11, fields.host) == (0, True, True, b"a")
    assert fields.plain
    assert fields.untouched
    assert fields.forward == b"Host: a\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize(
    "block",
    [
        key(b"Connection: close"),
        key(b"Transfer-Encoding: chunked"),
        key(b"Expect: 100-continue", b"Content-Length: 1"),
        key(b"Connection: upgrade", b"Upgrade: websocket"),
        key(b"Connection: keep-alive", version=b"1.0"),
    ],
)
def test_what_needs_the_long_way_is_not_plain(block: bytes) -> None:
    assert not Heads().judge_request(block).plain


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (answer(b"Content-Length: 7"), 7),
        (answer(b"Transfer-Encoding: chunked"), CHUNKED),
        (answer(), UNTIL_CLOSE),
        (answer(line=b"HTTP/1.1 204 No"), 0),
        (answer(b"Content-Length: 7", line=b"HTTP/1.1 304 No"), 0),
        (answer(line=b"HTTP/1.1 103 Hints"), 0),
    ],
)
def test_response_lengths(head: bytes, length: int) -> None:
    assert Heads().judge_response(head).length == length


def test_the_largest_length() -> None:
    assert Heads().judge_request(key(b"Content-Length: 9223372036854775807")).length == 2**63 - 1


def test_a_verdict_is_remembered() -> None:
    heads = Heads()
    assert heads.judge_request(key()) is heads.judge_request(key())
    assert heads.judge_response(answer()) is heads.judge_response(answer())


def test_memories_are_bounded_in_number_and_in_bytes() -> None:
    heads = Heads()
    for at in range(REMEMBERED_BLOCKS + 10):
        heads.judge_request(key(b"A: %d" % at))
        heads.judge_response(answer(b"A: %d" % at, b"B: " + b"x" * 3000))
    assert len(heads.requests) == 10
    assert sum(map(len, heads.responses)) <= REMEMBERED_BYTES
    heads.judge_request(key(b"A: " + b"x" * REMEMBERED_BLOCK_BYTES))
    assert len(heads.requests) == 10


def test_a_field_can_be_asked_for_later() -> None:
    fields = Heads().judge_request(key(b"X-Request-ID:  7 ", b"x-request-id: 8", b"X-Ringfence-A: b"))
    assert fields.first(b"x-request-id") == b"7"
    assert fields.first(b"x-ringfence-a") == b"b"
    assert fields.first(b"absent") is None


def test_private_names_are_the_callers_to_choose() -> None:
    heads = Heads(private={b"x-original-url"}, prefixes=())
    assert heads.judge_request(key(b"X-Original-URL: /admin")).forward == b"Host: a\r\n\r\n"
    assert heads.judge_request(key(b"X-Forwarded-Client-Cert: a")).untouched


def test_no_fields_at_all() -> None:
    fields = Heads().judge_request(b" HTTP/1.0\r\n\r\n")
    assert (fields.host, fields.keep_alive, fields.forward) == (b"", False, b"\r\n")


@pytest.mark.parametrize("judge", ["judge_request", "judge_response"])
def test_both_parsers_must_agree(judge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An llhttp that ended the head one byte early, or refused it, would refuse it for both."""

    class Early:
        def __init__(self, witness: object) -> None:
            self.witness = witness

        def feed_data(self, data: bytes) -> None:
            self.witness.on_headers_complete()  # type: ignore[attr-defined]

    class Refusing(Early):
        def feed_data(self, data: bytes) -> None:
            raise httptools.HttpParserError("no")

    block = key() if judge == "judge_request" else answer(b"Content-Length: 1")
    for other in (Early, Refusing):
        heads = Heads()
        monkeypatch.setattr(head_module.httptools, "HttpRequestParser", other)
        monkeypatch.setattr(head_module.httptools, "HttpResponseParser", other)
        with pytest.raises(MalformedError) as caught:
            getattr(heads, judge)(block)
        assert caught.value.reason is Malformed.PARSERS_DISAGREE
        assert not heads.requests
        assert not heads.responses


def test_a_hostile_traceparent_costs_no_more_than_its_length() -> None:
    """Whoever is refused is asked for it, too; a block of 2 MB would take squared work past the test's deadline."""
    fields = RequestFields(
        block=key(b"traceparent: 00" + b" " * 2_000_000 + b"01"),
        forward=b"\r\n",
        http11=True,
        host=b"a",
        length=0,
        keep_alive=True,
        expect_continue=False,
        upgrade=(),
    )
    assert fields.traceparent.startswith(b"00 ")
    assert fields.traceparent.endswith(b" 01")


@pytest.mark.parametrize("line", [b"traceparent:\t00-a-b-01 \t", b"TraceParent:00-a-b-01", b"traceparent:  00-a-b-01"])
def test_blanks_around_a_traceparent_are_not_of_its_value(line: bytes) -> None:
    assert Heads().judge_request(key(line)).traceparent == b"00-a-b-01"
