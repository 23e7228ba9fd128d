"""The group ``ringfence policy``. It only collects: each command is a module of its own, loaded when it is called; what
other packages have to say of policy they declare as entry points of the group ``ringfence.commands.policy``.

Exit statuses of every command: 0 done or "yes", 1 failed or "no", 2 bad input and nothing done.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

from ringfence.cli import further_commands, load_command

# Name of a command: where it is. A new command is one line here.
COMMANDS: Final[dict[str, str]] = {
    "apply": "controlplane.policy.apply:apply",
    "check": "controlplane.policy.check:command",
    "diff": "controlplane.policy.diff:command",
    "explain": "controlplane.policy.explain:command",
    "flows": "controlplane.policy.flows:command",
    "graph": "controlplane.policy.graph:command",
    "history": "controlplane.policy.history:history",
    "import": "controlplane.policy.importing:command",
    "learn": "controlplane.policy.learn:command",
    "prove": "controlplane.policy.prove:command",
    "rollback": "controlplane.policy.apply:rollback",
    "rollout": "controlplane.policy.history:rollout",
    "schema": "controlplane.policy.schema:command",
    "status": "controlplane.policy.status:command",
    "test": "controlplane.policy.testing:command",
}

_EPILOG = """\b
Example:
  ringfence policy check policies --mesh mesh.yaml
"""


class PolicyCommands(click.Group):
    """A group whose commands are named in a table, so that none pays for what another imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *further_commands("policy")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if there is none."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            further = further_commands("policy").get(cmd_name)
            return load_command(further) if further is not None else None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command), place
        return command


@click.group(cls=PolicyCommands, epilog=_EPILOG)
def policy() -> None:
    """Check, explain, test, compare and roll out policy."""
