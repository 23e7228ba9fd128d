"""What a snapshot says, in 32 bytes: the same for the same content, also in another process. Pure.

Most of a snapshot is shared with others: upstreams, lists, bundles. Each such part is digested once for all who are
told it, and again only when it is another object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from ringfence.snapshot import Snapshot
from ringfence.wire.convert import snapshot_to_wire
from ringfence.wire.gen import control_pb2

T = TypeVar("T")


class Digests:
    """Remembers the digests of the parts that were last digested. ``turn`` begins anew, with what is known at hand."""

    __slots__ = ("_held", "_old")

    def __init__(self) -> None:
        # The part is kept beside its digest, so that its number is never another's.
        self._held: dict[int, tuple[object, bytes]] = {}
        self._old: dict[int, tuple[object, bytes]] = {}

    def turn(self) -> None:
        """From now on whatever is not asked for again is forgotten at the next turn."""
        self._old, self._held = self._held, {}

    def aside(self) -> Digests:
        """One that knows what this one does, and is thrown away with what it learns."""
        found = Digests()
        found._old = self._held
        return found

    def of(self, snapshot: Snapshot) -> str:
        """SHA-256, lower hex, of all that ``snapshot`` says but its revision."""
        return self._known(snapshot, lambda: self._whole(snapshot)).hex()

    def _whole(self, snapshot: Snapshot) -> bytes:
        rest = replace(snapshot, revision=0, upstreams=(), allowlists=(), denylists=(), shadow=None)
        shadow = snapshot.shadow
        bare = replace(rest, shadow=replace(shadow, allowlists=(), denylists=()) if shadow is not None else None)
        return _joined(
            (
                _digest(snapshot_to_wire(bare)),
                self._list(snapshot.upstreams, lambda one: replace(rest, upstreams=(one,))),
                self._list(snapshot.allowlists, lambda one: replace(rest, allowlists=(one,))),
                self._list(snapshot.denylists, lambda one: replace(rest, denylists=(one,))),
                self._list(shadow.allowlists if shadow else (), lambda one: replace(rest, allowlists=(one,))),
                self._list(shadow.denylists if shadow else (), lambda one: replace(rest, denylists=(one,))),
            )
        )

    def _list(self, parts: tuple[T, ...], alone: Callable[[T], Snapshot]) -> bytes:
        """Of a tuple of parts, by those of the parts; ``alone``: a snapshot with one of them."""
        if not parts:
            return b""
        return self._known(parts, lambda: _joined(self._part(one, alone) for one in parts))

    def _part(self, part: T, alone: Callable[[T], Snapshot]) -> bytes:
        return self._known(part, lambda: _digest(_only(snapshot_to_wire(alone(part)))))

    def _known(self, part: object, make: Callable[[], bytes]) -> bytes:
        found = self._held.get(id(part)) or self._old.get(id(part))
        if found is None:
            found = (part, make())
        self._held[id(part)] = found
        return found[1]


def _only(message: control_pb2.Snapshot) -> control_pb2.Snapshot:
    """Nothing but the parts that stand in lists of their own."""
    for name in ("workload", "bundles", "egress", "token_issuers", "observe_until"):
        message.ClearField(name)
    return message


def _digest(message: control_pb2.Snapshot) -> bytes:
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


def _joined(parts: Iterable[bytes]) -> bytes:
    """Parts with their lengths, so that no two lists of parts look alike."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()
