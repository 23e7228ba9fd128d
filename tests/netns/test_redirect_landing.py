"""Where connections land once the rules are in place: with the sidecar, which learns where they meant to go."""

from __future__ import annotations

import pytest

from tests.netns.conftest import APP_UID, SIDECAR_UID, Network

VERSIONS = ("ipv4", "ipv6")


@pytest.mark.parametrize("version", VERSIONS)
def test_outbound_lands_at_the_outbound_listener_and_tells_where_it_meant_to_go(network: Network, version: str) -> None:
    outside = network.outside_at[version]
    assert network.pod.dial(outside, 80, uid=APP_UID)["space"] == "outside"

    network.install("--sidecar-uid", str(SIDECAR_UID))

    landed = network.pod.dial(outside, 80, uid=APP_UID)
    assert landed == {"space": "pod", "port": 15001, "original": [outside, 80]}


@pytest.mark.parametrize("version", VERSIONS)
def test_inbound_lands_at_the_inbound_listener_and_tells_where_it_meant_to_go(network: Network, version: str) -> None:
    pod = network.pod_at[version]
    assert network.outside.dial(pod, 8080)["port"] == 8080

    network.install("--sidecar-uid", str(SIDECAR_UID))

    assert network.outside.dial(pod, 8080) == {"space": "pod", "port": 15006, "original": [pod, 8080]}
    # Nobody listens there: still the sidecar's to refuse.
    assert network.outside.dial(pod, 9999) == {"space": "pod", "port": 15006, "original": [pod, 9999]}


def test_a_second_address_of_the_pod_is_told_apart(fresh_network: Network) -> None:
    fresh_network.pod.run("ip", "address", "add", "10.77.1.9/24", "dev", "eth0")
    fresh_network.install("--sidecar-uid", str(SIDECAR_UID))

    assert fresh_network.outside.dial("10.77.1.9", 8080)["original"] == ["10.77.1.9", 8080]


def test_a_link_local_address_is_no_way_around(network: Network) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))
    address = network.pod_at.link_local

    landed = network.outside.dial(f"{address}%eth0", 8080)

    assert landed["port"] == 15006
    host, port = landed["original"]
    assert (host.partition("%")[0], port) == (address, 8080)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_listeners_own_ports_are_no_destinations(network: Network, version: str) -> None:
    pod = network.pod_at[version]
    network.install("--sidecar-uid", str(SIDECAR_UID))

    assert network.outside.dial(pod, 15006) == {"space": "pod", "port": 15006, "original": None}
    assert network.outside.dial(pod, 15001) == {"space": "pod", "port": 15006, "original": [pod, 15001]}
    loopback = {"ipv4": "127.0.0.1", "ipv6": "::1"}[version]
    assert network.pod.dial(loopback, 15001, uid=APP_UID) == {"space": "pod", "port": 15001, "original": None}


@pytest.mark.parametrize("version", VERSIONS)
def test_sidecars_and_signals_meet_without_a_detour(network: Network, version: str) -> None:
    pod = network.pod_at[version]
    network.install("--sidecar-uid", str(SIDECAR_UID), "--signals-port", "9402")

    for port in (15008, 9402):
        assert network.outside.dial(pod, port) == {"space": "pod", "port": port, "original": None}
    # The neighbour: a port that nobody named.
    assert network.outside.dial(pod, 9403)["port"] == 15006


@pytest.mark.parametrize("version", VERSIONS)
def test_loopback_is_left_alone(network: Network, version: str) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))

    for host in ({"ipv4": "127.0.0.1", "ipv6": "::1"}[version], network.pod_at[version]):
        for uid in (APP_UID, SIDECAR_UID):
            assert network.pod.dial(host, 8080, uid=uid) == {"space": "pod", "port": 8080, "original": None}


def test_one_direction_may_be_left_alone(network: Network) -> None:
    network.install("--no-outbound")
    assert network.pod.dial(network.outside_at.ipv4, 80)["space"] == "outside"
    assert network.outside.dial(network.pod_at.ipv4, 8080)["port"] == 15006

    network.install("--no-inbound", "--sidecar-uid", str(SIDECAR_UID))
    assert network.pod.dial(network.outside_at.ipv4, 80)["port"] == 15001
    assert network.outside.dial(network.pod_at.ipv4, 8080)["port"] == 8080


def test_without_ipv6_only_ipv4_is_redirected(network: Network) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))
    network.install("--sidecar-uid", str(SIDECAR_UID), "--no-ipv6")

    assert network.pod.dial(network.outside_at.ipv4, 80)["port"] == 15001
    assert network.pod.dial(network.outside_at.ipv6, 80)["space"] == "outside"


def test_other_listeners_are_taken(fresh_network: Network) -> None:
    fresh_network.pod.land(16001, 16006)
    fresh_network.install(
        *("--sidecar-uid", str(SIDECAR_UID), "--mesh-port", "8080"),
        *("--inbound-listener", "16006", "--outbound-listener", "16001"),
    )

    assert fresh_network.pod.dial(fresh_network.outside_at.ipv4, 80)["port"] == 16001
    assert fresh_network.outside.dial(fresh_network.pod_at.ipv4, 15008)["port"] == 16006
    assert fresh_network.outside.dial(fresh_network.pod_at.ipv4, 8080)["port"] == 8080
