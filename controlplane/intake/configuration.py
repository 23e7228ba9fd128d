"""One configuration: the mesh, and the policies bound to its services; and why a change was refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.mesh.document import MeshDocument
from controlplane.tokens.needs import IssuerNeeds
from ringfence.policy.analysis.world import Effect
from ringfence.policy.bound import Policies
from ringfence.policy.problems import Place, Problem
from ringfence.policy.written import PolicyDocument
from ringfence.routing.bind import Routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What was judged good as a whole; ``policies``: full service name -> what decides about its calls; ``routes``: the
    same and port -> how it is reached; ``places``: where each rule stands, by its effect and full name; ``documents``:
    those of policy, as written; ``warnings``: what is in force, and surely not meant; ``issuer_needs``: what token
    issuers need that their documents do not hold."""

    document: MeshDocument
    policies: Policies
    routes: Routes = field(default_factory=dict)
    places: Mapping[tuple[Effect, str], Place] = field(default_factory=dict)
    documents: tuple[PolicyDocument, ...] = ()
    warnings: tuple[Problem, ...] = ()
    issuer_needs: IssuerNeeds = field(default_factory=IssuerNeeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedChange:
    """The files as they are now are not in force; ``at`` is when they were refused, in Unix seconds."""

    at: float
    problems: tuple[Problem, ...]


def unappliable(held: MeshDocument, wanted: MeshDocument) -> list[Problem]:
    """What cannot change while the control plane runs, with the mend, at its place in the wanted file."""
    problems: list[Problem] = []
    old, new = held.mesh, wanted.mesh
    if new.trust_domain != old.trust_domain:
        message = f"trust domain cannot change from {old.trust_domain} to {new.trust_domain}"
        mend = f"write {old.trust_domain}, or start a mesh of its own with another CA"
        problems.append(wanted.problem("trustDomain", message, mend))
    restart = "undo the change, or restart the control plane"
    if new.control_plane != old.control_plane:
        message = "the control plane's addresses cannot change while it runs"
        problems.append(wanted.problem("controlPlane", message, restart))
    if new.identities != old.identities:
        message = "the lifetimes of identities cannot change while the control plane runs"
        problems.append(wanted.problem("identities", message, restart))
    return problems
