"""How the calls of one workload are judged where that takes more than a look-up. Adapter.

Most policies speak of caller, port, method and path, and then a relay asks its caller's view itself
(``Caller.plain``). Where rules read more of a request, where the service is observed, or where another policy is judged
beside the one in force, the relay asks here: what a rule may read is put together, and what passes is remarked upon.
Judging again what was let in before is the same without remarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ringfence.policy.decide import CallerView, Decision, DecisionTable
from ringfence.policy.decision import Deny, Permit
from ringfence.policy.facts import VerifiedToken
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import ForwardedFor
from ringfence.spiffe import SpiffeId
from sidecar.facts import ConnectionFacts, From, RequestFacts
from sidecar.http1.fields import plain_name
from sidecar.plain_address import plain_address
from sidecar.relay import RelayFacts
from sidecar.remarks import Remarked, Remarks
from sidecar.tokens.reader import NO_TOKENS, Asking, TokenReader

_AMBIGUOUS: Final = Deny(DenyReason.HEADER_NOT_ALLOWED)


class Judged(Remarked, Protocol):
    """A request of either version of HTTP."""

    fields: Any  # RequestHeadFields, of either version
    withheld: frozenset[bytes]  # names that its trailers may not have

    def withhold(self, plain: frozenset[bytes]) -> None:
        """Forward no field of these names (`plain_name`), in its head or behind its body."""


class Known(Protocol):
    """A caller, as far as judging it takes."""

    spiffe_id: SpiffeId | None
    address: bytes
    leaf_sha256: str
    view: CallerView
    shadow: CallerView | None
    shadow_verdict: Decision | None
    waits: Asking | None
    claims: Sequence[tuple[bytes, bytes]]


class Judging:
    """One policy in force. ``shadow``: of the policy beside it; ``now``: Unix seconds."""

    __slots__ = ("_now", "_remarks", "_shadow", "_table", "_tokens")

    def __init__(
        self,
        table: DecisionTable,
        *,
        remarks: Remarks,
        now: Callable[[], float],
        shadow: DecisionTable | None = None,
        tokens: TokenReader = NO_TOKENS,
    ) -> None:
        self._table = table
        self._shadow = shadow
        self._remarks = remarks
        self._now = now
        self._tokens = tokens

    def views(self, spiffe_id: SpiffeId | None, address: bytes) -> tuple[CallerView, CallerView | None, bool]:
        """The policy as a caller meets it, the shadow as it does, and whether a look-up in the former is all there is
        to judging."""
        where = plain_address(address)
        view = self._table.caller(spiffe_id, where)
        shadow = self._shadow.caller(spiffe_id, where) if self._shadow is not None else None
        plain = shadow is None and not view.reads_facts and not self.observes and not self._tokens.own_fields
        return view, shadow, plain

    @property
    def observes(self) -> bool:
        """Whether what no rule permits passes for a time."""
        return self._table.changes_at(self._now()) is not None

    def changes_at(self) -> float | None:
        """When time alone is to end what passes now, Unix seconds."""
        return self._table.changes_at(self._now())

    @property
    def uses_time(self) -> bool:
        """Whether it may do so at any moment: a rule reads the clock, or tokens, which expire."""
        return self._table.uses_time

    # -- connections --------------------------------------------------------------------------------------------------

    def connection(self, caller: Known, port: int) -> Decision:
        """On opaque bytes."""
        return caller.view.connection(port, ConnectionFacts(self._now()))

    def remark(self, facts: RelayFacts, caller: Known, port: int, decision: Decision) -> None:
        """Opaque bytes have got ``decision``, and it is the one that counts for their connection."""
        if isinstance(decision, Permit) and decision.would_deny is not None:
            self._remarks.would_deny(facts, decision)
        if caller.shadow is not None:
            shadow = caller.shadow_verdict = caller.shadow.connection(port, ConnectionFacts(self._now()))
            self._remarks.shadowed(facts, decision, shadow)

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, relay: RelayFacts, caller: Known, request: Judged, told: ForwardedFor) -> Decision:
        """For the first time; ``told``: what its port tells its app of where it comes from. With ``caller.waits`` set
        it is no verdict: its token's issuer has to answer first, and then it is to be asked for again."""
        port, method, target = relay.port, request.method, request.target
        own_fields = self._tokens.own_fields
        if own_fields:
            caller.claims = ()
            request.withhold(own_fields)
        facts = self._facts(caller, request, told)
        decision = _certain(caller.view.request(port, method, target, facts), facts)
        if own_fields and decision.permitted:
            # Not before: whoever is refused anyway has no token verified, nor an issuer asked.
            if request.fields.drops_any(own_fields):
                decision = _AMBIGUOUS
            elif isinstance(token := facts.token(), VerifiedToken):
                caller.claims = self._tokens.told(token)
        if facts.asked and decision.permitted:
            # There are apps to which a trailer is a header. What a shadow asks is not among them.
            request.withheld |= frozenset(map(plain_name, facts.asked))
        if facts.waits is not None:
            # Also where it is permitted: a denylist's condition may have read the token, too.
            caller.waits = facts.waits
            return decision
        if isinstance(decision, Permit) and decision.would_deny is not None:
            self._remarks.would_deny(relay, decision, request)
        if caller.shadow is not None:
            shadow = caller.shadow_verdict = _shadow_verdict(caller.shadow, port, request, facts)
            if shadow is not None:
                self._remarks.shadowed(relay, decision, shadow, request)
        return decision

    def again(self, caller: Known, port: int, request: Judged, told: ForwardedFor) -> Decision:
        """A request that is under way, by what policy and time are now; ``caller.waits`` as with ``request``."""
        facts = self._facts(caller, request, told)
        decision = _certain(caller.view.request(port, request.method, request.target, facts), facts)
        caller.waits = facts.waits
        return decision

    def _facts(self, caller: Known, request: Judged, told: ForwardedFor) -> RequestFacts:
        came = From(caller.leaf_sha256, caller.address, told)
        return RequestFacts(request.fields, self._now(), self._tokens, came)


def _shadow_verdict(view: CallerView, port: int, request: Judged, facts: RequestFacts) -> Decision | None:
    """None where the issuer of the request's token has to be asked for the shadow alone: nothing waits for that."""
    facts.ambiguous = False
    verdict = _certain(view.request(port, request.method, request.target, facts), facts)
    return verdict if facts.waits is None else None


def _certain(decision: Decision, facts: RequestFacts) -> Decision:
    """``decision``, unless what it goes by is one thing to the judge and may be another to the app: refused, as an
    ambiguous path is, observed or not."""
    return _AMBIGUOUS if facts.ambiguous and decision.permitted else decision
