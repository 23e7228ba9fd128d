"""Snapshots to messages, for many sidecars at once. Pure.

Most of a snapshot is shared with others, and writing it out costs far more than copying what was written: each shared
part is written once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ringfence.policy.model import Allowlist, Denylist
from ringfence.snapshot import Snapshot, Upstream
from ringfence.wire.convert import snapshot_to_wire
from ringfence.wire.gen import control_pb2

_LIMIT: Final = 50_000
_Part = Upstream | Allowlist | Denylist


class SnapshotWriter:
    """Remembers how shared parts are written, up to a bound."""

    __slots__ = ("_written",)

    def __init__(self) -> None:
        # Each part beside its bytes, so that its number is never another's.
        self._written: dict[int, tuple[object, bytes]] = {}

    def message(self, snapshot: Snapshot) -> control_pb2.Snapshot:
        """What ``snapshot_to_wire`` makes of it."""
        parts: tuple[_Part, ...] = (*snapshot.upstreams, *snapshot.allowlists, *snapshot.denylists)
        if not parts:
            return snapshot_to_wire(snapshot)
        rest = replace(snapshot, upstreams=(), allowlists=(), denylists=())
        message = snapshot_to_wire(rest)
        bare = replace(rest, shadow=None, egress=(), token_issuers=())
        message.MergeFromString(b"".join(self._part(part, bare) for part in parts))
        return message

    def _part(self, part: _Part, bare: Snapshot) -> bytes:
        known = self._written.get(id(part))
        if known is None:
            if len(self._written) >= _LIMIT:
                self._written.clear()
            known = (part, _write(part, bare))
            self._written[id(part)] = known
        return known[1]


def _write(part: _Part, bare: Snapshot) -> bytes:
    """A message with nothing in it but this part."""
    if isinstance(part, Upstream):
        whole = snapshot_to_wire(replace(bare, upstreams=(part,)))
    elif isinstance(part, Allowlist):
        whole = snapshot_to_wire(replace(bare, allowlists=(part,)))
    else:
        whole = snapshot_to_wire(replace(bare, denylists=(part,)))
    alone = control_pb2.Snapshot(upstreams=whole.upstreams, allowlists=whole.allowlists, denylists=whole.denylists)
    return alone.SerializeToString()
