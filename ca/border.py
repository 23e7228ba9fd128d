"""The network's edge of the authority: bounds what is in hand, sets deadlines, and chooses the words for each failure.

Whoever is not permitted an identity is told one and the same sentence, whatever the reason: a stranger who could tell a
spent token from an unknown one would learn which tokens exist. The reason goes to the log, under the request id that
the caller gets too (in the trailing metadata), so that an operator finds the one by the other.

Evidence is another matter: it cannot be guessed, says what it is to whoever holds it, and is got and renewed by
machines that must be mended when it is wrong. So what is wrong with it is told to who showed it, in fixed words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import grpc
from grpc import aio

from ca.desk import IssuingDesk
from ca.errors import (
    AttestorUnavailable,
    CaError,
    IssuerExpired,
    Overloaded,
    RefusalReason,
    Refused,
    RequestInvalid,
    StoreUnavailable,
)
from ringfence.attestation import EVIDENCE_WORDS

Context = aio.ServicerContext[Any, Any]
T = TypeVar("T")

REQUEST_ID_KEY: Final = "ringfence-request-id"
NOT_PERMITTED: Final = "this caller is not permitted an identity"
TOLD: Final = {
    **{RefusalReason(f"evidence_{fault}"): f"the evidence {words}" for fault, words in EVIDENCE_WORDS.items()},
    RefusalReason.EVIDENCE_KIND_UNKNOWN: "evidence of this kind is not taken here (is the control plane of another "
    "platform?)",
    RefusalReason.EVIDENCE_SPENT: "the evidence was used for another host key",
    RefusalReason.NOT_REGISTERED: "no registration entry gives an identity to whom the evidence is of",
    RefusalReason.SUBJECT_GONE: "the workload that enrolled the host key is gone",
}
"""The refusals that a caller is told of."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What to tell the caller, and what to count."""

    outcome: str
    code: grpc.StatusCode
    words: str


class Border:
    """Guards one servicer; counts what it has in hand."""

    def __init__(self, desk: IssuingDesk) -> None:
        self._desk = desk
        self._in_flight = 0

    async def serve(self, method: str, context: Context, work: Callable[[str], Awaitable[T]]) -> T:
        """Run ``work`` (given the request id) under the limits; on failure abort with the words for it."""
        request_id = self._desk.random_bytes(8).hex()
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        if self._in_flight >= self._desk.limits.in_flight:
            failure = _describe(Overloaded("in flight"))
        else:
            self._in_flight += 1
            try:
                async with asyncio.timeout(self._deadline(context)):
                    answer = await work(request_id)
                self._desk.tally.count(method, "done")
                return answer
            except Exception as problem:  # the request's border; cancellation is no Exception and passes
                failure = _describe(problem)
                self._log(method, context, request_id, failure, problem)
            finally:
                self._in_flight -= 1
        self._desk.tally.count(method, failure.outcome)
        await context.abort(failure.code, failure.words, ((REQUEST_ID_KEY, request_id),))
        raise AssertionError("abort returned")

    def _deadline(self, context: Context) -> float:
        remaining = cast("float | None", context.time_remaining())  # the stubs do not know of no deadline
        limit = self._desk.limits.deadline_seconds
        return limit if remaining is None else max(0.0, min(limit, remaining))

    def _log(self, method: str, context: Context, request_id: str, failure: _Failure, problem: Exception) -> None:
        facts: dict[str, object] = {
            "method": method,
            "request_id": request_id,
            "peer": context.peer(),
            "outcome": failure.outcome,
        }
        if isinstance(problem, Refused):
            self._desk.log.warning("identity refused", reason=str(problem.reason), detail=problem.detail, **facts)
        elif isinstance(problem, RequestInvalid):
            self._desk.log.warning("request invalid", detail=str(problem), **facts)
        else:
            self._desk.log.error("request failed", error=f"{type(problem).__name__}: {problem}", **facts)


def _describe(problem: Exception) -> _Failure:
    match problem:
        case Refused():
            words = TOLD.get(problem.reason, NOT_PERMITTED)
            return _Failure(str(problem.reason), grpc.StatusCode.PERMISSION_DENIED, words)
        case RequestInvalid():
            return _Failure("invalid", grpc.StatusCode.INVALID_ARGUMENT, str(problem))
        case Overloaded():
            words = "the authority has as much in hand as it takes (try again later)"
            return _Failure("overloaded", grpc.StatusCode.RESOURCE_EXHAUSTED, words)
        case AttestorUnavailable():
            words = "the platform cannot say now whether the workload is what it says (try again later)"
            return _Failure("attestor_unavailable", grpc.StatusCode.UNAVAILABLE, words)
        case StoreUnavailable():
            words = "the authority cannot record what it would issue, so it issues nothing (try again later)"
            return _Failure("unavailable", grpc.StatusCode.UNAVAILABLE, words)
        case IssuerExpired():
            words = "the authority's issuing certificate is not valid now, so it issues nothing (tell its operator)"
            return _Failure("issuer_expired", grpc.StatusCode.UNAVAILABLE, words)
        case TimeoutError():
            return _Failure("deadline", grpc.StatusCode.DEADLINE_EXCEEDED, "the authority did not finish in time")
        case CaError() | _:
            return _Failure("failed", grpc.StatusCode.INTERNAL, "the authority failed (its log has the reason)")
