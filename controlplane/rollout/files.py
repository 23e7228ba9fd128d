"""The policy folder as a value, and the one that a change would make of it. Pure.

A change gives whole files. What it does not name stays as it is, unless it is to ``prune``: then what it does not name
goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.intake.sources import POLICY_FILE_LIMIT, POLICY_LIMIT_BYTES, POLICY_SUFFIXES
from ringfence.policy.problems import shown

NAME_LIMIT_BYTES: Final = 200
_DEPTH_LIMIT: Final = 8

Contents = Mapping[str, bytes]
"""Path below the policy folder, with ``/`` between its parts, to the file's bytes."""


class FilesError(ValueError):
    """A set of files that cannot become the policy folder; the message says why, with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What differs between two folders: names of files, sorted."""

    added: tuple[str, ...]
    altered: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.altered or self.removed)


def candidate(held: Contents, given: Contents, *, prune: bool) -> dict[str, bytes]:
    """The folder after ``given`` was put into ``held``. Raises FilesError."""
    for name in given:
        check_name(name)
    made = dict(given) if prune else {**held, **given}
    if len(made) > POLICY_FILE_LIMIT:
        raise FilesError(f"{len(made)} files are more than {POLICY_FILE_LIMIT} (join some)")
    if sum(map(len, made.values())) > POLICY_LIMIT_BYTES:
        raise FilesError(f"the files hold more than {POLICY_LIMIT_BYTES} bytes (split the mesh)")
    folders = {"/".join(parts[:cut]) for parts in (name.split("/") for name in made) for cut in range(1, len(parts))}
    both = sorted(folders & made.keys())
    if both:
        raise FilesError(f"{shown(both[0])} would be a file and a folder (rename one)")
    return dict(sorted(made.items()))


def check_name(name: str) -> None:
    """Whether the folder is read for a file of this name, and the name leads nowhere else. Raises FilesError."""
    parts = name.split("/")
    if not name.endswith(POLICY_SUFFIXES):
        raise FilesError(f"{shown(name)} is no policy file (end its name in {' or '.join(POLICY_SUFFIXES)})")
    if not name.isprintable() or "\\" in name or len(name.encode("utf-8", "replace")) > NAME_LIMIT_BYTES:
        raise FilesError(f"{shown(name)} is no name for a policy file (use letters, digits and '-')")
    # A hidden file is not read, and "", "." and ".." are no names: whoever wrote one believes in a policy that is none.
    if len(parts) > _DEPTH_LIMIT or any(not part or part.startswith(".") for part in parts):
        raise FilesError(f"{shown(name)} leads out of the policy folder or is hidden (give a plain path below it)")


def difference(old: Contents, new: Contents) -> Change:
    """What it takes to make ``new`` of ``old``."""
    return Change(
        added=tuple(sorted(new.keys() - old.keys())),
        altered=tuple(sorted(name for name in new.keys() & old.keys() if new[name] != old[name])),
        removed=tuple(sorted(old.keys() - new.keys())),
    )


def digest(contents: Contents) -> str:
    """SHA-256 of names and bytes, lower hex: equal for equal folders alone."""
    made = hashlib.sha256()
    for name, content in sorted(contents.items()):
        for part in (name.encode(), content):
            made.update(len(part).to_bytes(8, "big"))
            made.update(part)
    return made.hexdigest()


def total_bytes(all_contents: Iterable[Contents]) -> int:
    """How much several folders hold, what they share counted once."""
    return sum(
        {hashlib.sha256(one).digest(): len(one) for contents in all_contents for one in contents.values()}.values()
    )
