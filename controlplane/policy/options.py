"""The options by which every question says what it is asked of, and how bad input ends a command. Adapter.

Exit status 2 also where no control plane answers: whoever reads 1 as "no" must not read it out of silence.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast

import click

from controlplane.hosting.judging import ReadingJudge
from controlplane.intake.judging import Judge
from controlplane.intake.sources import SourceFiles
from controlplane.intake.world import world_of
from controlplane.operate.admin_client import AdminUnreachableError
from controlplane.operate.admin_place import AdminPlaceError, find_admin_socket
from controlplane.policy.loading import MESH_FILE, load
from controlplane.policy.running import RunningReading, running_sources
from ringfence.kit.clock import SystemClock
from ringfence.policy.analysis.moments import MEND, parse_moment
from ringfence.policy.analysis.world import World
from ringfence.policy.problems import Problem

F = TypeVar("F", bound=Callable[..., Any])

BAD_INPUT: Final = 2
_LINES_TOLD: Final = 200
_PATH: Final = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a question is asked of: the mesh that runs, when one of the last three is given; else files."""

    mesh: Path | None
    policies: tuple[Path, ...]
    running: bool = False
    admin_socket: Path | None = None
    state: Path | None = None

    def beside(self, folder: Path) -> Asked:
        """The same, but where nothing says which mesh, of the mesh file in ``folder``, if there is one."""
        file = folder / MESH_FILE
        return replace(self, mesh=file) if self == Asked(mesh=None, policies=()) and file.is_file() else self

    def world(self) -> World:
        """The world; ends the command when there is none."""
        running = self.running or self.admin_socket is not None or self.state is not None
        if not running:
            loaded = load(self.policies, mesh=self.mesh, here=False)
            return loaded.world if loaded.world is not None else refuse(loaded.problems)
        if self.mesh is not None or self.policies:
            refuse(["--mesh and --policy name files, and another option the mesh that runs (keep either)"])
        try:
            found = running_sources(find_admin_socket(self.admin_socket, self.state))
        except (AdminPlaceError, AdminUnreachableError) as error:
            refuse([str(error)])
        if isinstance(found, RunningReading):
            judged = ReadingJudge(source=found.platform).judge(found.reading, None, SystemClock().now())
            return world_of(judged.configuration)
        world = _judged(found.in_force)
        if found.tried is None:
            return world
        # What `apply --shadow-first` tries is judged in shadow everywhere, not what documents say of shadow.
        tried = {service.full_name: service.policy for service in _judged(found.tried).services}
        services = (replace(one, shadow=tried.get(one.full_name, one.shadow)) for one in world.services)
        return replace(world, services=tuple(services))


def asks(command: F) -> F:
    """The options that say what a question is asked of; the command gets an ``Asked`` as ``asked``."""

    @functools.wraps(command)
    def asking(**given: Any) -> Any:
        parts = {name: given.pop(name) for name in ("mesh", "policies", "running", "admin_socket", "state")}
        return command(asked=Asked(**parts), **given)

    options = (
        click.option(
            "--mesh", type=_PATH, metavar="FILE", help="The mesh file. [default: mesh.yaml, beside a --policy or here]"
        ),
        click.option(
            "--policy",
            "policies",
            type=_PATH,
            multiple=True,
            metavar="PATH",
            help="A policy file or folder, in place of the folder that the mesh file names; may be given again.",
        ),
        click.option("--running", is_flag=True, help="Ask of what a running control plane has in force, not of files."),
        click.option("--state", type=_PATH, metavar="DIR", help="The same, by its state folder, or that of `up`."),
        click.option("--admin-socket", type=_PATH, metavar="PATH", help="The same, by its admin socket."),
    )
    made: Any = asking
    for option in reversed(options):
        made = option(made)
    return cast(F, made)


def _judged(files: SourceFiles) -> World:
    configuration, problems = Judge(here=False).judge(files)
    return world_of(configuration) if configuration is not None else refuse(problems)


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
