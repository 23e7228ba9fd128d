"""What a run of all tests leaves out, and that it says so: hooks for pytest.

The tests on a real Kubernetes need root, Go and minutes; they run when their folder, or one of its files, is named. Of
these some take a quarter of an hour, as only time shows what they are for; they run when their own file is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

_CLUSTER: Final = Path(__file__).parent / "cluster"
_LONG: Final = _CLUSTER / "test_long_lives.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is not named: pytest asks about a file of a folder that is, not about one that is itself."""
    left_out = collection_path == _LONG or (collection_path == _CLUSTER and not _of_cluster(config))
    return left_out or None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say it where the result is said; by what was asked for, as beside several processes this one collects nothing."""
    of_cluster = _of_cluster(config)
    if not of_cluster:
        told = "tests/cluster, all tests on a real Kubernetes: run them by `make test-cluster`"
    elif _CLUSTER in of_cluster:
        name = _LONG.relative_to(_CLUSTER.parents[1])
        told = f"{name}, which takes a quarter of an hour: run it by `make test-cluster ARGS={name}`"
    else:
        return
    terminalreporter.section("LEFT OUT", yellow=True, bold=True)
    terminalreporter.line(told)


def _of_cluster(config: pytest.Config) -> list[Path]:
    """What is named of the tests on a cluster."""
    named = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return [path for path in named if _CLUSTER in (path, *path.parents)]
