"""Which revision each workload's snapshot has. Pure.

Theory: the mesh has one revision, which grows by one with every accepted change that alters anything for anybody. A
snapshot bears the mesh revision at which *its own content* last changed, not the newest one. So a sidecar whose share
did not change is not pushed again, equal revisions of one workload always mean equal content, and "it enforces what
it should" is an equality: enforced revision == the revision of its snapshot. The digests in the ledger keep this true
across a restart: a control plane that comes back with the same documents gives every snapshot its old revision.

Which endpoints are ready changes snapshots far more often than documents do, and is not worth a write to disk each
time. Such changes take revisions from a block that the ledger on disk has set aside (``reserved``). A control plane
that finds a block begun cannot know how much of it was used, nor for whom: it goes on after the block, and stamps anew
all who have endpoints, so that none of them ever holds a higher revision than it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from controlplane.push.digests import Digests
from controlplane.push.workload_key import WorkloadKey
from ringfence.snapshot import Snapshot

RESERVE: Final = 1_000  # at the ten changes a second that are pushed at most, a write to disk every hundred seconds

RESERVE_MILLISECONDS: Final = 600_000  # where revisions go by the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Since which mesh revision a workload's content is what ``digest`` (SHA-256, lower hex) says."""

    revision: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What must outlive the process so that no revision is ever used for two contents; revision 0: none yet.

    ``reserved``: up to this one revisions are used without another save; 0, or ``revision``, where none are set aside.
    """

    revision: int = 0
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The mesh revision in force and each workload's snapshot at it."""

    revision: int
    snapshots: Mapping[WorkloadKey, Snapshot]


def advance(
    ledger: Ledger, contents: Mapping[WorkloadKey, Snapshot], least: int = 0, digested: Digests | None = None
) -> tuple[Ledger, Catalog]:
    """The next ledger and the catalog to publish; their revision is the old one when nothing changed for anybody.

    A new revision is at least ``least``: where several control planes tell the same sidecars, by the time.
    ``digested``: what was digested before. The revisions that ``contents`` bear are ignored. The ledger must be on disk
    before the catalog is published; what was set aside in the old one is not in the new.
    """
    known = digested if digested is not None else Digests()
    known.turn()
    digests = {str(workload): known.of(snapshot) for workload, snapshot in contents.items()}
    unchanged = ledger.revision > 0 and digests == {key: stamp.digest for key, stamp in ledger.stamps.items()}
    revision = ledger.revision if unchanged else max(ledger.revision + 1, least)
    stamps: dict[str, Stamp] = {}
    for key, digest in digests.items():
        held = ledger.stamps.get(key)
        same = held is not None and held.digest == digest
        stamps[key] = held if held is not None and same else Stamp(revision=revision, digest=digest)
    snapshots = {
        workload: replace(snapshot, revision=stamps[str(workload)].revision) for workload, snapshot in contents.items()
    }
    return Ledger(revision=revision, stamps=stamps), Catalog(revision=revision, snapshots=snapshots)


def amend(
    ledger: Ledger,
    catalog: Catalog,
    contents: Mapping[WorkloadKey, Snapshot],
    least: int = 0,
    digested: Digests | None = None,
) -> tuple[Ledger, Catalog]:
    """``advance`` for some workloads of the catalog, at a cost that grows with these alone.

    The ledger must be on disk before the catalog is published only where it has set more revisions aside.
    """
    known = digested.aside() if digested is not None else Digests()
    digests = {key: known.of(snapshot) for key, snapshot in contents.items()}
    changed = {key for key, digest in digests.items() if ledger.stamps[str(key)].digest != digest}
    if not changed:
        return ledger, catalog
    revision = max(ledger.revision + 1, least)
    stamps = {**ledger.stamps, **{str(key): Stamp(revision=revision, digest=digests[key]) for key in changed}}
    snapshots = {**catalog.snapshots, **{key: replace(contents[key], revision=revision) for key in changed}}
    reserve = RESERVE_MILLISECONDS if least else RESERVE
    reserved = ledger.reserved if revision <= ledger.reserved else revision + reserve
    return (
        Ledger(revision=revision, stamps=stamps, reserved=reserved),
        Catalog(revision=revision, snapshots=snapshots),
    )


def settled(ledger: Ledger) -> Ledger:
    """``ledger`` with nothing set aside, for a process that uses no more revisions: all that it used are in it."""
    return replace(ledger, reserved=0)


def resumed(ledger: Ledger, contents: Mapping[WorkloadKey, Snapshot]) -> Ledger:
    """A ledger as it was loaded, made fit to go on from: a block that was begun counts as used up."""
    if ledger.reserved <= ledger.revision:
        return ledger
    called = {str(key) for key, snapshot in contents.items() if any(one.endpoints for one in snapshot.upstreams)}
    stamps = {key: stamp for key, stamp in ledger.stamps.items() if key not in called}
    return Ledger(revision=ledger.reserved, stamps=stamps)
