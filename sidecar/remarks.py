"""What is said of calls beside their verdict: those that pass only because the service is observed, and those of which
the shadow policy thinks otherwise. Adapter.

Each is counted, tapped, and logged as often as the log bears, since whoever calls decides how often it happens; what is
told in either way is kept under a request id (``sidecar.noted_calls``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from ringfence.kit.log import Logger
from ringfence.policy.decision import Decision, Deny, Permit
from sidecar.metrics import Count, SidecarMetrics
from sidecar.noted_calls import PATH_LIMIT_BYTES, SHADOW, WOULD_DENY, Note, NotedCalls, reason_of, rule_of
from sidecar.often import Often
from sidecar.relay import RelayFacts

if TYPE_CHECKING:
    from sidecar.recording import Recorder

AGREE: Final = "agree"
WOULD_PERMIT: Final = "would_permit"
_CONDITION: Final = "condition"


class Remarked(Protocol):
    """A request of either version of HTTP."""

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes: ...

    @property
    def host(self) -> bytes: ...


class Remarks:
    """Of one sidecar, or of one of its workers."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        log: Logger,
        metrics: SidecarMetrics,
        calls: NotedCalls,
        new_id: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._recorder = recorder
        self._log = log
        self._metrics = metrics
        self._calls = calls
        self._new_id = new_id
        self._often = {kind: Often(monotonic) for kind in (WOULD_DENY, SHADOW, _CONDITION)}
        self._agreed: dict[tuple[str, str], Count] = {}

    def would_deny(self, facts: RelayFacts, decision: Permit, request: Remarked | None = None) -> None:
        """A call that no rule permits passes: the service is observed. ``request``: None for opaque bytes."""
        reason = reason_of(decision)
        facts.would_deny += 1
        self._metrics.would_deny.at(facts.peer, facts.service, str(facts.port), reason).value += 1
        logged = self._often[WOULD_DENY].may()
        if logged or self._recorder.taps.any:
            self._tell("would deny", facts, self._note(WOULD_DENY, decision, request), logged=logged)

    def shadowed(
        self, facts: RelayFacts, decision: Decision, shadow: Decision, request: Remarked | None = None
    ) -> None:
        """The shadow policy has judged the call, too."""
        freedom, shadow_freedom = _freedom(decision), _freedom(shadow)
        if freedom == shadow_freedom:
            self._agreement(facts).value += 1
            return
        stricter = shadow_freedom < freedom
        verdict = WOULD_DENY if stricter else WOULD_PERMIT
        reason = reason_of(shadow if stricter else decision)
        self._metrics.shadow_verdicts.at(verdict, facts.peer, facts.service, reason).value += 1
        logged = self._often[SHADOW].may()
        if logged or self._recorder.taps.any:
            note = self._note(SHADOW, decision, request, shadow)
            self._tell("shadow disagrees", facts, note, verdict, logged=logged)

    def condition_failed(self, rule: str) -> None:
        """The condition of a rule (by its full name) could not be evaluated: mostly it reads what a call does not
        have."""
        self._metrics.conditions_failed.at(rule).value += 1
        often = self._often[_CONDITION]
        if often.may():
            missed = often.take_missed()
            more = {"not_logged": missed} if missed else {}
            self._log.warning("condition cannot be evaluated", rule=rule, **more)

    def _note(self, outcome: str, decision: Decision, request: Remarked | None, shadow: Decision | None = None) -> Note:
        return Note(
            request_id=self._new_id(),
            outcome=outcome,
            decision=decision,
            reason=reason_of(decision),
            method=request.method if request is not None else b"",
            target=request.target if request is not None else b"",
            host=request.host if request is not None else b"",
            shadow=shadow,
        )

    def _agreement(self, facts: RelayFacts) -> Count:
        """Of both policies' agreement: what most calls come to, so found by less than all labels."""
        key = (facts.peer, facts.service)
        found = self._agreed.get(key)
        if found is None:
            if len(self._agreed) >= 1000:
                self._agreed.clear()
            found = self._agreed[key] = self._metrics.shadow_verdicts.at(AGREE, *key, "")
        return found

    def _tell(self, line: str, facts: RelayFacts, note: Note, verdict: str = "", *, logged: bool) -> None:
        """To the log or to taps; who learns the call's id there may ask for its story."""
        self._calls.note(facts, note)
        fields = self._recorder.fields(facts, note.decision)
        fields["request_id"] = note.request_id
        if note.method:
            fields.update(method=note.method, target=note.target.partition(b"?")[0][:PATH_LIMIT_BYTES])
        if note.shadow is not None:
            fields.update(
                shadow=verdict,
                shadow_decision="permit" if note.shadow.permitted else "deny",
                shadow_rule=rule_of(note.shadow),
                shadow_reason=reason_of(note.shadow),
            )
        if logged:
            missed = self._often[note.outcome].take_missed()
            if missed:
                fields["not_logged"] = missed
            self._log.warning(line, **fields)
        if self._recorder.taps.any:
            self._recorder.tap(note.outcome, facts, denied=False, fields=fields)


def _freedom(decision: Decision) -> int:
    """Refused, passing only while the service is observed, permitted by a rule: what a policy leaves of a call."""
    if isinstance(decision, Deny):
        return 0
    return 2 if decision.would_deny is None else 1
