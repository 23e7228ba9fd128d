"""The services of a mesh as documents are bound to them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ringfence.policy.labels import Labels
from ringfence.policy.problems import Place, Problem, choose_from, nearest, shown
from ringfence.spiffe import SpiffeId

OPAQUE: Final = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshService:
    """The ports of one service, each with how its bytes are read: ``tcp`` for opaque, else a form of HTTP.

    ``permissive``: those of them that also take callers without an identity. ``has_sidecar``: whether anybody enforces
    there what policy says. ``spiffe_id``: its identity, None where nobody asks for it; ``other_ids``: those that
    workloads of it bear beside it. ``leads``: ports that callers dial, and those of ``ports`` behind them, where they
    differ.
    """

    ports: Mapping[int, str]
    permissive: frozenset[int] = frozenset()
    has_sidecar: bool = True
    spiffe_id: SpiffeId | None = None
    labels: Labels = ()
    other_ids: tuple[SpiffeId, ...] = ()
    leads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def identities(self) -> tuple[SpiffeId, ...]:
        """All of them."""
        return (self.spiffe_id, *self.other_ids) if self.spiffe_id is not None else self.other_ids


Services = Mapping[str, MeshService]
"""By full name, ``<namespace>/<name>``."""


def has_labels(service: MeshService, wanted: Labels) -> bool:
    """Whether a service has each label of ``wanted``, with its value."""
    return set(wanted) <= set(service.labels)


def unknown_service(what: str, namespace: str, service: str, place: Place, services: Services) -> Problem:
    """The problem of a document (``what``, with its article) for a service that its namespace does not have."""
    message = f"namespace {namespace} has no service {shown(service)}"
    elsewhere = sorted(name for name in services if name.endswith(f"/{service}"))
    here = sorted(name.removeprefix(f"{namespace}/") for name in services if name.startswith(f"{namespace}/"))
    if elsewhere and nearest(service, here) is None:
        mend = f"{elsewhere[0]} exists: {what} stands in the namespace of the service"
    else:
        mend = choose_from(service, here) or "no service of the mesh is in that namespace"
    return place.problem(message, mend)


def unknown_name(what: str, full_name: str, place: Place, known: Mapping[str, object]) -> Problem:
    """The problem of a reference to a ``what`` that there is not, with the nearest that there is."""
    short = full_name.partition("/")[2]
    elsewhere = sorted(name for name in known if name.partition("/")[2] == short)
    mend = f"did you mean {elsewhere[0]}?" if elsewhere else choose_from(full_name, sorted(known)[:20])
    return place.problem(f"there is no {what} {shown(full_name)}", mend or f"write the {what}, or remove this")
