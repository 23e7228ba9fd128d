"""The group ``ringfence k8s``. It only collects: each command is a module of its own, loaded when it is called.

Exit statuses of every command: 0 done or "yes", 1 failed or "no", 2 bad input and nothing done.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

# Name of a command: where it is. A new command is one line here.
COMMANDS: Final[dict[str, str]] = {
    "cni": "k8s.cni.commands:command",
    "cni-install": "k8s.cni.commands:install",
    "inject": "k8s.inject_command:command",
    "check": "k8s.ramp.check_command:command",
    "ensure-passphrase": "k8s.install.commands:ensure_passphrase",
    "remember-root": "k8s.install.commands:remember_root",
    "config": "k8s.daytwo.inside:config",
    "explain": "k8s.daytwo.explain_command:command",
    "history": "k8s.daytwo.rollback_command:history",
    "loglevel": "k8s.daytwo.inside:loglevel",
    "logs": "k8s.daytwo.inside:logs",
    "ramp": "k8s.ramp.ramp_command:ramp",
    "rollback": "k8s.daytwo.rollback_command:rollback",
    "status": "k8s.daytwo.status_command:command",
    "support-bundle": "k8s.daytwo.bundle_command:command",
    "tap": "k8s.daytwo.inside:tap",
    "uninstall": "k8s.ramp.ramp_command:uninstall",
    "upgrade": "k8s.ramp.ramp_command:upgrade",
    "who-would-break": "k8s.ramp.ramp_command:who",
    "why": "k8s.daytwo.inside:why",
}

_EPILOG = """\b
Example:
  ringfence k8s inject -f deployment.yaml | kubectl apply -f -
"""


class KubernetesCommands(click.Group):
    """A group whose commands are named in a table, so that none pays for what another imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if there is none."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command), place
        return command


@click.group(cls=KubernetesCommands, epilog=_EPILOG)
def k8s() -> None:
    """Put workloads of a Kubernetes cluster into the mesh, and see how they fare."""
