"""``ringfence policy status``: what each sidecar enforces, of a control plane that runs, and why one enforces less."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringfence.wire.gen import control_pb2
from tests.integration.test_controlplane_process import ORDERS, Subscription, join
from tests.mesh_files import replace_text
from tests.planes import RINGFENCE, Plane, new_authority, until
from tests.policy_documents import document

NEVER = "{name: r, from: [{namespace: shop}], to: {paths: [/x]}}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plane(tmp_path: Path, authority: Path) -> Iterator[Plane]:
    made = Plane(tmp_path, authority)
    made.init_authority()
    try:
        yield made
    finally:
        made.close()


def tried(plane: Plane, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [*RINGFENCE, "policy", "status", "--admin-socket", str(plane.admin_socket), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def orders(plane: Plane, status: int = 0) -> dict[str, Any]:
    done = tried(plane, "--json")
    assert done.returncode == status, done
    found: dict[str, Any] = next(one for one in json.loads(done.stdout)["workloads"] if one["service"] == "shop/orders")
    return found


def refuse(stream: Subscription, revision: int, enforced: int, error: str) -> None:
    answer = control_pb2.Acknowledgement(revision=revision, accepted=False, enforced_revision=enforced, error=error)
    stream._outbox.put(control_pb2.SidecarReport(ack=answer))


def test_each_sidecar_s_documents_modes_and_posture_are_told_and_why_one_lags(plane: Plane) -> None:
    until_text = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (plane.files.policies / "all.yaml").write_text(
        "---\n".join(
            (
                document("Allowlist", "callers", "{service: orders, rules: [{name: r, from: [web]}]}"),
                document("Role", "reader", "{permissions: [{name: get, methods: [GET]}]}"),
                document("RoleBinding", "web-reads", "{service: orders, mode: shadow, roles: [reader], from: [web]}"),
                document("Denylist", "never", f"{{scope: namespace, rules: [{NEVER}]}}"),
                document("Posture", "soon", f'{{service: orders, posture: observe, until: "{until_text}"}}'),
            )
        )
    )
    ready = plane.start()
    assert orders(plane)["sidecars"] == []
    stream = Subscription(plane, ready, join(plane, ready, ORDERS))
    first = stream.snapshot()
    stream.ack(first.revision)
    until(lambda: plane.workload("orders")["sidecars"][0]["standing"] == "current")

    (sidecar,) = orders(plane)["sidecars"]
    assert sidecar["enforced_revision"] == first.revision
    assert sidecar["policy"]["posture"] == "observe"
    assert sidecar["policy"]["observe_until"] == datetime.fromisoformat(until_text).timestamp()
    assert sidecar["policy"]["documents"] == [
        {"kind": "Allowlist", "name": "shop/callers", "mode": "enforce"},
        {"kind": "Denylist", "name": "shop/never", "mode": "enforce"},
        {"kind": "RoleBinding", "name": "shop/web-reads", "mode": "shadow"},
    ]
    table = tried(plane)
    assert table.returncode == 0
    assert "Allowlist shop/callers, Denylist shop/never, RoleBinding shop/web-reads (shadow)" in table.stdout

    replace_text(
        plane.files.policies / "all.yaml",
        document("Allowlist", "others", "{service: orders, rules: [{name: r, from: [web]}]}"),
    )
    second = stream.snapshot()
    refuse(stream, second.revision, first.revision, "port 15008 is taken")
    until(lambda: plane.workload("orders")["sidecars"][0]["standing"] == "refused")
    found = orders(plane, status=1)
    assert [one["name"] for one in found["policy"]["documents"]] == ["shop/others"]
    (sidecar,) = found["sidecars"]
    assert (sidecar["enforced_revision"], sidecar["error"]) == (first.revision, "port 15008 is taken")
    assert [one["name"] for one in sidecar["policy"]["documents"]] == ["shop/callers", "shop/never", "shop/web-reads"]
    assert "refused: port 15008 is taken" in tried(plane).stdout
    stream.close()
    assert plane.stop() == 0


def test_files_that_were_refused_are_told_and_no_control_plane_is_a_no(plane: Plane) -> None:
    plane.files.allow("orders", "web")
    plane.start()
    assert tried(plane).returncode == 0
    (plane.files.policies / "orders.yaml").write_text("kind: Allowlist\n")
    until(lambda: plane.status()["configuration"]["refused"])
    done = tried(plane)
    assert done.returncode == 1
    assert "and refused; what is above stays in force:" in done.stdout
    assert plane.stop() == 0
    assert tried(plane).returncode == 1


def test_warnings_are_logged_once_and_told_in_status(plane: Plane) -> None:
    plane.files.allow("orders", "nobody")
    plane.start()
    (logged,) = plane.logged("configuration with warnings")
    assert logged["problem_count"] == 1
    assert "warning: matches nobody: no service of the mesh is" in logged["problems"][0]
    (warning,) = plane.status()["configuration"]["warnings"]
    assert (warning["severity"], warning["text"]) == ("warning", logged["problems"][0])
    assert "1 warnings: see" in tried(plane).stdout
    assert plane.stop() == 0
