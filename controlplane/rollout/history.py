"""The last accepted states of the policy folder, on disk. Adapter.

A folder of its own in the control plane's state: one small JSON file for each record, and the files of all of them by
their SHA-256, each once. A record that cannot be read whole is no record: it is told and left out, never half believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from controlplane.rollout.files import Contents, digest, total_bytes
from controlplane.rollout.records import Author, Cause, Origin, Record
from ringfence.kit.private_file import flush_folder, replace_private

_VERSION: Final = 1
_RECORD_LIMIT_BYTES: Final = 8 << 20
LIMIT_RECORDS: Final = 50
LIMIT_BYTES: Final = 256 << 20


class HistoryError(Exception):
    """A record cannot be kept; the message says why, with the mend."""


class History:
    """Keeps records in ``folder``; the oldest go when there are too many, or they hold too much. Blocking."""

    def __init__(
        self,
        folder: Path,
        damaged: Callable[[Path, str], None],
        *,
        limit_records: int = LIMIT_RECORDS,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """``damaged`` is told of a record that is left out, and why."""
        self._folder = folder
        self._blobs = folder / "files"
        self._damaged = damaged
        self._limit_records = limit_records
        self._limit_bytes = limit_bytes
        self._records: list[Record] = []

    def load(self) -> None:
        """Read what is there. Raises HistoryError when the folder cannot be used."""
        try:
            for made in (self._folder, self._blobs):
                made.mkdir(mode=0o700, exist_ok=True)
            found = sorted(path for path in self._folder.iterdir() if path.suffix == ".json" and path.stem.isdecimal())
        except OSError as error:
            raise HistoryError(f"{self._folder} cannot be used: {error.strerror or error}") from error
        records = []
        for path in found:
            try:
                records.append(self._read(path))
            except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                self._damaged(path, str(error))
        self._records = sorted(records, key=lambda record: record.number)

    @property
    def records(self) -> tuple[Record, ...]:
        """The oldest first."""
        return tuple(self._records)

    @property
    def newest(self) -> Record | None:
        return self._records[-1] if self._records else None

    def find(self, number: int) -> Record | None:
        return next((record for record in self._records if record.number == number), None)

    def add(self, *, revision: int, at: float, origin: Origin, contents: Contents) -> Record:
        """Keep a state of the folder as the newest record. Raises HistoryError, and then keeps nothing."""
        newest = self.newest
        record = Record(
            number=newest.number + 1 if newest is not None else 1,
            revision=revision,
            at=at,
            origin=origin,
            digest=digest(contents),
            contents=contents,
        )
        try:
            for content in record.contents.values():
                blob = self._blob(content)
                if not blob.exists():
                    replace_private(blob, content)
            replace_private(self._path(record.number), json.dumps(_document(record), separators=(",", ":")).encode())
        except OSError as error:
            message = f"what is in force cannot be kept in {self._folder}: {error.strerror or error}"
            raise HistoryError(f"{message} (make room on the disk, or let this process write there)") from error
        self._records.append(record)
        self._forget()
        return record

    def _forget(self) -> None:
        kept = self._records[-self._limit_records :]
        while len(kept) > 1 and total_bytes(record.contents for record in kept) > self._limit_bytes:
            kept = kept[1:]
        if len(kept) == len(self._records):
            return
        gone = self._records[: -len(kept)]
        self._records = kept
        used = {self._blob(content) for record in kept for content in record.contents.values()}
        try:
            for record in gone:
                self._path(record.number).unlink(missing_ok=True)
            for blob in self._blobs.iterdir():
                if blob not in used:
                    blob.unlink(missing_ok=True)
            flush_folder(self._folder)
        except OSError as error:
            self._damaged(self._folder, f"old records cannot be removed: {error.strerror or error}")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010}.json"

    def _blob(self, content: bytes) -> Path:
        return self._blobs / hashlib.sha256(content).hexdigest()

    def _read(self, path: Path) -> Record:
        document = json.loads(_bounded(path, _RECORD_LIMIT_BYTES))
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']!r}")
        contents: dict[str, bytes] = {}
        for name, sha256 in document["files"].items():
            if not isinstance(sha256, str) or len(sha256) != 64 or not sha256.isalnum():
                raise ValueError(f"{sha256!r} is no SHA-256")
            content = _bounded(self._blobs / sha256, self._limit_bytes)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise ValueError(f"{name} is not what was kept")
            contents[str(name)] = content
        made = digest(contents)
        if made != document["digest"]:
            raise ValueError("the files are not those that were kept")
        return Record(
            number=_whole(document["number"]),
            revision=_whole(document["revision"]),
            at=float(document["at"]),
            origin=Origin(
                cause=Cause(document["cause"]),
                author=Author(uid=int(document["uid"]), name=str(document["by"])),
                message=str(document["message"]),
                back_to=int(document["back_to"]),
            ),
            digest=made,
            contents=contents,
        )


def _document(record: Record) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "number": record.number,
        "revision": record.revision,
        "at": record.at,
        "cause": record.origin.cause.value,
        "uid": record.origin.author.uid,
        "by": record.origin.author.name,
        "message": record.origin.message,
        "back_to": record.origin.back_to,
        "digest": record.digest,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(record.contents.items())},
    }


def _bounded(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"{path.name} has more than {limit_bytes} bytes")
    return content


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number")
    return value
