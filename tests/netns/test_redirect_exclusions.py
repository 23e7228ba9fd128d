"""What is not redirected: the sidecar's own connections, and what was excluded; and the neighbours, which are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.netns.conftest import APP_UID, SIDECAR_UID, Network

VERSIONS = ("ipv4", "ipv6")
MARK = 0x539


def goes_out(network: Network, version: str, port: int = 80, **wish: Any) -> bool:
    """Whether a dial to the outside gets there; else it lands at the outbound listener."""
    landed = network.pod.dial(network.outside_at[version], port, **{"uid": APP_UID, **wish})
    assert landed["port"] in (port, 15001)
    return bool(landed["space"] == "outside")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sidecar_is_told_by_its_user(network: Network, version: str) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))

    assert goes_out(network, version, uid=SIDECAR_UID)
    assert not goes_out(network, version)
    assert not goes_out(network, version, uid=0)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sidecar_is_told_by_its_mark(network: Network, version: str) -> None:
    network.install("--sidecar-mark", f"{MARK:#x}/0xfff")

    assert goes_out(network, version, mark=MARK)
    assert goes_out(network, version, mark=0x1000 | MARK)
    assert not goes_out(network, version, mark=MARK + 1)
    assert not goes_out(network, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_of_several_signs_of_the_sidecar_all_must_hold(network: Network, version: str) -> None:
    network.install(
        *("--sidecar-uid", str(SIDECAR_UID), "--sidecar-gid", str(SIDECAR_UID), "--sidecar-mark", f"{MARK:#x}")
    )

    own = {"uid": SIDECAR_UID, "gid": SIDECAR_UID, "mark": MARK}
    assert goes_out(network, version, **own)
    for sign in ("uid", "gid", "mark"):
        assert not goes_out(network, version, **{**own, sign: APP_UID})


@pytest.mark.parametrize("version", VERSIONS)
def test_outbound_exclusions_hold_for_what_they_name_and_no_more(network: Network, version: str) -> None:
    network.install(
        *("--sidecar-uid", str(SIDECAR_UID), "--exclude-outbound-port", "443,8443"),
        *("--exclude-uid", "2001", "--exclude-gid", "2002", "--exclude-mark", "0x10/0xf0"),
    )

    assert goes_out(network, version, port=443)
    assert goes_out(network, version, uid=2001)
    assert goes_out(network, version, gid=2002)
    assert goes_out(network, version, mark=0x1F)
    assert not goes_out(network, version)
    assert not goes_out(network, version, uid=2002)
    assert not goes_out(network, version, mark=0x20)


@pytest.mark.parametrize("version", VERSIONS)
def test_excluded_networks_hold_for_what_they_name_and_no_more(fresh_network: Network, version: str) -> None:
    more = {"ipv4": "10.77.2.9", "ipv6": "fd77:2::9"}[version]
    fresh_network.outside.run("ip", "address", "add", more, "dev", "lo")
    fresh_network.pod.run("ip", "route", "add", more, "via", fresh_network.outside_at[version])
    fresh_network.install("--sidecar-uid", str(SIDECAR_UID), "--exclude-cidr", "10.77.2.0/24,10.77.2.0/28,fd77:2::/64")

    assert fresh_network.pod.dial(more, 80, uid=APP_UID)["space"] == "outside"
    assert not goes_out(fresh_network, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_inbound_ports_may_be_excluded_or_chosen(network: Network, version: str) -> None:
    pod = network.pod_at[version]

    network.install("--sidecar-uid", str(SIDECAR_UID), "--exclude-inbound-port", "8080")
    assert network.outside.dial(pod, 8080)["port"] == 8080
    assert network.outside.dial(pod, 8081)["port"] == 15006

    network.install("--sidecar-uid", str(SIDECAR_UID), "--only-inbound-port", "8081")
    assert network.outside.dial(pod, 8080)["port"] == 8080
    assert network.outside.dial(pod, 8081)["port"] == 15006
