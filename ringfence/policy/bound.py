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
    """A denylist that holds at those workloads of a service that have ``labels``, at least one, beside the service's
    own. ``shadow``: it is judged beside what is in force."""

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


class PolicyByLabels:
    """The policy of one service at each of its workloads: the very same value for all with the same labels. What it
    costs to find grows with the labels of a workload, and not with how much is denied elsewhere."""

    __slots__ = ("_bound", "_by_label", "_found")

    def __init__(self, bound: BoundPolicy) -> None:
        self._bound = bound
        self._by_label: dict[tuple[str, str], list[PartlyDenied]] = {}
        for one in bound.partly:
            self._by_label.setdefault(one.labels[0], []).append(one)
        self._found: dict[Labels, BoundPolicy] = {}

    def at(self, labels: Labels) -> BoundPolicy:
        """What decides at a workload with ``labels`` beside the service's."""
        if not self._by_label:
            return self._bound
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = self._at(labels)
        return found

    def _at(self, labels: Labels) -> BoundPolicy:
        own = set(labels)
        held = [one for label in labels for one in self._by_label.get(label, ()) if own.issuperset(one.labels)]
        held.sort(key=lambda one: one.listed.full_name)
        bound = self._bound
        more = [one.listed for one in held if not one.shadow]
        shadow = bound.shadow
        if shadow is not None or len(more) < len(held):
            shadow = _with(shadow if shadow is not None else bound.policy, [one.listed for one in held])
        return replace(bound, policy=_with(bound.policy, more), shadow=shadow, partly=())


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
