"""Ways around the rules that must be closed, and how little the command needs to put them in place."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import pytest

from tests.netns.conftest import APP_UID, SIDECAR_UID, Network, new_space
from tests.netns.spaces import HERE, cable

OWN = ("--sidecar-uid", str(SIDECAR_UID))
RINGFENCE = (sys.executable, "-m", "ringfence")


def resets_sent(network: Network) -> int:
    """How many connections the pod's kernel has turned away."""
    names, values = (line.split() for line in network.pod.run("cat", "/proc/net/snmp").splitlines() if "Tcp: " in line)
    return int(values[names.index("OutRsts")])


def test_who_begins_with_a_lone_ack_finds_no_way_around_the_sidecar(fresh_network: Network) -> None:
    fresh_network.install(*OWN)
    source, destination = fresh_network.outside_at.ipv4, fresh_network.pod_at.ipv4
    before = resets_sent(fresh_network)

    forged = (str(HERE / "forging.py"), source, "40001", destination, "8080")
    fresh_network.outside.run(sys.executable, "-I", *forged)

    assert resets_sent(fresh_network) == before + 1, "the forged segment did not arrive"
    assert fresh_network.outside.dial(destination, 8080, from_port=40001)["port"] == 15006


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_a_connection_that_was_open_before_stays_open(fresh_network: Network, version: str) -> None:
    inbound = fresh_network.outside.hold(fresh_network.pod_at[version], 8080)
    outbound = fresh_network.pod.hold(fresh_network.outside_at[version], 80, uid=APP_UID)
    assert (inbound.landed["port"], outbound.landed["port"]) == (8080, 80)

    fresh_network.install(*OWN)

    assert (inbound.exchange(), outbound.exchange()) == ("alive", "alive")
    assert fresh_network.outside.dial(fresh_network.pod_at[version], 8080)["port"] == 15006


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_while_no_sidecar_listens_connections_are_refused(network: Network, version: str) -> None:
    network.install(*OWN, "--inbound-listener", "15996", "--outbound-listener", "15991")

    assert network.pod.dial(network.outside_at[version], 80, uid=APP_UID)["error"] == "ConnectionRefusedError"
    assert network.outside.dial(network.pod_at[version], 8080)["error"] == "ConnectionRefusedError"


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_what_a_host_only_routes_passes_through(fresh_network: Network, version: str) -> None:
    with ExitStack() as stack:
        inner = new_space(stack, "inner")
        inner_at, pod_at = cable(inner, fresh_network.pod, 3, device="eth1")
        flag = {"ipv4": "-4", "ipv6": "-6"}[version]
        inner.run("ip", flag, "route", "add", "default", "via", pod_at[version])
        fresh_network.outside.run("ip", flag, "route", "add", "default", "via", fresh_network.pod_at[version])
        fresh_network.pod.run("sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        inner.land(8080)

        fresh_network.install(*OWN)

        assert fresh_network.outside.dial(inner_at[version], 8080) == {"space": "inner", "port": 8080, "original": None}
        assert fresh_network.outside.dial(pod_at[version], 8080)["port"] == 15006


def test_an_init_container_needs_two_capabilities_and_no_more(network: Network) -> None:
    few = ("setpriv", "--bounding-set", "-all,+net_admin,+net_raw", "--inh-caps", "-all", "--no-new-privs")
    words = ("install", "--backend", network.backend, *OWN)
    done = network.pod.try_run(*few, *RINGFENCE, "redirect", *words)

    assert done.returncode == 0, done.stderr
    assert network.pod.dial(network.outside_at.ipv4, 80, uid=APP_UID)["port"] == 15001


@pytest.mark.parametrize("verb", ["install", "remove", "show"])
def test_without_the_capability_the_command_says_so_in_one_line(network: Network, verb: str) -> None:
    words = (verb, "--backend", network.backend, *(OWN if verb == "install" else ()))
    done = network.pod.try_run("setpriv", "--bounding-set", "-net_admin", *RINGFENCE, "redirect", *words)

    assert done.returncode == 1
    assert done.stderr == (
        "Error: this process may not change the packet filter "
        "(run it as root, or give it CAP_NET_ADMIN and, for iptables-legacy, CAP_NET_RAW)\n"
    )
