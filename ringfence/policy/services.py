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
class Apart:
    """Workloads of a service that have ``labels`` which not all of its workloads have; ``identities``: theirs."""

    labels: Labels
    identities: tuple[SpiffeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshService:
    """The ports of one service, each with how its bytes are read: ``tcp`` for opaque, else a form of HTTP.

    ``permissive``: those of them that also take callers without an identity. ``has_sidecar``: whether anybody enforces
    there what policy says. ``spiffe_id``: its identity, None where nobody asks for it; ``other_ids``: those that
    workloads of it bear beside it. ``leads``: ports that callers dial, and those of ``ports`` behind them, where they
    differ. ``labels``: those that all of its workloads have; ``apart``: workloads with more than these.
    """

    ports: Mapping[int, str]
    permissive: frozenset[int] = frozenset()
    has_sidecar: bool = True
    spiffe_id: SpiffeId | None = None
    labels: Labels = ()
    other_ids: tuple[SpiffeId, ...] = ()
    leads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    apart: tuple[Apart, ...] = ()

    @property
    def identities(self) -> tuple[SpiffeId, ...]:
        """All of them."""
        return (self.spiffe_id, *self.other_ids) if self.spiffe_id is not None else self.other_ids


Services = Mapping[str, MeshService]
"""By full name, ``<namespace>/<name>``."""


def has_labels(service: MeshService, wanted: Labels) -> bool:
    """Whether a service has each label of ``wanted``, with its value."""
    return set(wanted) <= set(service.labels)


def labels_beside(service: MeshService, wanted: Labels) -> Labels:
    """What of ``wanted`` not all workloads of the service have."""
    own = set(service.labels)
    return tuple(label for label in wanted if label not in own)


class ApartIndex:
    """Finds workloads that have labels which their service has not; at a cost that does not grow with how many there
    are, as their owner says that."""

    __slots__ = ("_services", "_sets")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sets: dict[str, dict[tuple[str, str], int]] = {}

    def some(self, full_name: str, wanted: Labels) -> bool:
        """Whether some workloads of a service have all of ``wanted``, and not all of them."""
        return bool(self._found(full_name, wanted))

    def identities(self, full_name: str, wanted: Labels) -> tuple[SpiffeId, ...]:
        """Whom these workloads are, each once."""
        found, apart = self._found(full_name, wanted), self._services[full_name].apart
        held = {one: None for number, part in enumerate(apart) if found >> number & 1 for one in part.identities}
        return tuple(held)

    def _found(self, full_name: str, wanted: Labels) -> int:
        """A bit for each part of ``apart``."""
        service = self._services[full_name]
        beside = labels_beside(service, wanted) if service.apart else ()
        if not beside:
            return 0
        sets = self._sets.get(full_name)
        if sets is None:
            sets = self._sets[full_name] = {}
            for number, part in enumerate(service.apart):
                for label in part.labels:
                    sets[label] = sets.get(label, 0) | 1 << number
        found = -1
        for label in beside:
            found &= sets.get(label, 0)
        return found


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
