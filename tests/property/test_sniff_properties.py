"""Whatever bytes come: an answer, once given, does not change by what follows, and a host is only ever one name."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.client_hello import host_name
from sidecar.sniff import SNIFF_LIMIT_BYTES, Kind, sniff

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
FIELD_NAMES = st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True).filter(lambda name: name != "host")
FIELD_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.strip)
FIELDS = st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=6)


@st.composite
def beginnings(draw: st.DrawFn) -> bytes:
    """Bytes that get somewhere before they go wrong: pieces of the three protocols, mutilated."""
    pieces = draw(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b"\x16\x03\x01",
                        b"\x16\x03\x01\x00\x0a\x01\x00\x00\x06",
                        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                        b"GET / HTTP/1.1\r\n",
                        b"CONNECT a:1 HTTP/1.1\r\n",
                        b"host: a.example\r\n",
                        b"Host : b.example\r\n",
                        b" folded\r\n",
                        b"\r\n",
                        b"\n",
                    ]
                ),
                st.binary(max_size=40),
            ),
            max_size=6,
        )
    )
    return b"".join(pieces)


@given(beginnings(), st.binary(max_size=60))
@example(b"GET / HTTP/1.1\r\n\r\n", b"host: a\r\n\r\n")
def test_an_answer_is_final(data: bytes, more: bytes) -> None:
    found = sniff(data)
    if found is not None:
        assert sniff(data + more) == found


@given(beginnings())
def test_a_host_is_told_only_by_tls_and_http1_and_is_a_name(data: bytes) -> None:
    found = sniff(data)
    if found is not None and found.host:
        assert found.kind in (Kind.TLS, Kind.HTTP1)
        assert host_name(found.host.encode()) == found.host


@given(beginnings(), st.sampled_from([b"\0", b"A", b"\xff", b"\n", b" "]))
def test_at_the_limit_there_is_always_an_answer(data: bytes, rest: bytes) -> None:
    assert sniff(data.ljust(SNIFF_LIMIT_BYTES, rest)) is not None


@given(METHODS, HOSTS, FIELDS, FIELDS, st.integers(0, 65535) | st.none())
def test_the_one_host_of_a_lawful_request_is_found(
    method: str, host: str, before: list[tuple[str, str]], after: list[tuple[str, str]], port: int | None
) -> None:
    value = host if port is None else f"{host}:{port}"
    lines = [f"{name}: {value}" for name, value in (*before, ("Host", value), *after)]
    request = "\r\n".join((f"{method} /x HTTP/1.1", *lines, "", "")).encode()
    found = sniff(request)
    assert found is not None
    assert (found.kind, found.host) == (Kind.HTTP1, host)


@given(HOSTS, HOSTS, FIELDS)
def test_two_host_fields_are_no_host_wherever_they_stand(one: str, two: str, between: list[tuple[str, str]]) -> None:
    lines = [f"{name}: {value}" for name, value in (("host", one), *between, ("Host", two))]
    found = sniff("\r\n".join(("GET / HTTP/1.1", *lines, "", "")).encode())
    assert found is not None
    assert found.host == ""


@given(st.binary(max_size=300))
def test_host_names_are_canonical(value: bytes) -> None:
    name = host_name(value)
    assert name == name.lower()
    assert host_name(name.encode()) == name
