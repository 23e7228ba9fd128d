"""Key sets of issuers: which are taken, and which are refused whole."""

from __future__ import annotations

import json

import pytest

from ringfence.policy.tokens import KeySetError, read_key_set
from ringfence.policy.tokens import keys as key_sets
from tests.jwts import ec_key, ed_key, encoded, key_set, public, rsa_key


def test_all_kinds_are_read_and_the_text_of_a_set_reads_the_same() -> None:
    keys = [rsa_key(), ec_key(), ec_key("p384", "P-384"), ec_key("p521", "P-521"), ed_key()]
    found = read_key_set(key_set(*keys))
    assert [key.kid for key in found.keys] == ["ec-1", "ed-1", "p384", "p521", "rsa-1"]
    assert read_key_set(found.text).keys == found.keys
    assert read_key_set(key_set(*reversed(keys))).text == found.text


def test_only_what_verifies_by_our_algorithms_is_kept() -> None:
    others = [
        public(ec_key("a"), use="enc"),
        public(ec_key("b"), key_ops=["sign"]),
        public(ec_key("c"), alg="RS256"),
        public(ec_key("d"), alg="HS256"),
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "e"},
        {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "f"},
        {"kty": "AKP", "pub": "AA", "kid": "g"},
    ]
    found = read_key_set(key_set(*others, public(ec_key(), use="sig", key_ops=["verify"], alg="ES256", x5c=["AA"])))
    assert [key.kid for key in found.keys] == ["ec-1"]
    assert found.left_out == len(others)
    assert "x5c" not in found.text


def test_a_set_of_ten_thousand_keys_is_refused_before_any_key_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(self: object) -> None:
        raise AssertionError("a key was made")

    monkeypatch.setattr(key_sets.PublicKey, "made", made)
    with pytest.raises(KeySetError, match="larger than"):
        read_key_set(key_set(*[public(ec_key(), kid=str(at)) for at in range(10_000)]))
    with pytest.raises(KeySetError, match="10000 keys are more than 100"):
        read_key_set(json.dumps({"keys": [{}] * 10_000}))


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "k"])
def test_a_published_private_key_refuses_the_set(member: str) -> None:
    with pytest.raises(KeySetError, match="key 1 is a secret"):
        read_key_set(key_set(ec_key(), public(rsa_key(), **{member: "AA"})))


def test_a_shared_secret_refuses_the_set() -> None:
    with pytest.raises(KeySetError, match="is a secret"):
        read_key_set(key_set(ec_key(), {"kty": "oct", "kid": "s"}))


def test_weak_and_hostile_rsa_keys_refuse_the_set() -> None:
    with pytest.raises(KeySetError, match="of 1024 bits"):
        read_key_set(key_set({"kty": "RSA", "n": encoded(b"\xff" * 128), "e": "AQAB", "kid": "short"}))
    with pytest.raises(KeySetError, match="of 16384 bits"):
        read_key_set(key_set({"kty": "RSA", "n": encoded(b"\xff" * 2048), "e": "AQAB", "kid": "long"}))
    with pytest.raises(KeySetError, match="exponent"):
        read_key_set(key_set(public(rsa_key(), e=encoded(b"\x01" * 8 + b"\x01"))))
    with pytest.raises(KeySetError, match="is no RSA key"):
        read_key_set(key_set(public(rsa_key(), e=encoded(b"\x01"))))


def test_a_point_off_its_curve_refuses_the_set() -> None:
    with pytest.raises(KeySetError, match="is no EC key"):
        read_key_set(key_set(public(ec_key(), y=encoded(b"\x01" * 32))))


def test_a_kid_twice_refuses_the_set() -> None:
    with pytest.raises(KeySetError, match="two keys have the kid 'one'"):
        read_key_set(key_set(public(ec_key(), kid="one"), public(ed_key(), kid="one")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "no list of keys"),
        ('{"keys": {}}', "no list of keys"),
        ('{"keys": []}', "no key that verifies"),
        ('{"keys": [1]}', "key 0 is no object"),
        ('{"keys": [], "keys": []}', "has a member twice"),
        ('{"keys": ' + "[" * 100_000, "nested too deeply"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "A+/", "y": "AA"}]}), "no lawful x"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": 7, "y": "AA"}]}), "no lawful x"),
        (json.dumps({"keys": [{"kty": "RSA", "e": "AQAB"}]}), "no lawful n"),
        (json.dumps({"keys": [{"kty": "RSA", "e": "AQAB", "kid": "a\nb"}]}), "kid that is no short text"),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_what_is_no_key_set_is_refused(text: str | bytes, says: str) -> None:
    with pytest.raises(KeySetError, match=says):
        read_key_set(text)
