"""The last good version of each document, kept over a restart. Adapter.

A document that is made wrong while no control plane runs must not lose its force by that: a denylist would refuse
everybody, an allowlist nobody. What the file holds was judged good here, and is judged anew when it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from ringfence.kit.private_file import replace_private
from ringfence.platform import WrittenDocument

_VERSION: Final = 1
LIMIT_BYTES: Final = 64 << 20
"""Of all documents together; what is beyond is not kept, denylists last of all."""


class GoodFileDamagedError(Exception):
    """The file is there but cannot be believed; the message says why."""


class GoodFile:
    """Loads and saves the versions at ``path``, whose folder belongs to this process alone. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, WrittenDocument]:
        """The versions by name; none where there is no file. Raises GoodFileDamagedError, OSError."""
        try:
            with self.path.open("rb") as file:
                content = file.read(2 * LIMIT_BYTES + 1)
        except FileNotFoundError:
            return {}
        if len(content) > 2 * LIMIT_BYTES:
            raise GoodFileDamagedError(f"more than {2 * LIMIT_BYTES} bytes")
        try:
            document = json.loads(content)
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']!r}")
            found = [
                WrittenDocument(
                    name=str(one["name"]), content=str(one["content"]).encode(), version=str(one["version"])
                )
                for one in document["documents"]
            ]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise GoodFileDamagedError(f"not a record of documents: {error}") from error
        return {one.name: one for one in found}

    def save(self, documents: Iterable[WrittenDocument]) -> None:
        """Replace the file. Raises OSError."""
        replace_private(self.path, _text(bounded(documents)).encode())


def bounded(documents: Iterable[WrittenDocument], limit_bytes: int = LIMIT_BYTES) -> Mapping[str, WrittenDocument]:
    """As many of ``documents`` as there is room for."""
    ordered = sorted(documents, key=lambda one: (not one.name.startswith("Denylist/"), one.name))
    found: dict[str, WrittenDocument] = {}
    left = limit_bytes
    for one in ordered:
        left -= len(one.content)
        if left < 0:
            break
        found[one.name] = one
    return found


def _text(documents: Mapping[str, WrittenDocument]) -> str:
    # What was judged good is UTF-8.
    listed = [{"name": one.name, "version": one.version, "content": one.content.decode()} for one in documents.values()]
    return json.dumps({"version": _VERSION, "documents": listed}, separators=(",", ":"), ensure_ascii=False)
