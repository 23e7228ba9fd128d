"""Files of others to an import: one door for all that is understood. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ringfence.policy.importing import istio, linkerd, networkpolicy
from ringfence.policy.importing.imported import Import, Unsaid, Weight
from ringfence.policy.importing.objects import KubeObject, read_objects
from ringfence.policy.problems import Problem


class Origin(StrEnum):
    """Whose policies."""

    ISTIO = "istio"
    LINKERD = "linkerd"
    NETWORK_POLICY = "networkpolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the files do not tell. ``trust_domain``: the mesh's, "" if not told. ``mesh_namespace``: Istio's root
    namespace; ``root_namespace``: ours. ``permissive``: some ports take callers without an identity."""

    trust_domain: str = ""
    mesh_namespace: str = "istio-system"
    root_namespace: str = "ringfence-system"
    permissive: bool = False


@dataclass(slots=True, kw_only=True)
class Files:
    """What files hold, before it is said in our words."""

    objects: list[KubeObject] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def read(self, text: str | bytes, file: str) -> None:
        """Add the objects of a file."""
        objects, problems = read_objects(text, file)
        self.objects += objects
        self.problems += problems


_GROUPS = {
    Origin.ISTIO: istio.GROUP,
    Origin.LINKERD: linkerd.GROUP,
    Origin.NETWORK_POLICY: networkpolicy.GROUP,
}


def import_objects(objects: Iterable[KubeObject], origin: Origin, circumstances: Circumstances) -> Import:
    """Say what the objects of ``origin`` say; others are listed."""
    made = Import(permissive=circumstances.permissive)
    own: list[KubeObject] = []
    for one in objects:
        route = origin is Origin.LINKERD and one.kind == "HTTPRoute"
        if one.group == _GROUPS[origin] or route:
            own.append(one)
        else:
            why = f"it is not {origin}'s (import it by another --from, if it is policy)"
            made.unsaid.append(Unsaid(place=one.place, source=str(one), why=why, weight=Weight.NOTE))
    trust_domain = circumstances.trust_domain
    if origin is Origin.ISTIO:
        roots = {circumstances.mesh_namespace: circumstances.root_namespace}
        istio.import_istio(own, made, trust_domain=trust_domain, roots=roots)
    elif origin is Origin.LINKERD:
        linkerd.import_linkerd(own, made, trust_domain=trust_domain)
    else:
        networkpolicy.import_network_policies(own, made, trust_domain=trust_domain)
    made.unsaid.sort()
    return made
