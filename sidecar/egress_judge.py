"""The verdict on a destination outside the mesh: by its egress rules, or, while the workload is observed, as what would
be refused. Pure, but for the clock that it is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from ringfence.policy.decision import Permit
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import EgressRule
from sidecar.egress import EgressFlow, EgressTable
from sidecar.resolvers import PORT, RULE

HOST_SECONDS: Final = 3.0
OBSERVED_SECONDS: Final = 0.25
_RESOLVER: Final = Permit("egress", RULE)
_WOULD_DENY: Final = Permit("", "", would_deny=DenyReason.EGRESS_NOT_ALLOWED)


class EgressJudge:
    """Of one workload; ``now``: Unix seconds; ``resolvers``: addresses of its name servers."""

    def __init__(self, now: Callable[[], float], resolvers: Collection[str] = ()) -> None:
        self._now = now
        self._resolvers = frozenset(resolvers)
        self._table = EgressTable(())
        self._observe_until: float | None = None

    def enforce(self, rules: Sequence[EgressRule], observe_until: float | None) -> None:
        """These rules hold from now on, and until then what none of them permits passes."""
        self._table = EgressTable(rules)
        self._observe_until = observe_until

    @property
    def observed(self) -> Permit | None:
        """What passes although no rule permits it; None: nothing does."""
        until = self._observe_until
        return _WOULD_DENY if until is not None and 0 < self._now() < until else None

    def by_address(self, address: str, port: int) -> Permit | None:
        """By a rule, whatever is said there."""
        permit = _permit(self._table.by_address(address, port))
        if permit is None and port == PORT and address in self._resolvers:
            return _RESOLVER
        return permit

    def by_host(self, host: str, port: int) -> Permit | None:
        """By a rule that names the host."""
        return _permit(self._table.by_host(host, port))

    def host_seconds(self, port: int) -> float:
        """For how long a host name is worth waiting for; 0: no rule could permit this port by one."""
        if not self._table.asks_for_host(port):
            return 0.0
        # While it is observed, a host tells only which rule permits, and a server that speaks first is not to be
        # noticed.
        return HOST_SECONDS if self.observed is None else OBSERVED_SECONDS

    def again(self, flow: EgressFlow) -> Permit | None:
        """What holds now of a connection that was let out before."""
        rule = self.by_host(flow.host, flow.port) if flow.host else self.by_address(flow.address, flow.port)
        return rule or self.observed


def _permit(rule: str | None) -> Permit | None:
    return Permit("egress", rule) if rule is not None else None
