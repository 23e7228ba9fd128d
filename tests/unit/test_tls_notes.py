"""What is noted of TLS that passes through: bounded, printable, and nothing of what is no TLS."""

from __future__ import annotations

import pytest

from sidecar.client_hello import HELLO_LIMIT_BYTES, read_hello
from sidecar.relay import RelayFacts
from sidecar.tls_notes import TlsNotes
from tests.client_hello import client_hello


def facts() -> RelayFacts:
    return RelayFacts(direction="inbound", peer="", service="a/b", port=1, protocol="tcp", started=0.0)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_hello_is_noted_however_it_is_cut(size: int) -> None:
    hello, noted, notes = client_hello(b"Db.example", alpn=[b"h2", b"x"]), facts(), TlsNotes()
    pieces = [hello[at : at + size] for at in range(0, len(hello), size)]
    assert [notes.wants_more(noted, piece) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert (noted.sni, noted.alpn) == ("db.example", "h2,x")


def test_what_is_no_tls_is_let_go_at_its_first_byte() -> None:
    noted = facts()
    assert not TlsNotes().wants_more(noted, b"G")
    assert (noted.sni, noted.alpn) == ("", "")


def test_a_hello_without_end_is_let_go_at_a_bound() -> None:
    noted, notes = facts(), TlsNotes()
    assert notes.wants_more(noted, b"\x16\x03\x01\x40\x00\x01\xff\xff\xff")
    assert not notes.wants_more(noted, bytes(HELLO_LIMIT_BYTES))
    assert (noted.sni, noted.alpn) == ("", "")


def test_what_a_client_offers_is_shown_printable_and_not_all_of_it() -> None:
    names = [b"a" * 100, b'"\n\x1b[31m', b"\xff,\\", b"b", b"c", b"d"]
    told = read_hello(client_hello(None, alpn=names))
    assert told is not None
    assert told.server_name == ""
    assert told.alpn == "a" * 16 + ",%22%0a%1b[31m,%ff%2c%5c,b,…"
