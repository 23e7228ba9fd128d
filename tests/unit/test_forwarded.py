"""The fields that tell from where a request comes: how a list is read, and an address written."""

from __future__ import annotations

import pytest

from ringfence.policy.decide import CallerView
from sidecar import forwarded
from sidecar.caller import Caller
from sidecar.http2 import literal


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b" HTTP/1.1\r\nhost: a\r\n\r\n", b"10.0.0.1"),
        (b" HTTP/1.1\r\nX-Forwarded-For:  1.1.1.1 , 2.2.2.2\t\r\n\r\n", b"1.1.1.1 , 2.2.2.2, 10.0.0.1"),
        (
            b" HTTP/1.1\r\nx-forwarded-for: 1.1.1.1\r\na: b\r\nx-forwarded-for: 2.2.2.2\r\n\r\n",
            b"1.1.1.1, 2.2.2.2, 10.0.0.1",
        ),
        (b" HTTP/1.1\r\nx-forwarded-for: \r\n\r\n", b"10.0.0.1"),
        (b" HTTP/1.1\r\nx_forwarded_for: 1.1.1.1\r\n\r\n", b"10.0.0.1"),
        (b" HTTP/1.1\r\nx-forwarded-for-too: 1.1.1.1\r\nnot-x-forwarded-for: 2.2.2.2\r\n\r\n", b"10.0.0.1"),
        (b" HTTP/1.1\r\na: x-forwarded-for: 1.1.1.1\r\n\r\n", b"10.0.0.1"),
    ],
)
def test_an_address_goes_behind_all_that_a_block_lists(block: bytes, expected: bytes) -> None:
    assert forwarded.appended_line(block, b"10.0.0.1") == b"x-forwarded-for: " + expected + b"\r\n"


def test_a_hostile_list_costs_no_more_than_its_length() -> None:
    """A line of 2 MB, blank inside: linear work is done at once, squared work would run into the test's deadline."""
    gap = b"1.1.1.1" + b" " * 2_000_000 + b"2.2.2.2"
    block = b" HTTP/1.1\r\nx-forwarded-for: " + gap + b"\r\n\r\n"
    assert forwarded.appended_line(block, b"10.0.0.1") == b"x-forwarded-for: " + gap + b", 10.0.0.1\r\n"


def test_an_address_goes_behind_all_fields_of_http_2() -> None:
    fields = [(b"x-forwarded-for", b"1.1.1.1"), (b"x-real-ip", b"3.3.3.3"), (b"x-forwarded-for", b"2.2.2.2")]
    expected = literal(b"x-forwarded-for", b"1.1.1.1, 2.2.2.2, 10.0.0.1")
    assert forwarded.appended_field(fields, b"10.0.0.1") == expected


@pytest.mark.parametrize(
    ("host", "expected"), [("10.0.0.1", b"10.0.0.1"), ("fd00::1", b"fd00::1"), ("fe80::1%eth0", b"fe80::1")]
)
def test_an_address_bears_neither_port_nor_zone(host: str, expected: bytes) -> None:
    assert forwarded.address_of((host, 4711)) == expected


def test_a_caller_of_unknown_address_is_told_by_its_identity_alone() -> None:
    view: CallerView = None  # type: ignore[assignment]
    caller = Caller(spiffe_id=None, view=view)
    assert (caller.told_line, caller.told_field) == (b"", b"")
    caller.tell("URI=spiffe://shop.example/a")
    assert caller.told_line == caller.identity_line == b"x-forwarded-client-cert: URI=spiffe://shop.example/a\r\n"
    known = Caller(spiffe_id=None, view=view, address=b"10.0.0.1")
    assert known.told_line == b"x-forwarded-for: 10.0.0.1\r\n"
    known.tell("URI=spiffe://shop.example/a")
    assert known.told_line == caller.identity_line + b"x-forwarded-for: 10.0.0.1\r\n"
