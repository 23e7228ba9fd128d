"""The ``ringfence`` command: what it loads, and what it says to a name that it does not know."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ringfence import __version__
from ringfence.cli import COMMAND_GROUP, CommandLine

_COMMAND = '''
import click

@click.command()
@click.option("--loud", is_flag=True)
def {name}(loud):
    """Does {name}."""
    click.echo("{name} ran" + "!" * loud)
'''


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command line of three commands: two that work and one whose module cannot be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("serve", "inspect")
    for name in names:
        (tmp_path / f"cli_case_{name}.py").write_text(_COMMAND.format(name=name))
    (tmp_path / "cli_case_broken.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "cli_case_number.py").write_text("number = 7\n")
    line = CommandLine(
        EntryPoint(name, f"cli_case_{name}:{name}", COMMAND_GROUP) for name in (*names, "broken", "number")
    )

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(line, list(arguments), prog_name="ringfence")

    yield invoke
    for name in (*names, "broken", "number"):
        sys.modules.pop(f"cli_case_{name}", None)


def test_a_command_runs_with_its_own_options(run) -> None:
    result = run("serve", "--loud")
    assert (result.exit_code, result.output) == (0, "serve ran!\n")


def test_only_the_command_that_is_called_is_imported(run) -> None:
    run("serve")
    assert "cli_case_serve" in sys.modules
    assert "cli_case_inspect" not in sys.modules


def test_an_unknown_command_names_the_nearest_and_exits_2(run) -> None:
    result = run("inspct")
    assert result.exit_code == 2
    assert "unknown command 'inspct' (did you mean 'inspect'?)" in result.output


def test_a_command_like_no_other_is_answered_with_what_there_is(run) -> None:
    result = run("zzzzzz")
    assert result.exit_code == 2
    assert "there is broken, inspect, number, serve" in result.output


def test_without_any_command_installed_the_mend_is_to_install() -> None:
    result = CliRunner().invoke(CommandLine([]), ["up"])
    assert result.exit_code == 2
    assert "install ringfence with pip" in result.output


def test_a_command_that_cannot_be_imported_is_one_line_and_not_a_traceback(run) -> None:
    result = run("broken")
    assert result.exit_code == 1
    assert "command 'broken' cannot be loaded: No module named 'a_package_that_is_not_there'" in result.output
    assert "Traceback" not in result.output


def test_an_entry_point_that_is_no_command_is_refused(run) -> None:
    result = run("number")
    assert result.exit_code == 1
    assert "is no click command" in result.output


def test_help_lists_every_command_and_marks_the_broken_one(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "Does serve." in result.output
    assert "Does inspect." in result.output
    assert "(command 'broken' cannot be loaded" in result.output
    assert "Example:" in result.output


def test_of_two_entry_points_of_one_name_the_first_counts(run) -> None:
    first = EntryPoint("serve", "cli_case_serve:serve", COMMAND_GROUP)
    second = EntryPoint("serve", "cli_case_inspect:inspect", COMMAND_GROUP)
    result = CliRunner().invoke(CommandLine([first, second]), ["serve"])
    assert result.output == "serve ran\n"


def test_version_is_the_distribution_s() -> None:
    result = CliRunner().invoke(CommandLine([]), ["--version"])
    assert result.exit_code == 0
    assert __version__ in result.output


def test_the_sidecar_s_command_loads_nothing_of_the_control_plane() -> None:
    program = """
import sys
from ringfence.cli import main
try:
    main(["sidecar", "--help"])
except SystemExit:
    print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""
    ended = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.rpartition("loaded:")[2].split())
    assert "sidecar" in loaded
    assert not loaded & {"ca", "controlplane", "sqlalchemy", "aiohttp", "rich", "grpc"}
