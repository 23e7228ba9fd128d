"""``ringfence policy check``: all that is wrong with files, and all that is surely not meant, at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from controlplane.operate.status import problem_document
from controlplane.policy.loading import Loaded, load
from controlplane.policy.options import BAD_INPUT
from ringfence.policy.problems import Problem, errors

WARNED: Final = 1
_LINES_TOLD: Final = 1_000
_PATH: Final = click.Path(path_type=Path)
_EPILOG: Final = """\b
Example:
  ringfence policy check policies --mesh mesh.yaml
  ringfence policy check candidate/orders.yaml --strict --json
"""


@click.command(name="check", epilog=_EPILOG)
@click.argument("paths", type=_PATH, nargs=-1, metavar="[PATH]...")
@click.option(
    "--mesh", type=_PATH, metavar="FILE", help="The mesh file. [default: among the paths, or mesh.yaml beside one]"
)
@click.option("--strict", is_flag=True, help="Fail for warnings, too.")
@click.option("--no-secrets", is_flag=True, help="Do not look for files with secrets, as where no control plane runs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(*, paths: tuple[Path, ...], mesh: Path | None, strict: bool, no_secrets: bool, as_json: bool) -> None:
    """Check policy files and folders as the control plane would, and tell all errors and warnings at once.

    Without a path the folder that the mesh file names is checked. Without a mesh file each document is checked by
    itself, and not against services.

    Exit status: 0 no error, 1 warnings with --strict, 2 errors.
    """
    loaded = load(paths, mesh=mesh, alone=bool(paths), here=not no_secrets)
    wrong = len(errors(loaded.problems))
    warned = len(loaded.problems) - wrong
    if as_json:
        click.echo(json.dumps(_document(loaded, wrong, warned), indent=2))
    else:
        _tell(loaded.problems)
        click.echo(_summary(loaded, wrong, warned), err=bool(wrong))
    if wrong:
        sys.exit(BAD_INPUT)
    if strict and warned:
        sys.exit(WARNED)


def _tell(problems: Iterable[Problem]) -> None:
    lines = [str(problem) for problem in problems]
    for line in lines[:_LINES_TOLD]:
        click.echo(line, err=True)
    if len(lines) > _LINES_TOLD:
        click.echo(f"and {len(lines) - _LINES_TOLD} more problems", err=True)


def _summary(loaded: Loaded, wrong: int, warned: int) -> str:
    parts = [_count(loaded.documents, "document")] if not wrong else []
    if loaded.world is not None:
        parts.append(_count(len(loaded.world.services), "service"))
    parts += [_count(wrong, "error"), _count(warned, "warning")]
    alone = " (without a mesh file: not checked against services; name one by --mesh)" if loaded.alone else ""
    return ", ".join(parts) + alone


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _document(loaded: Loaded, wrong: int, warned: int) -> dict[str, object]:
    return {
        "mesh_file": str(loaded.mesh_file) if loaded.mesh_file is not None else None,
        "documents": loaded.documents if not wrong else None,
        "services": len(loaded.world.services) if loaded.world is not None else None,
        "errors": wrong,
        "warnings": warned,
        "problems": [problem_document(problem) for problem in loaded.problems],
    }
