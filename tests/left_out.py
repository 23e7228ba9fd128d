"""What a run of all tests leaves out, and that it says so: hooks for pytest.

The tests on a real Kubernetes need root, Go and minutes; they run when their folder, or one of its files, is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

_CLUSTER: Final = Path(__file__).parent / "cluster"
_LEFT_OUT: Final = pytest.StashKey[bool]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs a cluster, unless it is asked for by name."""
    if collection_path != _CLUSTER or any(_is_of_cluster(argument, config) for argument in config.args):
        return None
    config.stash[_LEFT_OUT] = True
    return True


def _is_of_cluster(argument: str, config: pytest.Config) -> bool:
    path = (config.invocation_params.dir / argument.split("::")[0]).resolve()
    return path == _CLUSTER or _CLUSTER in path.parents


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say it where the result is said."""
    if config.stash.get(_LEFT_OUT, False):
        terminalreporter.section("LEFT OUT", yellow=True, bold=True)
        terminalreporter.line("tests/cluster, all tests on a real Kubernetes: run them by `make test-cluster`")
