"""The options by which every question says what it is asked of, and how bad input ends a command. Adapter.

Exit status 2 also where no control plane answers: whoever reads 1 as "no" must not read it out of silence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from controlplane.policy.loading import load
from ringfence.policy.analysis.moments import MEND, parse_moment
from ringfence.policy.analysis.world import World
from ringfence.policy.problems import Problem

F = TypeVar("F", bound=Callable[..., Any])

BAD_INPUT: Final = 2
_LINES_TOLD: Final = 200
_PATH: Final = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a question is asked of: files."""

    mesh: Path | None
    policies: tuple[Path, ...]

    def world(self) -> World:
        """The world; ends the command when there is none."""
        loaded = load(self.policies, mesh=self.mesh)
        if loaded.world is None:
            refuse(loaded.problems)
        return loaded.world


def asks_of_files(command: F) -> F:
    """The options of a question that is asked of files."""
    command = click.option(
        "--policy",
        "policies",
        type=_PATH,
        multiple=True,
        metavar="PATH",
        help="A policy file or folder, in place of the folder that the mesh file names; may be given again.",
    )(command)
    return click.option(
        "--mesh", type=_PATH, metavar="FILE", help="The mesh file. [default: mesh.yaml, beside a --policy or here]"
    )(command)


def refuse(problems: Iterable[Problem | str]) -> NoReturn:
    """Bad input: a line for each problem on standard error, exit status 2."""
    lines = [str(problem) for problem in problems]
    for line in lines[:_LINES_TOLD]:
        click.echo(line, err=True)
    if len(lines) > _LINES_TOLD:
        click.echo(f"and {len(lines) - _LINES_TOLD} more problems", err=True)
    sys.exit(BAD_INPUT)


class Moment(click.ParamType[float]):
    """A moment as RFC 3339 has it, with its zone; Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_moment(str(value))
        except ValueError as error:
            self.fail(f"{value!a} is no moment: {error} ({MEND})", param, ctx)


class Pair(click.ParamType[tuple[str, str]]):
    """Two texts with ``separator`` between them."""

    name = "pair"

    def __init__(self, separator: str) -> None:
        self.separator = separator

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition(self.separator)
        if not separator or not name:
            self.fail(f"{value!a} has no {self.separator!a} (write it like name{self.separator}value)", param, ctx)
        return name, text.strip()
