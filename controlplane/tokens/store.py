"""The key sets that were fetched, on disk: what an issuer said last outlives a restart while it is out of reach.

JSON, mode 0600, replaced whole, in the state folder, which nobody else may write. Sets are read anew by the rules of
now when they are loaded: what is not lawful any more is not there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringfence.kit.private_file import replace_private
from ringfence.policy.tokens import KeySetError, read_key_set

_VERSION: Final = 1
_LIMIT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKeys:
    """A key set as its issuer said it; ``fetched_at``: when it said so last, Unix seconds."""

    text: str
    fetched_at: float


class StoreDamagedError(Exception):
    """The file is there but cannot be believed; the message says why."""


class KeyStore:
    """Loads and saves the sets at ``path``, whose folder exists and belongs to this process alone."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, HeldKeys]:
        """URL -> the set that it gave last. Raises StoreDamagedError, OSError."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return {}
        if len(content) > _LIMIT_BYTES:
            raise StoreDamagedError(f"more than {_LIMIT_BYTES} bytes")
        try:
            document = json.loads(content)
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']!r}")
            found: dict[str, HeldKeys] = {}
            for url, held in document["issuers"].items():
                fetched_at = float(held["fetchedAt"])
                with contextlib.suppress(KeySetError):
                    found[str(url)] = HeldKeys(text=read_key_set(held["keys"]).text, fetched_at=fetched_at)
            return found
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreDamagedError(f"no store of key sets: {error}") from error

    def save(self, held: Mapping[str, HeldKeys]) -> None:
        """Replace the file. Raises OSError."""
        issuers = {url: {"fetchedAt": keys.fetched_at, "keys": keys.text} for url, keys in sorted(held.items())}
        replace_private(self.path, json.dumps({"version": _VERSION, "issuers": issuers}).encode())
