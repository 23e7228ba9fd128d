"""Identities of five minutes, in real time: renewed under load while the control plane restarts, and outlived.

What it shows for a life of a minute `test_faults` and `test_daytwo` show in every run. Takes a quarter of an hour:
`make test-cluster ARGS=tests/cluster/test_long_lives.py`. The tests follow each other in one cluster.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.callers import load
from tests.cluster.cluster import Settings, running
from tests.cluster.machine import until
from tests.cluster.mesh import SYSTEM, deploy_shop, install, issued, wait_rolled_out
from tests.cluster.operators import VISITORS, VISITS, Operator, outlive
from tests.cluster.test_lifecycle import CALLS
from tests.cluster.workloads import caller_pod

LIFETIME_SECONDS: Final = 300
_APPS: Final = ("web", "orders", "payments", "ledger")


@pytest.fixture(scope="module")
def operator(programs: Path, image: Path) -> Iterator[Operator]:
    """A cluster with the mesh, whose SVIDs live for five minutes, and the shop in it."""
    with running(Settings(programs=programs, images=(image,))) as made:
        install(made, f"identity.lifetimeSeconds={LIFETIME_SECONDS},identity.floorSeconds={LIFETIME_SECONDS}")
        deploy_shop(made)
        yield Operator(cluster=made)


def test_renewals_under_load_over_a_restart_of_the_control_plane_lose_no_call(operator: Operator) -> None:
    cluster = operator.cluster
    with load(cluster, "shop", caller_pod("loads-long", serviceAccountName="web"), CALLS) as calls:
        began = time.time()
        before = {app: issued(cluster, app) for app in _APPS}
        until(lambda: all(issued(cluster, app) > before[app] for app in _APPS), "the first renewals", LIFETIME_SECONDS)
        cluster.kubectl("rollout", "restart", "deployment/ringfence", f"--namespace={SYSTEM}")
        wait_rolled_out(cluster, SYSTEM)
        between = {app: issued(cluster, app) for app in _APPS}
        until(lambda: all(issued(cluster, app) > between[app] for app in _APPS), "the next renewals", LIFETIME_SECONDS)
        # Nobody holds any more what was held when it began.
        until(lambda: time.time() > began + LIFETIME_SECONDS, "the end of the first SVIDs", LIFETIME_SECONDS)
        calls.more()
    print(f"{calls.done} calls in {time.time() - began:.0f} s, {len(calls.failed)} failed")
    assert calls.failed == []


def test_uninstall_leaves_all_serving_beyond_the_life_of_the_last_svid(operator: Operator) -> None:
    operator.cluster.kubectl("create", "namespace", VISITORS)
    operator.do("ramp", VISITORS, "--to", "observe", "--apply", "--timeout", "120")
    operator.cluster.apply(VISITS)
    outlive(operator)
    print(f"{operator.calls('late')[0]} calls, none failed")
