"""The shop is found and copied, and stands aside for whoever has its ports already."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import controlplane.demo.shop as shop_module
from controlplane.demo.shop import ShopMissingError, copy_shop, only_demo, replacements, shop_folder
from controlplane.mesh.document import read_mesh
from controlplane.up.preparing import read_whole_mesh
from controlplane.up.sockets import wanted_sockets


def test_the_shop_is_good_as_a_whole() -> None:
    assert {service.name for service in read_whole_mesh(shop_folder() / "mesh.yaml").services} == {
        "web",
        "orders",
        "payments",
        "ledger",
    }


def test_a_missing_shop_is_told_with_the_places_that_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop_module, "_PLACES", (Path("/nowhere/one"), Path("/nowhere/two")))
    with pytest.raises(ShopMissingError, match="/nowhere/one nor in /nowhere/two"):
        shop_folder()


def test_a_port_that_is_taken_is_replaced_by_a_free_one_and_others_stay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as held:
        free = held.getsockname()[1]
        held.close()
        port = taken.getsockname()[1]
        replaced = replacements([port, free])
    assert replaced.keys() == {port}
    assert replaced[port] not in (port, free)


def test_a_second_demo_leaves_all_ports_to_the_first(tmp_path: Path) -> None:
    with only_demo() as first, only_demo() as second:
        assert not second
    with only_demo() as again:
        assert again is first
    shop_ports = {one.address.port for one in wanted_sockets(read_whole_mesh(shop_folder() / "mesh.yaml"))}
    replaced = copy_shop(tmp_path / "shop", own_ports=False)
    assert replaced.keys() == shop_ports
    assert not set(replaced.values()) & shop_ports


def test_every_socket_of_the_shop_can_be_replaced_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop_module, "replacements", lambda wanted, **_: {port: port + 20_000 for port in wanted})
    copy_shop(tmp_path / "shop", own_ports=True)
    document, problems = read_mesh((tmp_path / "shop" / "mesh.yaml").read_bytes(), "mesh.yaml")
    assert document is not None, problems
    moved = {one.address.port for one in wanted_sockets(document.mesh)}
    document, _ = read_mesh((shop_folder() / "mesh.yaml").read_bytes(), "mesh.yaml")
    assert document is not None
    assert moved == {one.address.port + 20_000 for one in wanted_sockets(document.mesh)}
    for service in document.mesh.services:
        [instance] = service.instances
        assert instance.run is not None
        app = dict(instance.run.environment)
        assert int(app["PORT"]) == instance.apps[0].port
