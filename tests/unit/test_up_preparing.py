"""What is checked and made before a start: all problems at once, and nothing made where there is one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.up.preparing import BadMeshError, CannotStartError, check_runs, prepared, read_whole_mesh
from ringfence.mesh import Run, Service
from tests.up_meshes import SHOP, example_mesh

POLICIES = ("orders.yaml", "payments.yaml", "ledger.yaml")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the shop whose files may be broken; its mesh file."""
    (tmp_path / "policies").mkdir()
    for name in POLICIES:
        (tmp_path / "policies" / name).write_text((SHOP / "policies" / name).read_text())
    (tmp_path / "mesh.yaml").write_text((SHOP / "mesh.yaml").read_text())
    (tmp_path / "apps").mkdir()
    return tmp_path / "mesh.yaml"


def _running(service: Service, run: Run) -> Service:
    [instance] = service.instances
    return replace(service, instances=(replace(instance, run=run),))


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_problems_of_mesh_and_policies_come_together_with_their_places(shop: Path) -> None:
    _edit(shop, 'signals: "127.0.0.1:9401"', 'signal: "127.0.0.1:9401"')
    _edit(shop, "service: ledger", "service: legder")
    _edit(shop.parent / "policies" / "orders.yaml", "spiffe://shop.example/ns/shop/sa/web", "spiffe://Shop Example/ns")
    with pytest.raises(BadMeshError) as caught:
        read_whole_mesh(shop)
    lines = caught.value.lines
    assert any(line.startswith(f"{shop}:") and "signal" in line and "did you mean signals?" in line for line in lines)
    assert any("legder" in line for line in lines)
    assert any(line.startswith(f"{shop.parent}/policies/orders.yaml:") for line in lines)


def test_a_tab_is_told_with_file_and_line(shop: Path) -> None:
    _edit(shop, "  trustDomain", "\ttrustDomain")
    with pytest.raises(BadMeshError) as caught:
        read_whole_mesh(shop)
    assert any(line.startswith(f"{shop}:") and "tab" in line for line in caught.value.lines)


def test_a_bomb_in_a_policy_is_told_with_file_and_line(shop: Path) -> None:
    _edit(shop.parent / "policies" / "ledger.yaml", "apiVersion:", "a: &a [1, *a]\napiVersion:")
    with pytest.raises(BadMeshError) as caught:
        read_whole_mesh(shop)
    assert any(line.startswith(f"{shop.parent}/policies/ledger.yaml:") for line in caught.value.lines)


def test_a_missing_folder_and_a_missing_program_are_told_together(tmp_path: Path) -> None:
    mesh = example_mesh()
    (tmp_path / "apps").mkdir()
    runs = [
        Run(command=("no-such-program",), directory="apps"),
        Run(command=("python3",), directory="gone"),
        Run(command=("./start.sh",), directory="apps"),
        Run(command=("python3",), directory="apps"),
    ]
    services = tuple(_running(service, run) for service, run in zip(mesh.services, runs, strict=True))
    with pytest.raises(BadMeshError) as caught:
        check_runs(replace(mesh, services=services), tmp_path / "mesh.yaml", os.environ)
    lines = caught.value.lines
    assert len(lines) == 3
    assert "run.command of shop/web: 'no-such-program' is no program" in lines[0]
    assert "run.directory of shop/orders" in lines[1]
    assert "run.command of shop/payments: './start.sh' is no program" in lines[2]


def test_what_cannot_be_run_is_told_with_the_place_of_its_run(shop: Path) -> None:
    _edit(shop, "command: [python3, orders.py]", "command: [pythn3, orders.py]")
    (number,) = [number for number, line in enumerate(shop.read_text().splitlines(), 1) if "pythn3" in line]
    with pytest.raises(BadMeshError) as caught:
        check_runs(read_whole_mesh(shop), shop, os.environ)
    (line,) = caught.value.lines
    assert line.startswith(f"{shop}:{number}:")
    assert "run.command of shop/orders: 'pythn3' is no program" in line


def test_a_program_beside_the_app_is_found_in_the_app_s_folder(tmp_path: Path) -> None:
    mesh = example_mesh()
    script = tmp_path / "apps" / "start.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    run = Run(command=("./start.sh",), directory="apps")
    check_runs(replace(mesh, services=(_running(mesh.services[0], run),)), tmp_path / "mesh.yaml", os.environ)


def test_a_bad_mesh_makes_nothing(shop: Path) -> None:
    _edit(shop, "trustDomain: shop.example", "trustDomain: Shop Example")
    with pytest.raises(BadMeshError), prepared(shop, {**os.environ, "XDG_CONFIG_HOME": str(shop.parent / "config")}):
        pass
    assert sorted(path.name for path in shop.parent.iterdir()) == ["apps", "mesh.yaml", "policies"]


def test_a_passphrase_that_does_not_open_the_authority_is_told(shop: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("short")
    short.chmod(0o600)
    with pytest.raises(CannotStartError, match="too short"), prepared(shop, os.environ, passphrase_file=short):
        pass
