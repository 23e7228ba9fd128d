"""Refusals on the wire: what is written is read back, what is not exactly of our form is nothing, statuses fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ringfence.policy.decision import Deny, StepUp
from ringfence.policy.reasons import DenyReason, ReasonKind
from sidecar import refusal
from sidecar.http2_relay import answer_of
from sidecar.refusal import Refusal, http_response, known_reason, parse_refusal, status_of

TOLD = Refusal(reason="path_not_allowed", request_id="0123456789abcdef", origin="spiffe://shop.example/ns/shop/sa/api")


@pytest.mark.parametrize("reason", list(DenyReason))
def test_every_reason_survives_the_wire(reason: DenyReason) -> None:
    told = Refusal(reason=reason, request_id="ab12", origin=TOLD.origin)
    assert parse_refusal(told.header_value()) == told
    assert known_reason(reason.value) is reason


def test_a_reason_of_a_later_version_is_read_and_known_to_be_unknown() -> None:
    told = parse_refusal(b"reason=quota_used_up; id=ab; origin=x")
    assert told is not None
    assert told.reason == "quota_used_up"
    assert known_reason(told.reason) is None
    assert status_of(told.reason) == 403


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"reason=x",
        TOLD.header_value() + b" ",
        b" " + TOLD.header_value(),
        TOLD.header_value() + b"\n",
        TOLD.header_value() + b"\r\nset-cookie: x",
        TOLD.header_value() + b"; extra=1",
        b"reason=; id=ab; origin=x",
        b"reason=Upper; id=ab; origin=x",
        b"reason=" + b"a" * 41 + b"; id=ab; origin=x",
        b"reason=x; id=; origin=x",
        b"reason=x; id=AB; origin=x",
        b"reason=x; id=" + b"a" * 65 + b"; origin=x",
        b"reason=x; id=ab; origin=a b",
        b"reason=x; id=ab; origin=a;b",
        b"reason=x; id=ab; origin=\x1b[31m",
        b"reason=x; id=ab; origin=\xc3\xa9",
        b"reason=x; id=ab; origin=" + b"a" * 2049,
        b"id=ab; reason=x; origin=y",
        b"reason=x;id=ab;origin=y",
    ],
)
def test_what_is_not_exactly_of_our_form_is_no_refusal(value: bytes) -> None:
    assert parse_refusal(value) is None


def test_the_response_is_whole_and_tells_the_reason_and_the_id_and_no_more() -> None:
    head, _, body = http_response(TOLD).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 403 Forbidden"
    fields = dict(line.split(b": ", 1) for line in lines[1:])
    assert fields[b"content-length"] == b"%d" % len(body)
    assert parse_refusal(fields[refusal.HEADER]) == TOLD
    assert fields[b"cache-control"] == b"no-store"
    assert b"connection" not in fields
    assert json.loads(body) == {"error": "denied", "reason": TOLD.reason, "request_id": TOLD.request_id}


@pytest.mark.parametrize("reason", list(DenyReason))
def test_a_reason_of_policy_is_a_403_and_a_failure_never_is(reason: DenyReason) -> None:
    status = status_of(reason)
    assert http_response(Refusal(reason=reason, request_id="ab", origin="")).startswith(b"HTTP/1.1 %d " % status)
    if reason is DenyReason.RATE_LIMITED:
        assert status == 429
    elif reason in (DenyReason.TOKEN_MISSING, DenyReason.TOKEN_INVALID, DenyReason.STEP_UP_REQUIRED):
        assert status == 401
    elif reason.kind is ReasonKind.POLICY:
        assert status == 403
    if reason.kind is ReasonKind.FAILURE:
        assert status != 403


def test_a_status_may_be_overridden_where_the_failing_side_matters_more() -> None:
    told = Refusal(reason=DenyReason.PROTOCOL_ERROR, request_id="ab", origin="")
    assert http_response(told).startswith(b"HTTP/1.1 400 ")
    answer = http_response(told, status=502)
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b'"error": "unavailable"' in answer


def test_when_to_come_again_is_told_beside_the_refusal_and_read_strictly() -> None:
    told = Refusal(reason=DenyReason.RATE_LIMITED, request_id="ab", origin="", retry_after_seconds=7)
    assert b"\r\nretry-after: 7\r\n" in http_response(told)
    assert b"retry-after" not in http_response(Refusal(reason=DenyReason.RATE_LIMITED, request_id="ab", origin=""))
    value = told.header_value()
    assert refusal.told_by(value, "spiffe://a/b", b"7") == replace(told, origin="spiffe://a/b")
    for again in (b"", b"0", b"-1", b"1.5", b"9999999", b"7, 8", b" 7", b"Wed, 21 Oct 2026 07:28:00 GMT"):
        heard = refusal.told_by(value, "", again)
        assert heard is not None
        assert heard.retry_after_seconds == 0


def test_what_is_refused_on_purpose_ends_by_a_close_and_what_broke_by_a_reset() -> None:
    calm = {reason for reason in DenyReason if not refusal.is_failure(reason)}
    assert calm >= {DenyReason.CALLER_NOT_ALLOWED, DenyReason.RATE_LIMITED}
    assert not calm & {DenyReason.UPSTREAM_UNREACHABLE, DenyReason.OVERLOADED, DenyReason.PROTOCOL_ERROR}


@pytest.mark.parametrize(
    ("decision", "challenge"),
    [
        (Deny(DenyReason.TOKEN_MISSING, "shop/api/reads"), "Bearer"),
        (Deny(DenyReason.TOKEN_INVALID, "shop/api/reads"), 'Bearer error="invalid_token"'),
        (Deny(DenyReason.TOKEN_INSUFFICIENT, "shop/api/reads"), 'Bearer error="insufficient_scope"'),
        (Deny(DenyReason.STEP_UP_REQUIRED), 'Bearer error="insufficient_user_authentication"'),
        (
            Deny(DenyReason.STEP_UP_REQUIRED, None, StepUp(acr=("phr", "urn:mfa"), max_age_seconds=900)),
            'Bearer error="insufficient_user_authentication", acr_values="phr urn:mfa", max_age="900"',
        ),
        (
            Deny(DenyReason.STEP_UP_REQUIRED, None, StepUp(acr=('a", x="b', "c\r\nset-cookie: d"))),
            'Bearer error="insufficient_user_authentication"',
        ),
        (Deny(DenyReason.CALLER_NOT_ALLOWED), ""),
        (Deny(DenyReason.PATH_NOT_ALLOWED, None, StepUp(acr=("phr",))), ""),
    ],
)
def test_a_refusal_for_its_token_tells_what_token_would_do_and_nothing_of_the_policy(
    decision: Deny, challenge: str
) -> None:
    assert refusal.challenge_of(decision) == challenge
    told = Refusal(reason=decision.reason, request_id="ab", origin="", challenge=challenge)
    lines = http_response(told).partition(b"\r\n\r\n")[0].split(b"\r\n")
    found = [line for line in lines if line.startswith(b"www-authenticate")]
    assert found == ([f"www-authenticate: {challenge}".encode()] if challenge else [])
    answer = answer_of(told)
    assert dict(answer.fields).get(b"www-authenticate", b"") == challenge.encode()
    assert answer.grpc_status == (16 if answer.status == 401 else 7)
    assert b"shop/api" not in b"".join(lines) + answer.head(with_content=False) + answer.trailers_only()
