"""The policy of each service, after documents were bound: all names resolved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ringfence.policy.model import EgressRule, PolicySet, TokenIssuer
from ringfence.policy.problems import Place, Problem, errors

ALLOW: Final = "allow"
DENY: Final = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPolicy:
    """All that decides about the calls of one service, to it and out of the mesh.

    ``shadow``: the whole of the policy as it would be if the documents of mode shadow were in force, too; None where
    there are none. ``issuers``: whose tokens it believes, as written: without the keys that are to be fetched.
    ``egress``: what its own app may reach outside the mesh, by documents.
    """

    policy: PolicySet = field(default_factory=PolicySet)
    shadow: PolicySet | None = None
    issuers: tuple[TokenIssuer, ...] = ()
    egress: tuple[EgressRule, ...] = ()


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
