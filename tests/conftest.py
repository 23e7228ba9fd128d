"""What every test may lean on: a free port, a clock that turns by hand; and what no test has to fear from another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from ringfence.kit.clock import FakeClock
from tests import ports
from tests.aftermath import pytest_runtest_makereport, pytest_runtest_protocol
from tests.left_out import pytest_ignore_collect, pytest_terminal_summary
from tests.postgres import new_postgres_url, postgres_cluster, postgres_url

__all__ = [
    "clock",
    "free_port",
    "new_postgres_url",
    "postgres_cluster",
    "postgres_url",
    "pytest_ignore_collect",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_terminal_summary",
]

# Tests start processes while servers of grpcio run; what it would do in a forked child before that becomes another
# program may spin there for ever.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# The same commit gives the same result, on a busy machine, too: no example has a time in which it must be done, and
# chance chooses none. Whoever looks for new ones says --hypothesis-profile=default, or runs `make fuzz`.
hypothesis.settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, nor any process that it starts, finds or leaves anything in the configuration of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
            patch.delenv(name)
        yield


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when the test says so."""
    return FakeClock()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Hands out loopback TCP ports that nobody listens on, none of them twice."""
    return ports.free_port
