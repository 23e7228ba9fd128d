"""``ringfence policy``: a table of commands, each loaded when it is called."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from controlplane.policy import commands


def test_every_command_of_the_table_is_there_with_help_and_an_example() -> None:
    context = click.Context(commands.policy)
    for name in commands.policy.list_commands(context):
        command = commands.policy.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert "ringfence policy" in (command.epilog or ""), name


def test_no_command_is_loaded_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.COMMANDS, "gone", "controlplane.policy.gone:gone")
    assert "gone" in commands.policy.list_commands(click.Context(commands.policy))
    with pytest.raises(ModuleNotFoundError):
        commands.policy.get_command(click.Context(commands.policy), "gone")


def test_an_unknown_command_is_bad_input() -> None:
    result = CliRunner().invoke(commands.policy, ["nothing"])
    assert result.exit_code == 2
    assert "nothing" in result.output
