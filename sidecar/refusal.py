"""Refusals as they travel: the header that tells the caller's sidecar, and the HTTP response that tells the app. Pure.

A refusal carries a stable reason, a request id and its origin (the SPIFFE ID of the sidecar that refused), never a word
of the policy: the story is in the refusing sidecar's log under the id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ringfence.policy.decision import Deny
from ringfence.policy.reasons import DenyReason

HEADER: Final = b"x-ringfence-refusal"

# reason -> HTTP status. What is not here is a refusal by policy: 403.
_STATUS: Final[Mapping[str, int]] = {
    DenyReason.PROTOCOL_ERROR: 400,
    DenyReason.TOKEN_MISSING: 401,
    DenyReason.TOKEN_INVALID: 401,
    DenyReason.STEP_UP_REQUIRED: 401,
    DenyReason.RATE_LIMITED: 429,
    DenyReason.APP_UNREACHABLE: 502,
    DenyReason.UPSTREAM_UNREACHABLE: 502,
    DenyReason.PEER_REFUSED: 502,
    DenyReason.IDENTITY_EXPIRED: 502,
    DenyReason.APP_TIMEOUT: 504,
    DenyReason.UPSTREAM_TIMEOUT: 504,
    DenyReason.REQUEST_TIMEOUT: 504,
    DenyReason.OVERLOADED: 503,
    DenyReason.CIRCUIT_OPEN: 503,
    DenyReason.DRAINING: 503,
    DenyReason.NO_SNAPSHOT: 503,
    DenyReason.NO_IDENTITY: 503,
    DenyReason.REPROOF_REFUSED: 502,
    DenyReason.PLAINTEXT_REFUSED: 502,
    DenyReason.CALLER_TIMEOUT: 408,
    DenyReason.INTERNAL_ERROR: 500,
}
_PHRASES: Final[Mapping[int, str]] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    408: "Request Timeout",
    421: "Misdirected Request",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_KNOWN: Final[Mapping[str, DenyReason]] = {reason.value: reason for reason in DenyReason}
RETRY_AFTER: Final = b"retry-after"
CHALLENGE: Final = b"www-authenticate"
# RFC 6750 section 3.1 and RFC 9470 section 3. Without a token no error is named, as the former asks.
_CHALLENGES: Final[Mapping[DenyReason, str]] = {
    DenyReason.TOKEN_MISSING: "Bearer",
    DenyReason.TOKEN_INVALID: 'Bearer error="invalid_token"',
    DenyReason.TOKEN_INSUFFICIENT: 'Bearer error="insufficient_scope"',
    DenyReason.STEP_UP_REQUIRED: 'Bearer error="insufficient_user_authentication"',
}
_FOREIGN: Final = re.compile(r"[^!#-\[\]-~]")  # RFC 6750: what no word in a value of a challenge may hold
_SECONDS = re.compile(rb"[1-9][0-9]{0,5}")
_VALUE = re.compile(rb"reason=([a-z_]{1,40}); id=([0-9a-f]{1,64}); origin=([!-:<-~]{0,2048})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """``reason`` is a DenyReason where it is ours; a peer of a later version may send one that we do not know.

    ``retry_after_seconds``: when the same may be asked again; 0: that is not known. ``challenge``: what token would do,
    as the value of ``www-authenticate``; empty where it is not about one. Both are told beside the header, not in it.
    """

    reason: str
    request_id: str
    origin: str
    retry_after_seconds: int = 0
    challenge: str = ""

    def header_value(self) -> bytes:
        return f"reason={self.reason}; id={self.request_id}; origin={self.origin}".encode()


def parse_refusal(value: bytes) -> Refusal | None:
    """The refusal in a header value, or None if it is not exactly of our form."""
    match = _VALUE.fullmatch(value)
    if match is None:
        return None
    reason, request_id, origin = (part.decode("ascii") for part in match.groups())
    return Refusal(reason=reason, request_id=request_id, origin=origin)


def told_by(value: bytes, peer: str, again: bytes = b"") -> Refusal | None:
    """A refusal as the peer tells it; its origin is the peer, whatever it says. ``again``: the ``retry-after``."""
    told = parse_refusal(value)
    return replace(told, origin=peer, retry_after_seconds=_seconds(again)) if told is not None else None


def _seconds(value: bytes) -> int:
    return int(value) if _SECONDS.fullmatch(value) is not None else 0


def is_told(local: object, header: bytes | None) -> bool:
    """Whether a request's refusal was recorded when it happened: answered here, or by another sidecar that said so."""
    return local is not None or (header is not None and parse_refusal(header) is not None)


def challenge_of(decision: Deny) -> str:
    """What a refusal for its token tells the caller, and all that it tells: that one is wanted, or how the user must
    prove who they are. Scopes and claims that would do are the policy's, and stay here."""
    challenge = _CHALLENGES.get(decision.reason, "")
    step_up = decision.step_up
    if step_up is None or decision.reason is not DenyReason.STEP_UP_REQUIRED:
        return challenge
    if step_up.acr and not any(_FOREIGN.search(one) for one in step_up.acr):
        challenge += f', acr_values="{" ".join(step_up.acr)}"'
    if step_up.max_age_seconds is not None:
        challenge += f', max_age="{step_up.max_age_seconds}"'
    return challenge


def challenge_for(reason: str) -> str:
    """The same, where no more than the reason is known."""
    known = known_reason(reason)
    return challenge_of(Deny(known)) if known is not None else ""


def status_of(reason: str) -> int:
    """HTTP status for a refusal; an unknown reason is a denial."""
    return _STATUS.get(reason, 403)


def is_failure(reason: str) -> bool:
    """Whether something broke, so that a connection ends by a reset; what is refused on purpose ends by a close."""
    return status_of(reason) not in (401, 403, 429)


def known_reason(reason: str) -> DenyReason | None:
    """The reason as one of ours; None for one that only a later version knows."""
    return _KNOWN.get(reason)


def content(refusal: Refusal, status: int) -> bytes:
    """What an HTTP client reads of a refusal: a JSON object on one line."""
    kind = "denied" if status in (401, 403) else "refused" if status < 500 else "unavailable"
    told = {"error": kind, "reason": refusal.reason, "request_id": refusal.request_id}
    return json.dumps(told).encode() + b"\n"


def http_response(refusal: Refusal, *, status: int | None = None) -> bytes:
    """A whole HTTP/1.1 response without a connection field: the inspector adds that, and takes the body off for HEAD.

    ``status`` overrides the reason's own, where the failing side matters more than the reason.
    """
    if status is None:
        status = status_of(refusal.reason)
    body = content(refusal, status)
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "cache-control: no-store\r\n"
    )
    if refusal.retry_after_seconds:
        head += f"retry-after: {refusal.retry_after_seconds}\r\n"
    if refusal.challenge:
        head += f"www-authenticate: {refusal.challenge}\r\n"
    header = HEADER + b": " + refusal.header_value() + b"\r\n\r\n"
    return head.encode() + header + body
