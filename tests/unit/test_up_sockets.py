"""Which sockets a mesh wants, and what is told of one that cannot be had."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.up.sockets import WantedSocket, free_addresses, listening_process, unavailable, wanted_sockets
from ringfence.kit.addresses import SocketAddress
from tests.up_meshes import example_mesh


def _wanted(port: int, host: str = "127.0.0.1") -> WantedSocket:
    return WantedSocket(address=SocketAddress(host, port), setting="mesh", owner="service shop/web")


def test_every_listener_of_the_mesh_is_wanted_once() -> None:
    wanted = [(str(one.address), one.setting) for one in wanted_sockets(example_mesh())]
    assert len(wanted) == len(set(wanted))
    assert ("127.0.0.1:7401", "controlPlane.join") in wanted
    assert ("127.0.0.1:15101", "mesh") in wanted
    assert ("127.0.0.1:9401", "signals") in wanted
    assert ("127.0.0.1:9112", "listen of its upstream shop/orders:8080") in wanted
    assert ("127.0.0.1:9001", "app of its port") in wanted


def test_a_free_port_is_available_also_with_the_last_run_s_connections_in_time_wait(
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    assert unavailable([_wanted(port)]) == []


def test_a_taken_port_names_its_holder_and_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        [line] = unavailable([_wanted(port)])
    assert line.startswith(f"127.0.0.1:{port} is already in use by process {os.getpid()} (")
    assert "wanted by setting 'mesh' of service shop/web" in line


def test_an_address_of_another_machine_is_told_as_such() -> None:
    [line] = unavailable([_wanted(15008, "203.0.113.9")])
    assert "is not an address of this machine" in line


def test_all_that_are_taken_are_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        lines = unavailable([_wanted(one.getsockname()[1]), _wanted(other.getsockname()[1])])
    assert len(lines) == 2


def test_a_port_that_nobody_listens_on_has_no_holder(free_port: Callable[[], int]) -> None:
    assert listening_process(free_port()) is None


def test_free_addresses_are_all_different_and_free() -> None:
    found = free_addresses(200)
    assert len({address.port for address in found}) == 200
    # The system gives these to outgoing connections, one of which could be there when a child starts again.
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(address.loopback and address.port < lowest for address in found)


def test_an_address_that_is_drawn_twice_or_taken_is_given_once_or_not_at_all() -> None:
    [taken, *free] = [address.port for address in free_addresses(3)]
    drawn = iter([taken, free[0], free[0], taken, 20_001, free[1]])
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        found = free_addresses(2, but={20_001}, draw=lambda _low, _high: next(drawn))
    assert [address.port for address in found] == free


def test_where_no_port_is_free_it_says_so() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with pytest.raises(OSError, match="no 1 free ports"):
            free_addresses(1, draw=lambda _low, _high: port)
