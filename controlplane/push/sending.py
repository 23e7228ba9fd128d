"""Whether what workloads are told can be sent, and would be taken: our own output, read as a sidecar does. Pure.

Reading costs far more than writing, and most of a snapshot is shared with others. So each shared part is read once, and
what holds between parts is looked at by itself: how many there are, and that no two upstreams mean the same address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from controlplane.push.revisions import Catalog
from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import workload_name
from ringfence.policy.bounds import LIST_LIMIT, RULE_LIMIT
from ringfence.policy.model import Allowlist, Denylist
from ringfence.snapshot import Snapshot
from ringfence.wire.convert import UPSTREAM_LIMIT, WireError, check_upstreams, snapshot_from_wire, snapshot_to_wire
from ringfence.wire.fields import check_unique

FRAME_BYTES: Final = 1024
NOT_READY_BYTES: Final = 8  # what an endpoint that is not ready costs beyond one that is: a field, longer lengths


class Sendable:
    """Remembers which parts were read, and how large they are. ``limit_bytes``: of one message."""

    __slots__ = ("_bare", "_known", "_limit_bytes", "_old", "_old_bare", "_tuples")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        # Each part beside its size, so that its number is never another's.
        self._known: dict[int, tuple[object, int]] = {}
        self._old: dict[int, tuple[object, int]] = {}
        self._bare: dict[_BareKey, tuple[Snapshot, int]] = {}
        self._old_bare: dict[_BareKey, tuple[Snapshot, int]] = {}
        self._tuples: dict[tuple[int, bool], object] = {}

    def unsendable(self, catalog: Catalog, held: Catalog) -> Mapping[WorkloadKey, str]:
        """Why some snapshots of ``catalog`` cannot be sent; those that ``held`` has, too, were sent already."""
        self._old, self._known = self._known, {}
        self._old_bare, self._bare = self._bare, {}
        self._tuples.clear()
        found: dict[WorkloadKey, str] = {}
        for workload, snapshot in catalog.snapshots.items():
            before = held.snapshots.get(workload)
            if before is not None and before.revision == snapshot.revision:
                self._keep(snapshot)
                continue
            name = workload_name(snapshot.workload.full_name, workload.instance)
            try:
                size = self._size(snapshot)
            except WireError as error:
                found[workload] = f"what {name} must be told would be refused by its sidecar: {error}"
                continue
            unready = NOT_READY_BYTES * sum(len(upstream.endpoints) for upstream in snapshot.upstreams)
            if size + unready > self._limit_bytes - FRAME_BYTES:
                found[workload] = f"what {name} must be told is larger than {self._limit_bytes} bytes"
        return found

    def _keep(self, snapshot: Snapshot) -> None:
        key = _bare_key(snapshot)
        if key in self._old_bare:
            self._bare[key] = self._old_bare[key]
        for part in _parts(snapshot):
            known = self._old.get(id(part))
            if known is not None:
                self._known[id(part)] = known

    def _size(self, snapshot: Snapshot) -> int:
        """Of the whole message. Raises WireError where a sidecar would refuse it."""
        _check_counts(snapshot)
        key = (id(snapshot.upstreams), snapshot.workload.intercept is not None)
        if key not in self._tuples:
            check_upstreams(snapshot.upstreams, intercepted=key[1])
            self._tuples[key] = snapshot.upstreams
        bare = replace(snapshot, upstreams=(), allowlists=(), denylists=())
        bare_key = _bare_key(snapshot)
        found = self._bare.get(bare_key) or self._old_bare.get(bare_key) or (bare, self._read(bare, 0))
        self._bare[bare_key] = found
        size = found[1]
        rest = replace(bare, egress=(), shadow=None, token_issuers=())
        plain: int | None = None
        for part in _parts(snapshot):
            known = self._known.get(id(part)) or self._old.get(id(part))
            if known is None:
                plain = snapshot_to_wire(rest).ByteSize() if plain is None else plain
                known = (part, self._read(_alone(rest, part), plain))
            self._known[id(part)] = known
            size += known[1]
        return size

    def _read(self, snapshot: Snapshot, less: int) -> int:
        message = snapshot_to_wire(snapshot)
        snapshot_from_wire(message)
        return message.ByteSize() - less


_BareKey = tuple[int, int, int, int, int, float | None]


def _bare_key(snapshot: Snapshot) -> _BareKey:
    """What is not shared with many, by the numbers of its objects, which the remembered snapshot keeps alive."""
    return (
        id(snapshot.workload),
        id(snapshot.bundles),
        id(snapshot.egress),
        id(snapshot.shadow),
        id(snapshot.token_issuers),
        snapshot.observe_until,
    )


def _parts(snapshot: Snapshot) -> Iterable[object]:
    return (*snapshot.upstreams, *snapshot.allowlists, *snapshot.denylists)


def _alone(rest: Snapshot, part: object) -> Snapshot:
    """A snapshot with nothing in its lists but this."""
    if isinstance(part, Allowlist):
        return replace(rest, allowlists=(part,))
    if isinstance(part, Denylist):
        return replace(rest, denylists=(part,))
    return replace(rest, upstreams=(part,))  # type: ignore[arg-type]


def _check_counts(snapshot: Snapshot) -> None:
    if len(snapshot.upstreams) > UPSTREAM_LIMIT:
        raise WireError(f"upstreams: {len(snapshot.upstreams)} are more than {UPSTREAM_LIMIT}")
    rules = 0
    for path, lists in (("allowlists", snapshot.allowlists), ("denylists", snapshot.denylists)):
        rules += sum(len(one.rules) for one in lists)
        if len(lists) > LIST_LIMIT:
            raise WireError(f"{path}: {len(lists)} are more than {LIST_LIMIT}")
        check_unique(path, (one.full_name for one in lists))
    if rules > RULE_LIMIT:
        raise WireError(f"allowlists: more than {RULE_LIMIT} rules, denylists counted with them")
