"""Questions about policy to a control plane that runs: they are answered by what it accepted, not by what files say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh_files import allowlist_text
from tests.planes import Plane, new_authority, until


def ringfence(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringfence", "policy", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plane(tmp_path: Path, authority: Path) -> Iterator[Plane]:
    made = Plane(tmp_path, authority)
    made.init_authority()
    made.files.allow("orders", "web")
    made.start()
    try:
        yield made
        assert made.stop() == 0
    finally:
        made.close()


def test_a_running_mesh_is_asked_over_its_admin_socket(plane: Plane) -> None:
    words = ("explain", "--from", "web", "--to", "orders", "--state", plane.state)
    file = plane.files.policies / "orders.yaml"

    permitted = ringfence(*words, "--path", "/orders")
    assert permitted.returncode == 0, permitted.stderr
    assert "by rule shop/orders/from-web (policies/orders.yaml:7)" in permitted.stdout
    assert ringfence(*words, "--path", "/carts").returncode == 1

    # A broken file is refused, and the answer stays the one that sidecars enforce.
    file.write_text(allowlist_text("order", ["web"], path="/carts"))
    until(lambda: plane.status()["configuration"]["refused"])
    assert ringfence(*words, "--path", "/carts").returncode == 1
    file.write_text(allowlist_text("orders", ["web"], path="/carts"))
    until(lambda: ringfence(*words, "--path", "/carts").returncode == 0)


def test_cases_and_the_graph_of_a_running_mesh(plane: Plane, tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        "apiVersion: ringfence.io/v1alpha1\nkind: PolicyTest\nmetadata: {name: t, namespace: shop}\nspec:\n  cases:\n"
        "    - {name: a, call: {from: web, to: orders, path: /orders}, expect: permit}\n"
    )
    tested = ringfence("test", cases, "--state", plane.state, "--require-coverage", "100")
    assert tested.returncode == 0, tested

    drawn: Any = json.loads(ringfence("graph", "--state", plane.state, "--json").stdout)
    assert [(edge["from"]["name"], edge["to"]["name"]) for edge in drawn["edges"]] == [("shop/web", "shop/orders")]


def test_a_change_on_trial_is_the_shadow_of_a_running_mesh(plane: Plane, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "orders.yaml").write_text(allowlist_text("orders", ["web"], path="/carts"))
    words = ("explain", "--from", "web", "--to", "orders", "--path", "/orders", "--state", plane.state)
    assert "shadow:" not in ringfence(*words).stdout

    tried = ringfence("apply", given, "--shadow-first", "10m", "--no-wait", "--state", plane.state)
    assert tried.returncode == 0, tried
    asked = ringfence(*words)
    assert (asked.returncode, asked.stdout.splitlines()[-1]) == (0, "shadow: denied: path_not_allowed")
    assert ringfence("rollout", "--stop", "--state", plane.state).returncode == 0
    until(lambda: "shadow:" not in ringfence(*words).stdout)


def test_no_answer_is_not_taken_for_no(tmp_path: Path) -> None:
    words = ("explain", "--from", "web", "--to", "orders")

    silent = ringfence(*words, "--state", tmp_path)
    assert (silent.returncode, silent.stdout) == (2, "")
    assert "no control plane at" in silent.stderr
    both = ringfence(*words, "--state", tmp_path, "--mesh", "mesh.yaml")
    assert both.returncode == 2
    assert "keep either" in both.stderr
