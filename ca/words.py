"""How the commands of this package talk: failures as one clear line with the right exit status, times, durations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import click

from ca.errors import CaError, DataFolderError, PassphraseError, RequestInvalid, SettingsInvalid
from ringfence.spiffe import SpiffeId, SpiffeIdError, TrustDomain

P = ParamSpec("P")
R = TypeVar("R")

_BAD_INPUT: Final = (RequestInvalid, DataFolderError, PassphraseError, SettingsInvalid)
_DURATION: Final = re.compile(r"(\d{1,9})(s|m|h|d)")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class BadInput(click.ClickException):
    """One line on standard error, exit status 2: nothing was done."""

    exit_code = 2


class Failed(click.ClickException):
    """One line on standard error, exit status 1: it failed while running."""

    exit_code = 1


def example(*lines: str) -> str:
    """The epilog of a command's help; click keeps these lines as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command so that this package's errors, and the system's, become complaints instead of tracebacks."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _BAD_INPUT as problem:
            raise BadInput(str(problem)) from problem
        except CaError as problem:
            raise Failed(str(problem)) from problem
        except OSError as problem:
            raise Failed(f"{problem.filename or 'system'}: {problem.strerror or problem}") from problem

    return guarded


class TrustDomainType(click.ParamType[TrustDomain]):
    """A trust domain, with or without ``spiffe://``."""

    name = "trust domain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TrustDomain:
        try:
            return value if isinstance(value, TrustDomain) else TrustDomain.parse(value)
        except SpiffeIdError as problem:
            self.fail(str(problem), param, ctx)


class SpiffeIdType(click.ParamType[SpiffeId]):
    """A SPIFFE ID."""

    name = "spiffe id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SpiffeId:
        try:
            return value if isinstance(value, SpiffeId) else SpiffeId.parse(value)
        except SpiffeIdError as problem:
            self.fail(str(problem), param, ctx)


class DurationType(click.ParamType[int]):
    """Whole seconds, written like 30s, 10m, 1h or 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not a duration (write it like 30s, 10m, 1h or 7d)", param, ctx)
        return int(match[1]) * _UNIT_SECONDS[match[2]]


def moment(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def say_json(facts: object) -> None:
    """Facts as one JSON object on standard output."""
    click.echo(json.dumps(facts, indent=2))


def say_facts(facts: Mapping[str, object]) -> None:
    """Facts for people: a name and its value a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{name.replace('_', ' '):<{width}}  {shown}")


def say_table(rows: list[dict[str, object]], columns: tuple[str, ...], nothing: str) -> None:
    """Rows for people: the named columns, aligned; ``nothing`` when there is none."""
    if not rows:
        click.echo(nothing)
        return
    cells = [[column.replace("_", " ").upper() for column in columns]]
    cells += [[str(row[column]) if row[column] is not None else "-" for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
