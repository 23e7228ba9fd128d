"""Request and status lines by themselves."""

from __future__ import annotations

import pytest

from sidecar.http1 import Malformed, MalformedError
from sidecar.http1.lines import METHODS, is_authority, origin_form, read_request_line, read_status_line


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_request_line_is_three_words(method: bytes) -> None:
    assert read_request_line(method + b" /a HTTP/1.0") == (method, b"/a", b"HTTP/1.0")


@pytest.mark.parametrize("line", [b"", b"GET", b"GET / HTTP/1.1 x", b" GET / HTTP/1.1", b"GET  HTTP/1.1", b"FOO /"])
def test_fewer_or_more_words_are_refused(line: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        read_request_line(line)
    assert caught.value.reason is Malformed.BAD_REQUEST_LINE


def test_the_detail_shows_the_value_escaped_and_cut() -> None:
    with pytest.raises(MalformedError) as caught:
        read_request_line(b"G\x1b" + b"T" * 500 + b" / HTTP/1.1")
    assert "\\x1b" in caught.value.detail
    assert len(caught.value.detail) < 150


@pytest.mark.parametrize(
    ("value", "lawful"),
    [
        (b"a", True),
        (b"a.b-c_d:1", True),
        (b"1.2.3.4:65535", True),
        (b"[fe80::1]:8080", True),
        (b"", False),
        (b":80", False),
        (b"a:", False),
        (b"a:65536", False),
        (b"a:123456", False),
        (b"[]", False),
        (b"[::1]x", False),
        (b"a\n", False),
        (b"a.b.:80", True),
        (b"a.b..", False),
        (b"a..b", False),
        (b".a", False),
    ],
)
def test_authorities(value: bytes, lawful: bool) -> None:
    assert is_authority(value) is lawful


def test_origin_form_of_each_form() -> None:
    assert origin_form(b"GET", b"/a?b", b"") == b"/a?b"
    assert origin_form(b"OPTIONS", b"*", b"h") == b"*"
    assert origin_form(b"GET", b"HTTP://H:1/a?b", b"h:1") == b"/a?b"
    assert origin_form(b"GET", b"http://h//a", b"h") == b"//a"


@pytest.mark.parametrize(
    ("target", "reason"),
    [(b"http://h:80/", Malformed.HOST_MISMATCH), (b"ftp://h/", Malformed.BAD_TARGET), (b"h:80", Malformed.BAD_TARGET)],
)
def test_targets_for_another_host_or_scheme(target: bytes, reason: Malformed) -> None:
    with pytest.raises(MalformedError) as caught:
        origin_form(b"GET", target, b"h")
    assert caught.value.reason is reason


def test_status_lines() -> None:
    assert read_status_line(b"HTTP/1.1 200 OK") == (True, 200)
    assert read_status_line(b"HTTP/1.0 503") == (False, 503)
    for line in (b"HTTP/1.1 200OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1", b"http/1.1 200 OK", b"HTTP/1.1 \xb2\xb2\xb2 OK"):
        with pytest.raises(MalformedError):
            read_status_line(line)
