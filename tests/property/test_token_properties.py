"""Whatever a stranger sends as a token or as a key set: nothing but what was signed is believed, and nothing breaks."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.tokens import (
    JwtVerifier,
    KeySetError,
    bound_to,
    claimed_issuer,
    read_answer,
    read_key_set,
)
from sidecar.tokens.places import Place
from tests.jwts import AUDIENCE, ISSUER, NOW, Signer, ec_key, ed_key, encoded, key_set, public, rsa_key

TRUSTED = TokenIssuer(
    name="shop/login",
    issuer=ISSUER,
    audiences=(AUDIENCE,),
    introspection=Introspection(url="https://login.example/", client_id="c", secret="s"),
)
VERIFIER = JwtVerifier(TRUSTED, read_key_set(key_set(ec_key(), rsa_key(), ed_key())))
TOKEN = Signer(key=ec_key()).token()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
CLAIMS = st.sampled_from(["iss", "aud", "exp", "nbf", "cnf", "active", "token_type", "x5t#S256"])
WORDS = st.sampled_from([ISSUER, AUDIENCE, NOW, NOW + 10, "Bearer", True]) | JSON


def parts(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCxyz019-_.=+/ \n\x00é"))
def test_a_token_of_which_a_character_was_changed_is_refused(at: int, put: str) -> None:
    changed = TOKEN[:at] + put + TOKEN[at + 1 :]
    found = VERIFIER.verify(changed, NOW)
    if isinstance(found, VerifiedToken):  # the last bits of a part may mean nothing (RFC 4648 section 3.5)
        assert parts(changed) == parts(TOKEN)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.binary(max_size=40).map(encoded), max_size=4).map(".".join))
def test_no_text_is_a_token(text: str) -> None:
    assert isinstance(VERIFIER.verify(text, NOW), TokenRefused)
    claimed_issuer(text)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "jwk", "jku", "x5u", "crit", "b64", "enc", "zip"]), WORDS),
    st.dictionaries(CLAIMS, WORDS),
)
def test_headers_and_claims_of_any_kind_break_nothing_and_need_a_signature(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    _, _, signature = TOKEN.split(".")
    text = ".".join([encoded(json.dumps(header).encode()), encoded(json.dumps(claims).encode()), signature])
    assert isinstance(VERIFIER.verify(text, NOW), TokenRefused)
    found = read_answer(TRUSTED, json.dumps(claims).encode(), NOW)
    if isinstance(found, VerifiedToken):
        assert claims["active"] is True
        bound_to(found, "ab" * 32)


@settings(max_examples=300, deadline=None)
@given(JSON | st.fixed_dictionaries({"keys": st.lists(st.dictionaries(st.text(max_size=4), JSON), max_size=3)}))
def test_any_json_is_a_key_set_or_refused(found: object) -> None:
    try:
        read_key_set(json.dumps(found))
    except KeySetError:
        return
    raise AssertionError("no key was in it")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([ec_key(), rsa_key(), ed_key()]),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "alg", "kid", "key_ops", "d", "k"]),
        WORDS | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "AQAB", "sig", "enc", "ES256", "none", "A" * 500]),
        min_size=1,
        max_size=2,
    ),
)
def test_a_key_of_which_members_were_changed_is_taken_as_such_or_refused(key: Any, changed: dict[str, Any]) -> None:
    try:
        found = read_key_set(key_set(public(key, **changed)))
    except KeySetError:
        return
    assert read_key_set(found.text).keys == found.keys
    assert {"d", "k"}.isdisjoint(name for name, value in changed.items() if value is not None)


class Asked:
    """A request with one field, as often as it has values."""

    now, leaf_sha256, waits = NOW, "", None

    def __init__(self, name: bytes, values: list[bytes]) -> None:
        self._name, self._values = name, values

    def header(self, name: bytes) -> list[bytes]:
        return self._values if name == self._name else []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.binary(max_size=20).map(lambda value: b"Bearer " + value), max_size=3))
def test_what_is_found_is_exactly_one_token(values: list[bytes]) -> None:
    found = Place(b"authorization", b"").find(Asked(b"authorization", values))
    if isinstance(found, str):
        assert len(values) == 1
        assert values[0].lower().startswith(b"bearer ")
        assert values[0].endswith(found.encode())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"session=abc", b"session=", b"other=x", b";", b" ", b"session", b"a=b=c"]), max_size=6)
)
def test_a_cookie_is_found_only_once(pieces: list[bytes]) -> None:
    line = b"; ".join(pieces)
    found = Place(b"", b"session").find(Asked(b"cookie", [line]))
    if isinstance(found, str):
        assert found == "abc"
        assert pieces.count(b"session=abc") == 1
