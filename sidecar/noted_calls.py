"""The last calls of which something is to be told later, by their request id: refused ones, and those that another
policy would have refused or permitted. Pure.

What ``ringfence policy why`` reads. A ring for each outcome: of many the oldest are forgotten, so a flood costs the
stories of others of its kind and nothing else. No query, no header and no token is kept: they may hold secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from ringfence.policy.decision import Decision, Deny, Permit
from sidecar.relay import RelayFacts

CALLS_LIMIT: Final = 1_000
PATH_LIMIT_BYTES: Final = 512

DENIED: Final = "denied"
WOULD_DENY: Final = "would_deny"
SHADOW: Final = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is noted of a call, beside its connection; ``target`` as sent, empty for an opaque connection or for what
    was no request. ``origin``: SPIFFE ID of the sidecar that refused."""

    request_id: str
    outcome: str
    decision: Decision | None
    reason: str
    method: bytes = b""
    target: bytes = b""
    host: bytes = b""
    detail: str = ""
    origin: str = ""
    shadow: Decision | None = None
    at: float | None = None  # Unix seconds; None: now


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedCall:
    """One call. ``outcome``: ``denied``, ``would_deny`` (it passed because the service is observed) or ``shadow`` (the
    shadow policy disagrees). ``rule`` and ``shadow_rule`` are full names: of the rule that permits, or of the one that
    came nearest."""

    request_id: str
    time: float  # Unix seconds
    outcome: str
    direction: str
    caller: str  # SPIFFE ID; "": without one
    address: str  # of the direct peer
    service: str
    port: int
    protocol: str
    method: str
    path: str
    host: str
    permitted: bool
    reason: str
    rule: str
    detail: str
    origin: str
    own: bool  # told by this sidecar, not to it
    shadow_permits: bool | None
    shadow_reason: str
    shadow_rule: str
    destination: str = ""  # where a connection out of the mesh meant to go

    def document(self) -> dict[str, Any]:
        return asdict(self)


class NotedCalls:
    """The rings, of ``limit`` calls each; ``own_id``: the SPIFFE ID of the workload, who calls outbound."""

    def __init__(self, now: Callable[[], float], own_id: str, limit: int = CALLS_LIMIT) -> None:
        self._now = now
        self._own_id = own_id
        self._limit = limit
        self._rings: dict[str, dict[str, NotedCall]] = {DENIED: {}, WOULD_DENY: {}, SHADOW: {}}

    def __len__(self) -> int:
        return sum(map(len, self._rings.values()))

    def find(self, request_id: str) -> NotedCall | None:
        found = (ring[request_id] for ring in self._rings.values() if request_id in ring)
        return next(found, None)

    def since(self, moment: float, limit: int) -> list[NotedCall]:
        """The last ``limit`` calls at or after ``moment`` (Unix seconds), the latest first."""
        found = [call for ring in self._rings.values() for call in ring.values() if call.time >= moment]
        return sorted(found, key=lambda call: call.time, reverse=True)[:limit]

    def note(self, facts: RelayFacts, note: Note) -> None:
        """Keep it, unless its id is known: what was said first is nearest to the cause."""
        ring = self._rings[note.outcome]
        if not note.request_id or note.request_id in ring:
            return
        if len(ring) >= self._limit:
            del ring[next(iter(ring))]
        shadow = note.shadow
        ring[note.request_id] = NotedCall(
            request_id=note.request_id,
            time=self._now() if note.at is None else note.at,
            outcome=note.outcome,
            direction=facts.direction,
            caller=facts.peer if facts.direction == "inbound" else self._own_id,
            address=facts.address.decode("ascii", "backslashreplace"),
            service=facts.service,
            port=facts.port,
            protocol=str(facts.protocol),
            method=_shown(note.method),
            path=_shown(note.target.partition(b"?")[0]),
            host=_shown(note.host),
            permitted=note.outcome != DENIED and isinstance(note.decision, Permit),
            reason=note.reason,
            rule=rule_of(note.decision),
            detail=note.detail,
            origin=note.origin,
            own=note.origin in ("", self._own_id),
            shadow_permits=shadow.permitted if shadow is not None else None,
            shadow_reason=reason_of(shadow),
            shadow_rule=rule_of(shadow),
            destination=facts.destination,
        )


def rule_of(decision: Decision | None) -> str:
    """The full name of the rule that permits, or of the one that came nearest; empty if there is none."""
    if isinstance(decision, Permit) and decision.rule:
        return decision.rule_name
    return (decision.nearest or "") if decision is not None else ""


def reason_of(decision: Decision | None) -> str:
    """Why it is refused, or would be were the service not observed; empty for a permit by a rule."""
    if isinstance(decision, Deny):
        return str(decision.reason)
    return str(decision.would_deny or "") if decision is not None else ""


def _shown(sent: bytes) -> str:
    return sent[:PATH_LIMIT_BYTES].decode("utf-8", "backslashreplace")
