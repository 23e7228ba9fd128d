"""Claims as header fields: what is told as it is, and what is rather not told."""

from __future__ import annotations

import pytest

from sidecar.tokens.told import told_of

CLAIMS: dict[str, object] = {
    "sub": "alice",
    "realm": {"roles": ["a", "b"]},
    "https://shop.example/team": "blue",
    "admin": True,
    "level": 7,
    "odd": ["a,admin", "b"],
    "empty": [],
    "nested": {"a": "é"},
}


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("sub", b"alice"),
        ("realm.roles", b"a,b"),
        ("https://shop.example/team", b"blue"),
        ("admin", b"true"),
        ("level", b"7"),
        ("odd", b'["a,admin","b"]'),
        ("empty", b"[]"),
        ("nested", b'{"a":"\\u00e9"}'),
    ],
)
def test_claims_are_told(claim: str, value: bytes) -> None:
    assert told_of(CLAIMS, (("x-told", claim),)) == ((b"x-told", value),)


@pytest.mark.parametrize(
    "value", [None, "", " a", "a ", "a\r\nx-admin: 1", "a\x00", "José", "a\x7f", "x" * 5000, "a\tb"]
)
def test_what_cannot_stand_in_a_header_is_not_told(value: object) -> None:
    assert told_of({"sub": value}, (("x-user", "sub"),)) == ()
    assert told_of({}, (("x-user", "sub"), ("x-team", "realm.team"))) == ()
