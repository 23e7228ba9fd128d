"""Tokens: the one that holds, and each of its neighbours that must not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
from ringfence.policy.model import TokenIssuer
from ringfence.policy.tokens import JwtVerifier, bound_to, claimed_issuer, is_jwt, read_key_set, thumbprint
from tests.jwts import (
    AUDIENCE,
    ISSUER,
    NOW,
    Signer,
    all_claims,
    by_shared_secret,
    ec_key,
    ed_key,
    encoded,
    key_set,
    public,
    rsa_key,
    unsigned,
)

KEYS = key_set(rsa_key(), ec_key(), ed_key())
BY = Signer(key=ec_key())
TRUSTED = TokenIssuer(
    name="shop/login", issuer=ISSUER, audiences=(AUDIENCE,), algorithms=("RS256", "PS256", "ES256", "ES384", "EdDSA")
)


def verify(token: str, issuer: TokenIssuer = TRUSTED, keys: str = KEYS, now: float = NOW) -> Token:
    return JwtVerifier(issuer, read_key_set(keys)).verify(token, now)


def refusal(found: Token) -> str:
    assert isinstance(found, TokenRefused), found
    return found.detail


@pytest.mark.parametrize(
    ("signer"),
    [
        BY,
        Signer(key=rsa_key(), algorithm="RS256"),
        Signer(key=rsa_key(), algorithm="PS256"),
        Signer(key=ed_key(), algorithm="EdDSA"),
    ],
    ids=lambda signer: signer.algorithm,
)
def test_a_right_token_holds(signer: Signer) -> None:
    found = verify(signer.token(scope="read write"))
    assert isinstance(found, VerifiedToken)
    assert (found.issuer, found.claims["scope"], found.expires) == ("shop/login", "read write", NOW + 330)
    head, payload, signature = signer.token().split(".")
    for changed in (f"{head}.{encoded(json.dumps(all_claims({'sub': 'mallory'})).encode())}.{signature}",):
        assert refusal(verify(changed)) == "its signature does not hold"
    assert refusal(verify(f"{head}.{payload}.{'A' * len(signature)}")) == "its signature does not hold"


def test_ed25519_is_taken_by_either_of_its_names_and_by_none_that_the_issuer_does_not_use() -> None:
    for name in ("EdDSA", "Ed25519"):
        signer = Signer(key=ed_key(), algorithm=name)
        assert isinstance(verify(signer.token(), keys=key_set(public(ed_key(), alg="Ed25519"))), VerifiedToken)
        refused = verify(signer.token(), replace(TRUSTED, algorithms=("ES256",)))
        assert refusal(refused) == "its algorithm is none of the issuer's"
    assert refusal(verify(Signer(key=ed_key(), algorithm="Ed25519").token({"kid": "ec-1"}))) == (
        "its algorithm does not fit the key of its kid"
    )


def test_alg_none_is_refused() -> None:
    for spelling in ("none", "None", "NONE", ""):
        token = BY.token({"alg": spelling})
        assert refusal(verify(token)) == "its algorithm is none of the issuer's"
    assert refusal(verify(unsigned())) == "its algorithm is none of the issuer's"
    assert refusal(verify(unsigned().removesuffix("AA"))) == "it is no JWT"


def test_hs256_with_a_public_key_is_refused() -> None:
    for kid, secret in (
        ("rsa-1", rsa_key().as_pem(private=False)),
        ("rsa-1", rsa_key().as_der(private=False)),
        ("ec-1", json.dumps(public(ec_key())).encode()),
    ):
        assert refusal(verify(by_shared_secret(secret, kid))) == "its algorithm is none of the issuer's"
    # Not even an issuer that asks for it gets it.
    careless = replace(TRUSTED, algorithms=("HS256", "none"))
    assert refusal(verify(by_shared_secret(rsa_key().as_pem(private=False), "rsa-1"), careless)) == (
        "its algorithm is none of the issuer's"
    )
    assert refusal(verify(unsigned(), careless)) == "its algorithm is none of the issuer's"


def test_an_algorithm_that_the_issuer_does_not_use_is_refused() -> None:
    token = Signer(key=rsa_key(), algorithm="RS256").token()
    assert refusal(verify(token, replace(TRUSTED, algorithms=("ES256",)))) == "its algorithm is none of the issuer's"


def test_an_algorithm_that_does_not_fit_the_key_is_refused() -> None:
    misfit = "its algorithm does not fit the key of its kid"
    assert refusal(verify(BY.token({"alg": "ES384"}))) == misfit
    assert refusal(verify(BY.token({"alg": "RS256"}))) == misfit
    pinned = key_set(public(rsa_key(), alg="PS256"))
    assert refusal(verify(Signer(key=rsa_key(), algorithm="RS256").token(), keys=pinned)) == misfit


def test_a_kid_is_looked_up_and_an_unknown_one_refused() -> None:
    assert "kid 'ec-2' is in no key set" in refusal(verify(BY.token({"kid": "ec-2"})))
    # By a key of the attacker's own under a kid of the set, or in the token itself.
    stranger = Signer(key=ec_key("stranger"))
    assert refusal(verify(stranger.token({"kid": "ec-1"}))) == "its signature does not hold"
    assert "in no key set" in refusal(verify(stranger.token({"jwk": public(ec_key("stranger"))})))
    assert refusal(verify(BY.token({"kid": 7}))) == "its kid is no text"


def test_a_token_without_kid_needs_the_one_key_that_fits() -> None:
    assert isinstance(verify(BY.token({"kid": None})), VerifiedToken)
    two = key_set(ec_key(), ec_key("ec-2"))
    assert refusal(verify(BY.token({"kid": None}), keys=two)) == "it names no kid, and 2 keys fit its algorithm"


def test_a_new_key_set_changes_what_holds() -> None:
    new = Signer(key=ec_key("ec-2"))
    rotated = key_set(ec_key("ec-2"))
    assert isinstance(verify(new.token(), keys=rotated), VerifiedToken)
    assert "in no key set" in refusal(verify(BY.token(), keys=rotated))


def test_without_keys_every_token_is_refused() -> None:
    assert "never answered" in refusal(JwtVerifier(TRUSTED, None).verify(BY.token(), NOW))


@pytest.mark.parametrize("aud", ["payments", "Orders", ["payments"], [], None, 7, [7], {"orders": 1}])
def test_a_wrong_audience_is_refused(aud: object) -> None:
    assert refusal(verify(BY.token(aud=aud))) == "it is for another audience"


def test_one_audience_of_several_is_enough() -> None:
    assert isinstance(verify(BY.token(aud=["payments", "orders"])), VerifiedToken)


@pytest.mark.parametrize("iss", ["https://login.example", "https://login.example//", "HTTPS://login.example/", None, 7])
def test_another_issuer_is_refused(iss: object) -> None:
    assert refusal(verify(BY.token(iss=iss))) == "it is of another issuer"


def test_an_expired_token_is_refused_behind_the_leeway() -> None:
    token = BY.token(exp=NOW)
    assert isinstance(verify(token, now=NOW + 29.9), VerifiedToken)
    assert refusal(verify(token, now=NOW + 30)) == "it has expired"


@pytest.mark.parametrize("exp", [None, "1700000300", True, [1]])
def test_a_token_that_does_not_say_when_it_ends_is_refused(exp: object) -> None:
    assert refusal(verify(BY.token(exp=exp))) == "it has no exp that is a time"


@pytest.mark.parametrize("exp", ["1e999", "1" + "0" * 400, "NaN", "Infinity"])
def test_a_token_whose_end_is_no_moment_is_refused(exp: str) -> None:
    payload = json.dumps(all_claims({"exp": 1})).replace('"exp": 1', f'"exp": {exp}').encode()
    assert refusal(verify(BY.signed(payload))) in (
        "it has no exp that is a time",
        "its claims are has a number that is none",
    )


def test_a_token_before_its_time_is_refused() -> None:
    token = BY.token(nbf=NOW)
    assert refusal(verify(token, now=NOW - 31)) == "it is not valid yet"
    assert isinstance(verify(token, now=NOW - 30), VerifiedToken)
    assert refusal(verify(BY.token(nbf="soon"))) == "its nbf is no time"


def test_only_types_of_access_tokens_are_taken() -> None:
    for lawful in ("JWT", "jwt", "at+jwt", "application/at+JWT", None):
        assert isinstance(verify(BY.token({"typ": lawful})), VerifiedToken)
    for other in ("logout+jwt", "dpop+jwt", "JOSE", "", 7, ["JWT"]):
        assert refusal(verify(BY.token({"typ": other}))) == "its typ is not that of an access token"


def test_headers_that_demand_more_than_is_understood_are_refused() -> None:
    for more in ({"crit": ["exp"]}, {"crit": []}, {"b64": False}):
        assert "demands" in refusal(verify(BY.token(more)))


def test_a_huge_token_is_refused_unread() -> None:
    assert refusal(verify(BY.token(filler="x" * 9_000))) == "it is larger than 8192 bytes"
    assert isinstance(verify(BY.token(filler="x" * 5_000)), VerifiedToken)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c\n", "a.b.ü", " a.b.c", "a.b=.c"])
def test_what_has_not_the_form_of_a_jwt_is_refused(token: str) -> None:
    assert not is_jwt(token)
    assert refusal(verify(token)) == "it is no JWT"


@pytest.mark.parametrize(
    "header", [b"", b"[]", b'{"alg":"ES256","alg":"none"}', b"\xff", b"{" * 2000, b'{"alg":["ES256"]}']
)
def test_a_header_that_can_be_read_in_two_ways_is_refused(header: bytes) -> None:
    _, payload, signature = BY.token().split(".")
    assert isinstance(verify(f"{encoded(header) or 'e30'}.{payload}.{signature}"), TokenRefused)


def test_claims_that_can_be_read_in_two_ways_are_refused() -> None:
    twice = json.dumps(all_claims({})).replace("{", '{"aud": "payments", ', 1).encode()
    assert "member twice" in refusal(verify(BY.signed(twice)))
    assert "nested" in refusal(verify(BY.signed(b'{"a":' + b"[" * 5_000)))
    assert "no JSON object" in refusal(verify(BY.signed(b'"text"')))


def test_no_refusal_shows_the_token() -> None:
    for token in (BY.token(aud="x"), BY.token({"kid": "k" * 200}), unsigned(), "a.b.c"):
        detail = refusal(verify(token))
        assert not any(part in detail for part in token.split(".") if len(part) > 8)


def test_a_bound_token_is_good_with_its_certificate_alone() -> None:
    mine, theirs = "ab" * 32, "cd" * 32
    token = verify(BY.token(cnf={"x5t#S256": thumbprint(mine)}))
    assert isinstance(token, VerifiedToken)
    assert bound_to(token, mine) is token
    assert "another client" in refusal(bound_to(token, theirs))
    assert "another client" in refusal(bound_to(token, ""))


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": thumbprint("ab" * 32), "jkt": "x"}, {}, "x", []])
def test_a_token_bound_to_what_is_not_read_here_is_good_with_none(cnf: object) -> None:
    token = verify(BY.token(cnf=cnf))
    assert isinstance(token, VerifiedToken)
    assert "not read here" in refusal(bound_to(token, "ab" * 32))


def test_an_unbound_token_is_good_with_any() -> None:
    token = verify(BY.token())
    assert isinstance(token, VerifiedToken)
    assert bound_to(token, "") is token


def test_the_claimed_issuer_is_read_without_belief() -> None:
    assert claimed_issuer(BY.token(iss="https://other/")) == "https://other/"
    for token in (BY.token(iss=7), BY.token(iss=None), "a.b.c", "opaque"):
        assert claimed_issuer(token) == ""
