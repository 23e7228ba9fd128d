"""Which revision each workload's snapshot has. Pure.

Theory: the mesh has one revision, which grows by one with every accepted change that alters anything for anybody. A
snapshot bears the mesh revision at which *its own content* last changed, not the newest one. So a sidecar whose share
did not change is not pushed again, equal revisions of one workload always mean equal content, and "it enforces what
it should" is an equality: enforced revision == the revision of its snapshot. The digests in the ledger keep this true
across a restart: a control plane that comes back with the same documents gives every snapshot its old revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId
from ringfence.wire.convert import snapshot_to_wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Since which mesh revision a workload's content is what ``digest`` (SHA-256, lower hex) says."""

    revision: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What must outlive the process so that no revision is ever used for two contents; revision 0: none yet."""

    revision: int = 0
    stamps: Mapping[str, Stamp] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The mesh revision in force and each workload's snapshot at it."""

    revision: int
    snapshots: Mapping[SpiffeId, Snapshot]


def content_digest(snapshot: Snapshot) -> str:
    """SHA-256 of the snapshot's message without its revision, lower hex."""
    message = snapshot_to_wire(snapshot)
    message.ClearField("revision")
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()


def advance(ledger: Ledger, contents: Mapping[SpiffeId, Snapshot]) -> tuple[Ledger, Catalog]:
    """The next ledger and the catalog to publish; their revision is the old one when nothing changed for anybody.

    The revisions that ``contents`` bear are ignored. The ledger must be on disk before the catalog is published.
    """
    digests = {str(spiffe_id): content_digest(snapshot) for spiffe_id, snapshot in contents.items()}
    unchanged = ledger.revision > 0 and digests == {key: stamp.digest for key, stamp in ledger.stamps.items()}
    revision = ledger.revision if unchanged else ledger.revision + 1
    stamps: dict[str, Stamp] = {}
    for key, digest in digests.items():
        held = ledger.stamps.get(key)
        same = held is not None and held.digest == digest
        stamps[key] = held if held is not None and same else Stamp(revision=revision, digest=digest)
    snapshots = {
        spiffe_id: replace(snapshot, revision=stamps[str(spiffe_id)].revision)
        for spiffe_id, snapshot in contents.items()
    }
    return Ledger(revision=revision, stamps=stamps), Catalog(revision=revision, snapshots=snapshots)
