"""What is run for each part of a mesh, with which arguments and environment."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from controlplane.up.children import (
    app_child,
    app_environment,
    app_name,
    control_plane_child,
    reachable,
    sidecar_child,
)
from controlplane.up.supervisor import Tier
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import Run
from tests.up_meshes import SHOP, example_launch

SIGNALS = SocketAddress("127.0.0.1", 9402)


def _flag(command: tuple[str, ...], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_control_plane_gets_its_files_by_name_and_no_secret() -> None:
    child = control_plane_child(example_launch())
    assert child.tier is Tier.CONTROL_PLANE
    assert child.launch.command[:5] == (sys.executable, "-P", "-m", "ringfence", "controlplane")
    assert _flag(child.launch.command, "--passphrase-file") == "/elsewhere/passphrase"
    assert _flag(child.launch.command, "--state") == "/state/controlplane"


def test_a_sidecar_is_told_who_it_is_and_whom_to_trust() -> None:
    launch = example_launch()
    orders = launch.mesh.service("shop/orders")
    assert orders is not None
    command = sidecar_child(launch, orders, orders.instances[0], SIGNALS, "ab" * 32).launch.command
    assert _flag(command, "--spiffe-id") == "spiffe://shop.example/ns/shop/sa/orders"
    assert _flag(command, "--root-fingerprint") == "ab" * 32
    assert _flag(command, "--signals") == "127.0.0.1:9402"
    assert _flag(command, "--access-log") == "all"
    assert _flag(command, "--join-token-file") == "/state/run/shop.orders.token"
    assert _flag(command, "--join") == "127.0.0.1:7401"
    assert _flag(command, "--control") == "127.0.0.1:7402"
    assert _flag(command, "--workers") == "1"
    assert "--instance" not in command


def test_an_instance_has_a_name_and_files_of_its_own() -> None:
    launch = example_launch()
    orders = launch.mesh.service("shop/orders")
    assert orders is not None
    instance = replace(orders.instances[0], name="a")
    child = sidecar_child(launch, orders, instance, SIGNALS, "ab" * 32)
    assert (child.name, app_name(orders, instance)) == ("shop/orders/a sidecar", "shop/orders/a app")
    assert _flag(child.launch.command, "--instance") == "a"
    assert _flag(child.launch.command, "--state") == "/state/sidecars/shop.orders.a"
    assert _flag(child.launch.command, "--join-token-file") == "/state/run/shop.orders.a.token"
    assert _flag(child.launch.command, "--admin-socket") == "/state/sidecars/shop.orders.a/admin.sock"


def test_an_app_runs_in_its_folder_beside_the_mesh_file_with_its_own_variables() -> None:
    launch = example_launch(PATH="/usr/bin")
    orders = launch.mesh.service("shop/orders")
    assert orders is not None
    [instance] = orders.instances
    assert instance.run is not None
    child = app_child(launch, orders, instance, instance.run)
    assert child.tier is Tier.APP
    assert child.launch.directory == SHOP / "apps"
    assert child.launch.environment["PORT"] == "9002"


def test_the_interpreter_s_own_folder_ends_the_path_and_does_not_begin_it() -> None:
    environment = app_environment({"PATH": "/usr/bin"}, Run(command=("python3",)))
    assert environment["PATH"] == f"/usr/bin:{Path(sys.executable).parent}"
    assert app_environment({}, Run(command=("python3",)))["PATH"] == str(Path(sys.executable).parent)


def test_settings_of_ours_reach_neither_apps_nor_sidecars_and_an_app_s_own_win() -> None:
    ours = {"RINGFENCE_CA_PASSPHRASE_FILE": "/p", "RINGFENCE_SIDECAR_STATE": "/s", "HOME": "/root"}
    run = Run(command=("app",), environment=(("HOME", "/app"), ("PATH", "/bin")))
    assert app_environment(ours, run) == {"HOME": "/app", "PATH": "/bin", "PYTHONUNBUFFERED": "1"}
    assert control_plane_child(example_launch(**ours)).launch.environment == {"HOME": "/root"}


def test_a_listener_on_all_addresses_is_reached_on_loopback() -> None:
    assert str(reachable(SocketAddress("0.0.0.0", 7401))) == "127.0.0.1:7401"
    assert str(reachable(SocketAddress("::", 7401))) == "[::1]:7401"
    assert str(reachable(SocketAddress("10.1.2.3", 7401))) == "10.1.2.3:7401"
