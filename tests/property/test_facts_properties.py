"""What rules may read of a request is what the app reads of the bytes that it is sent, by readers that are not ours."""

from __future__ import annotations

import h11
import hpack
from hypothesis import given
from hypothesis import strategies as st

from ringfence.snapshot import ForwardedFor
from sidecar.facts import From, RequestFacts
from sidecar.forwarded import http1_heads, http2_heads
from sidecar.http1.reasons import MalformedError as Malformed1
from sidecar.http2.literal import encode
from sidecar.http2.reasons import MalformedError as Malformed2
from sidecar.tokens import NO_TOKENS

NAME = st.one_of(
    st.text("abX-_.", min_size=1, max_size=6),
    st.sampled_from(["x-team", "X_Team", "cookie", "X-Forwarded-For", "x_forwarded_for", "Forwarded", "x-real-ip"]),
    st.sampled_from(["upgrade", "authorization", "te", "x-forwarded-client-cert", "x_forwarded_client_cert"]),
    st.just("x-ringfence-refusal"),
)
VALUE = st.text("ab,;= \t\xe9", max_size=8).map(lambda text: text.strip(" \t"))
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=8)
SETTING = st.sampled_from(list(ForwardedFor))
ADDRESS = b"10.0.0.7"


def facts_of(head: object, setting: ForwardedFor) -> RequestFacts:
    return RequestFacts(head, 0.0, NO_TOKENS, From("", ADDRESS, setting))  # type: ignore[arg-type]


@given(FIELDS, SETTING, st.booleans())
def test_an_http1_app_reads_the_headers_that_were_judged(
    fields: list[tuple[str, str]], setting: ForwardedFor, offers: bool
) -> None:
    lines = [("host", "api"), *fields, *([("connection", "upgrade")] if offers else [])]
    block = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in lines) + b"\r\n"
    try:
        head = http1_heads()[setting].judge_request(b" HTTP/1.1\r\n" + block)
    except Malformed1:
        return
    app = h11.Connection(h11.SERVER)
    app.receive_data(b"GET / HTTP/1.1\r\n" + head.forward)
    read = app.next_event()
    assert isinstance(read, h11.Request)
    facts = facts_of(head, setting)
    names = {name.lower().encode("latin-1") for name, _ in lines} | {name for name, _ in read.headers}
    for name in names - {b"x-forwarded-for"}:
        assert list(facts.header(name)) == [value for given, value in read.headers if given == name]
        alike = [given for given, _ in read.headers if given != name and _plain(given) == _plain(name)]
        assert head.has_alike(name) is bool(alike)


@given(FIELDS, SETTING)
def test_an_http2_app_reads_the_headers_that_were_judged(fields: list[tuple[str, str]], setting: ForwardedFor) -> None:
    lines = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "api")]
    lines += [(name.lower(), value) for name, value in fields]
    heads = http2_heads()[setting]
    block = encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines])
    try:
        head = heads.request(heads.read(block, heads.request_table, 4096))
    except Malformed2:
        return
    read = [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(head.literal, raw=True)]
    facts = facts_of(head, setting)
    for name in {name.encode("latin-1") for name, _ in lines} | {name for name, _ in read}:
        found = [value for given, value in read if given == name]
        if name.startswith(b":"):
            assert facts.header(name) == ()
        elif name == b"cookie":
            assert list(facts.header(name)) == ([b"; ".join(found)] if found else [])
        elif name not in (b"x-forwarded-for", b"host"):
            assert list(facts.header(name)) == found


def _plain(name: bytes) -> bytes:
    return bytes(byte if chr(byte).isalnum() else 0x2D for byte in name)
