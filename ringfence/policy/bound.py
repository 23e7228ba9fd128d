"""The policy of each service, after documents were bound: all names resolved. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ringfence.policy.labels import Labels
from ringfence.policy.model import Denylist, EgressRule, PolicySet, TokenIssuer
from ringfence.policy.problems import Place, Problem, errors

ALLOW: Final = "allow"
DENY: Final = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartlyDenied:
    """A denylist that holds at those workloads of a service that have ``labels`` beside the service's own. ``shadow``:
    it is judged beside what is in force."""

    labels: Labels
    listed: Denylist
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPolicy:
    """All that decides about the calls of one service, to it and out of the mesh.

    ``shadow``: the whole of the policy as it would be if the documents of mode shadow were in force, too; None where
    there are none. ``issuers``: whose tokens it believes, as written: without the keys that are to be fetched.
    ``egress``: what its own app may reach outside the mesh, by documents. ``partly``: what else is denied at some of
    its workloads; the rest holds at all of them.
    """

    policy: PolicySet = field(default_factory=PolicySet)
    shadow: PolicySet | None = None
    issuers: tuple[TokenIssuer, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    partly: tuple[PartlyDenied, ...] = ()

    def at(self, labels: Labels) -> BoundPolicy:
        """What decides at a workload with ``labels`` beside the service's."""
        if not self.partly:
            return self
        own = set(labels)
        held = [one for one in self.partly if own.issuperset(one.labels)]
        more = [one.listed for one in held if not one.shadow]
        policy = _with(self.policy, more)
        shadow = self.shadow
        if shadow is not None or len(more) < len(held):
            shadow = _with(shadow if shadow is not None else self.policy, [one.listed for one in held])
        return replace(self, policy=policy, shadow=shadow, partly=())


def _with(policy: PolicySet, denylists: Sequence[Denylist]) -> PolicySet:
    return replace(policy, denylists=(*policy.denylists, *denylists)) if denylists else policy


Policies = Mapping[str, BoundPolicy]
"""By full name of the service; a service that is not in it is protected by no document, and so refuses everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What binding came to. With an error among ``problems`` nothing is bound.

    ``places``: where each rule stands, by ``allow`` or ``deny`` and ``<namespace>/<list>/<rule>``.
    """

    policies: Policies
    problems: tuple[Problem, ...] = ()
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """Why nothing is bound; none where all is."""
        return errors(self.problems)
