"""The ``ringfence`` command: collects the commands that each package declares, and loads only the one that is called.

Every package announces its commands as entry points of the group ``ringfence.commands``, each a click command or group.
So this file imports none of them, ``ringfence sidecar`` never pays for what only the control plane needs, and a package
that is not there takes nothing with it but its own commands.

Exit statuses of every command: 0 done, 1 failed while running, 2 bad input and nothing done.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

import click

from ringfence import __version__

COMMAND_GROUP = "ringfence.commands"

_EPILOG = """\b
Example:
  ringfence demo --once
  ringfence up -f mesh.yaml
"""


def further_commands(name: str) -> dict[str, EntryPoint]:
    """The commands that packages declare for the group of commands ``name``, beside those of its own package: the
    entry points of the group ``ringfence.commands.<name>``."""
    return {one.name: one for one in entry_points(group=f"{COMMAND_GROUP}.{name}")}


def load_command(entry_point: EntryPoint) -> click.Command:
    """The command that it declares; ClickException if there is none."""
    name = entry_point.name
    try:
        command = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise click.ClickException(f"command {name!r} cannot be loaded: {error} (reinstall ringfence)") from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"command {name!r} cannot be loaded: {entry_point.value!r} is no click command")
    return command


class CommandLine(click.Group):
    """A click group whose commands are entry points, each loaded when it is first asked for.

    ``entry_points``: what may be called; of two of one name the first counts.
    """

    def __init__(self, entry_points: Iterable[EntryPoint]) -> None:
        super().__init__(
            name="ringfence",
            help="A service mesh for zero trust between services: what is not allowed is denied.",
            epilog=_EPILOG,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        click.version_option(__version__, prog_name="ringfence")(self)
        self._entry_points: dict[str, EntryPoint] = {}
        for entry_point in entry_points:
            self._entry_points.setdefault(entry_point.name, entry_point)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._entry_points)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, loaded now; None if no package declares it."""
        entry_point = self._entry_points.get(cmd_name)
        if entry_point is None:
            return None
        return load_command(entry_point)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._entry_points and not name.startswith("-"):
            ctx.fail(f"unknown command {name!r} ({self._mend(name)})")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The one place that loads every command: the list in ``--help``; one that is broken is shown as such."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except click.ClickException as error:
                rows.append((name, f"({error.message})"))
                continue
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=formatter.width)))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def _mend(self, name: str) -> str:
        if not self._entry_points:
            return "no command is installed: install ringfence with pip, from a wheel or a checkout"
        nearest = difflib.get_close_matches(name, self._entry_points, n=1, cutoff=0.5)
        if nearest:
            return f"did you mean {nearest[0]!r}?"
        return f"there is {', '.join(sorted(self._entry_points))}"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with ``args`` (the process's own if None); ends by SystemExit with the exit status."""
    CommandLine(entry_points(group=COMMAND_GROUP)).main(args=args, prog_name="ringfence")


if __name__ == "__main__":
    main()
