"""Writes the custom resource definitions: ``python -m k8s.crds.generate``; ``--check`` only tells what is stale.

They lie in ``k8s/crds`` for who applies them by hand, and in the chart, which may hold only its own files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import yaml

from k8s.crds.definition import GROUP, KINDS, definition, plural

_K8S: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = (_K8S / "crds", _K8S / "chart" / "files" / "crds")
_HEAD: Final = "# Written by `make gen` from the table of policy documents; do not edit.\n"


def texts() -> dict[str, str]:
    """Each file by its name."""
    return {f"{GROUP}_{plural(kind.name)}.yaml": _HEAD + _dump(definition(kind)) for kind in KINDS}


def stale(folder: Path) -> list[str]:
    """The names of files in ``folder`` that are missing, say something else, or should not be there."""
    wanted = texts()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    """0 when all is written or up to date, 1 when ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m k8s.crds.generate", description="Write the CRDs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    options = parser.parse_args(arguments)
    wanted = texts()
    differing = [(folder, name) for folder in FOLDERS for name in stale(folder)]
    for folder, name in differing:
        path = folder / name
        if options.check:
            print(f"{path.relative_to(_K8S.parent)} is stale: run make gen", file=sys.stderr)
        elif name in wanted:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    return 1 if options.check and differing else 0


class _Dumper(yaml.SafeDumper):
    """Writes out what stands in two places, as people and tools read YAML better without anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _dump(document: object) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    sys.exit(main())
