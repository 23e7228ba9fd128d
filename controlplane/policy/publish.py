"""Writes what is published of policy documents: their JSON Schema and the page of reference.

``python -m controlplane.policy.publish`` writes both into ``docs/``; with ``--check`` it only tells whether they are up
to date, as ``make check`` asks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from ringfence.policy.schema.json_schema import json_schema
from ringfence.policy.schema.reference import reference

_FOLDER: Final = Path(__file__).resolve().parents[2] / "docs"


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def published() -> dict[str, str]:
    """Each published file by its name."""
    return {"policy.schema.json": schema_text(), "policy-reference.md": reference()}


def stale(folder: Path) -> list[str]:
    """The names of files in ``folder`` that are missing or say something else."""
    return [
        name
        for name, text in published().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """0 when all is written or up to date, 1 when ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m controlplane.policy.publish", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    options = parser.parse_args(arguments)
    names = stale(_FOLDER)
    if options.check:
        for name in names:
            print(f"docs/{name} is stale: run python -m controlplane.policy.publish", file=sys.stderr)
        return 1 if names else 0
    for name in names:
        (_FOLDER / name).write_text(published()[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
