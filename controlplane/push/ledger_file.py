"""The revision ledger on disk: small JSON, replaced atomically, mode 0600."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from controlplane.push.revisions import Ledger, Stamp
from ringfence.kit.private_file import replace_private
from ringfence.wire.convert import REVISION_MAXIMUM

_VERSION: Final = 1
_LIMIT_BYTES: Final = 16 << 20


class LedgerDamagedError(Exception):
    """The file is there but cannot be believed; the message says why."""


class LedgerFile:
    """Loads and saves the ledger at ``path``, whose folder exists and belongs to this process alone."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Ledger:
        """The saved ledger; an empty one when there is no file. Raises LedgerDamagedError, OSError."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return Ledger()
        if len(content) > _LIMIT_BYTES:
            raise LedgerDamagedError(f"more than {_LIMIT_BYTES} bytes")
        try:
            return _read(json.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise LedgerDamagedError(f"not a ledger: {error}") from error

    def save(self, ledger: Ledger) -> None:
        """Replace the file; when this returns, a crash cannot bring the old one back. Raises OSError."""
        document = {
            "version": _VERSION,
            "revision": ledger.revision,
            "reserved": max(ledger.reserved, ledger.revision),
            "workloads": {
                key: {"revision": stamp.revision, "digest": stamp.digest} for key, stamp in ledger.stamps.items()
            },
        }
        replace_private(self.path, json.dumps(document, separators=(",", ":")).encode())


def _read(document: dict[str, object]) -> Ledger:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r}")
    workloads = document["workloads"]
    if not isinstance(workloads, dict):
        raise TypeError("workloads is no object")
    revision = _revision(document["revision"])
    stamps = {
        str(key): Stamp(revision=_revision(stamp["revision"]), digest=str(stamp["digest"]))
        for key, stamp in workloads.items()
    }
    reserved = _revision(document.get("reserved", revision))
    if reserved < revision:
        raise ValueError("revisions are used beyond what is set aside")
    if any(stamp.revision > revision for stamp in stamps.values()):
        raise ValueError("a workload's revision is above the mesh's")
    return Ledger(revision=revision, stamps=stamps, reserved=reserved if reserved > revision else 0)


def _revision(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= REVISION_MAXIMUM:
        raise ValueError(f"{value!r} is no revision")
    return value
