"""Which documents each workload was told to enforce, at its last few revisions. Pure.

A sidecar that lags or refused its snapshot enforces an older one: what that held is remembered by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.push.workload_key import WorkloadKey
from ringfence.policy.model import PolicySet
from ringfence.snapshot import Snapshot

KEPT_REVISIONS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The policy of one snapshot by the names of its documents, ``<namespace>/<name>``.

    ``shadow_*``: those that are judged beside what is in force and are not in force as they stand there.
    """

    allowlists: tuple[str, ...] = ()
    denylists: tuple[str, ...] = ()
    shadow_allowlists: tuple[str, ...] = ()
    shadow_denylists: tuple[str, ...] = ()
    observe_until: float | None = None
    token_issuers: tuple[str, ...] = ()


def told_of(snapshot: Snapshot) -> Told:
    """What ``snapshot`` says."""
    shadow = snapshot.shadow if snapshot.shadow is not None else PolicySet()
    in_force = snapshot.policy
    allowed = {one.full_name: one for one in in_force.allowlists}
    denied = {one.full_name: one for one in in_force.denylists}
    return Told(
        allowlists=tuple(one.full_name for one in in_force.allowlists),
        denylists=tuple(one.full_name for one in in_force.denylists),
        shadow_allowlists=tuple(one.full_name for one in shadow.allowlists if allowed.get(one.full_name) != one),
        shadow_denylists=tuple(one.full_name for one in shadow.denylists if denied.get(one.full_name) != one),
        observe_until=snapshot.observe_until,
        token_issuers=tuple(issuer.name for issuer in snapshot.token_issuers),
    )


class TellingMemory:
    """The last ``KEPT_REVISIONS`` of each workload of the mesh."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[WorkloadKey, dict[int, Told]] = {}

    def keep(self, snapshots: Mapping[WorkloadKey, Snapshot]) -> None:
        """Remember ``snapshots``, and forget workloads that are not among them."""
        for gone in self._held.keys() - snapshots.keys():
            del self._held[gone]
        for workload, snapshot in snapshots.items():
            held = self._held.setdefault(workload, {})
            if snapshot.revision not in held:
                held[snapshot.revision] = told_of(snapshot)
                for old in _oldest(held):
                    del held[old]

    def of(self, workload: WorkloadKey, revision: int) -> Told | None:
        """What a workload was told at a revision; None where that is not known any more."""
        return self._held.get(workload, {}).get(revision)


def _oldest(revisions: Iterable[int]) -> list[int]:
    return sorted(revisions)[:-KEPT_REVISIONS]
