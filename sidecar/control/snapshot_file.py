"""The last good snapshot on disk, for a start while the control plane is away. It holds no key and no token, but it may
hold the secret with which tokens are introspected: like every file of a state folder it is its owner's alone, and one
that others may read is refused.

The file is one line of JSON and then the wire message as it came. The digest in the line covers everything else in the
file, so damage and half-made edits show; who can write the folder can also make a digest, which is why the folder's and
the file's owner and mode are checked first. What is read is validated like what comes from the wire.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from google.protobuf.message import DecodeError

from ringfence.spiffe import SpiffeId
from ringfence.wire.gen import control_pb2
from sidecar.channels import SNAPSHOT_LIMIT_BYTES
from sidecar.control.errors import StoredSnapshotUnfit
from sidecar.state_folder import StateError, StateFolder

NAME: Final = "snapshot.bin"
_FORMAT: Final = "ringfence snapshot 1"
_HEAD_LIMIT_BYTES: Final = 8_192


class SnapshotFile:
    """Keeps one snapshot of one workload in a state folder."""

    __slots__ = ("_folder",)

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def write(self, snapshot: control_pb2.Snapshot, *, spiffe_id: SpiffeId, saved_at: float) -> None:
        """Replace what is kept; returns when it is on disk. Raises StateError."""
        self._folder.prepare()
        message = snapshot.SerializeToString(deterministic=True)
        head = {"format": _FORMAT, "spiffe_id": str(spiffe_id), "saved_at": saved_at}
        head["sha256"] = _digest(head, message)
        self._folder.write(NAME, json.dumps(head).encode("ascii") + b"\n" + message)

    def read(self, spiffe_id: SpiffeId) -> tuple[control_pb2.Snapshot, float] | None:
        """The message, not yet validated, and when it was saved (Unix seconds); None if none is kept.

        Raises StoredSnapshotUnfit if it is damaged, of another workload, or no message of that kind.
        """
        path = self._folder.path / NAME
        try:
            content = self._folder.read(NAME, limit_bytes=SNAPSHOT_LIMIT_BYTES + _HEAD_LIMIT_BYTES)
        except StateError as error:
            raise StoredSnapshotUnfit(str(error)) from error
        if content is None:
            return None
        line, newline, message = content.partition(b"\n")
        try:
            head = json.loads(line)
        except (ValueError, RecursionError):
            head = None
        if not newline or not isinstance(head, dict) or head.get("format") != _FORMAT:
            raise StoredSnapshotUnfit(f"{path} is no snapshot file of this version")
        saved_at = head.get("saved_at")
        if head.pop("sha256", None) != _digest(head, message) or not isinstance(saved_at, int | float):
            raise StoredSnapshotUnfit(f"{path} was damaged or altered: its digest does not match")
        if head.get("spiffe_id") != str(spiffe_id):
            raise StoredSnapshotUnfit(f"{path} is of {str(head.get('spiffe_id'))[:300]}, not of {spiffe_id}")
        try:
            return control_pb2.Snapshot.FromString(message), float(saved_at)
        except DecodeError as error:
            raise StoredSnapshotUnfit(f"{path} holds no snapshot: {error}") from error


def _digest(head: dict[str, object], message: bytes) -> str:
    # Length first, so that no byte can move from the one part to the other.
    named = json.dumps(head, sort_keys=True).encode("ascii")
    return hashlib.sha256(len(named).to_bytes(8, "big") + named + message).hexdigest()
