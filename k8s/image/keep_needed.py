"""Remove from a folder of packages what was only needed to build: keep_needed.py PYPROJECT FOLDER EXTRA…

A lock of one environment names both. Kept is what the project and these extras of it lead to.
"""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

# pip's own copy: it is there in the stage that runs this, and nothing of it is kept.
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name


def needed(project: dict[str, Any], extras: list[str], installed: dict[str, metadata.Distribution]) -> set[str]:
    """The names of all packages that the project leads to."""
    words = [*project["dependencies"], *(word for extra in extras for word in project["optional-dependencies"][extra])]
    waiting = [Requirement(word) for word in words]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, asked = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, asked) in seen or name not in installed:
            continue
        seen.add((name, asked))
        for word in installed[name].requires or []:
            further = Requirement(word)
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *asked)):
                waiting.append(further)
    return {name for name, _ in seen}


def main(pyproject: str, folder: str, *extras: str) -> None:
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    installed: dict[str, metadata.Distribution] = {
        canonicalize_name(each.metadata["Name"]): each for each in metadata.distributions(path=[folder])
    }
    kept = needed(project, list(extras), installed)
    for name in sorted(installed.keys() - kept):
        print(f"not kept: {name}")
        for file in installed[name].files or []:
            Path(str(file.locate())).unlink(missing_ok=True)
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
