"""How commands find the control plane of a running mesh, and how they end when it says no."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import click

from controlplane.operate.admin_client import AdminUnreachableError, ask
from controlplane.operate.admin_place import AdminPlaceError, find_admin_socket

_C = TypeVar("_C", bound=Callable[..., None])
_PATH = click.Path(path_type=Path)
LINES_SHOWN = 200


def mesh_options(command: _C) -> _C:
    """``--admin-socket`` and ``--state``, as ``ringfence status`` has them."""
    command = click.option(
        "--state",
        type=_PATH,
        metavar="DIR",
        help="State folder of the control plane, or of `ringfence up`. [default: the only one under .ringfence]",
    )(command)
    return click.option("--admin-socket", type=_PATH, metavar="PATH", help="The control plane's admin socket.")(command)


def found_socket(admin_socket: Path | None, state: Path | None) -> Path:
    """The socket that the options name; ends the command when they name none."""
    try:
        return find_admin_socket(admin_socket, state)
    except AdminPlaceError as error:
        fail([str(error)], status=2)


def asked(
    admin_socket: Path,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    seconds: float = 5.0,
    origins: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, Any]:
    """What the control plane answers; ends the command where it refuses (2 for what is wrong, else 1).

    ``origins``: from where a file was given that it tells problems of, by its name in the policy folder.
    """
    try:
        status, document = ask(admin_socket, method, path, body, seconds=seconds)
    except AdminUnreachableError as error:
        fail([str(error)], status=1)
    if status >= 300:
        _refused(status, document, f"{admin_socket} answers {status} to {path}", origins)
    return document


def _refused(status: int, document: Mapping[str, Any], unsaid: str, origins: Mapping[str, Path]) -> NoReturn:
    problems = [_told(problem, origins) for problem in document.get("problems", ())]
    lines = problems or [str(document.get("error", unsaid))]
    fail(lines, status=2 if problems or status in (400, 404, 422) else 1)


def _told(problem: Mapping[str, Any], origins: Mapping[str, Path]) -> str:
    text, file = str(problem.get("text", "")), str(problem.get("file", ""))
    given = next((path for name, path in origins.items() if file == name or file.endswith(f"/{name}")), None)
    return f"{given}{text.removeprefix(file)}" if given is not None else text


def fail(lines: list[str], *, status: int) -> NoReturn:
    """One line for each problem on standard error."""
    for line in lines[:LINES_SHOWN]:
        click.echo(line, err=True)
    if len(lines) > LINES_SHOWN:
        click.echo(f"and {len(lines) - LINES_SHOWN} more problems", err=True)
    sys.exit(status)
