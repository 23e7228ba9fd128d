"""What is read from an authorization server's word on an opaque token."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest

from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.tokens import question, read_answer
from tests.jwts import AUDIENCE, ISSUER, NOW

ISSUER_ = TokenIssuer(
    name="shop/login",
    issuer=ISSUER,
    audiences=(AUDIENCE,),
    introspection=Introspection(
        url="https://login.example/introspect", client_id="orders", secret="s", cache_seconds=60
    ),
)


def answer(**told: object) -> VerifiedToken | TokenRefused:
    return read_answer(ISSUER_, json.dumps({"active": True, "aud": AUDIENCE, **told}).encode(), NOW)


def test_a_token_is_posted_as_a_form() -> None:
    asked = parse_qs(question("a+b/c=").decode(), strict_parsing=True)
    assert asked == {"token": ["a+b/c="], "token_type_hint": ["access_token"]}


def test_an_active_token_holds_until_its_end() -> None:
    found = answer(exp=NOW + 10, scope="read", iss=ISSUER, token_type="Bearer")
    assert isinstance(found, VerifiedToken)
    assert (found.expires, found.claims["scope"]) == (NOW + 40, "read")


def test_without_an_end_it_holds_for_as_long_as_it_is_remembered() -> None:
    found = answer()
    assert isinstance(found, VerifiedToken)
    assert found.expires == NOW + 60 + 30


@pytest.mark.parametrize("active", [False, None, "true", 1, [True]])
def test_a_token_that_is_not_active_is_refused(active: object) -> None:
    assert isinstance(answer(active=active), TokenRefused)


@pytest.mark.parametrize(
    "told",
    [
        {"aud": "payments"},
        {"aud": None},
        {"iss": "https://other/"},
        {"exp": NOW - 60},
        {"nbf": NOW + 60},
        {"token_type": "DPoP"},
        {"token_type": "refresh_token"},
        {"exp": "soon"},
    ],
)
def test_what_a_jwt_would_be_refused_for_is_refused(told: dict[str, object]) -> None:
    assert isinstance(answer(**told), TokenRefused)


@pytest.mark.parametrize("body", [b"", b"[]", b"active", b'{"active": true, "active": true}', b" " * 70_000])
def test_an_answer_that_is_none_is_a_refusal(body: bytes) -> None:
    assert isinstance(read_answer(ISSUER_, body, NOW), TokenRefused)
