"""The redirect as an init container puts it in place, and how the sidecar knows that it is there."""

from __future__ import annotations

import sys

from sidecar.redirect.canary import CANARIES
from tests.netns.conftest import APP_UID, SIDECAR_UID, Network

RINGFENCE = (sys.executable, "-B", "-m", "ringfence")
# As the injected init container has it: root, two capabilities, nothing that could be written to.
FEW = ("setpriv", "--bounding-set", "-all,+net_admin,+net_raw", "--inh-caps", "-all", "--no-new-privs")
READ_ONLY = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --rbind -o ro / / && mount -o remount,bind,ro / && cd / && exec "$@"',
)
INSTALL = ("redirect", "install", "--sidecar-uid", str(SIDECAR_UID), "--sidecar-gid", str(SIDECAR_UID))


def give_route(network: Network) -> None:
    for version, via in (("-4", network.outside_at.ipv4), ("-6", network.outside_at.ipv6)):
        network.pod.run("ip", version, "route", "replace", "default", "via", via)


def test_a_read_only_root_and_two_capabilities_are_enough(network: Network) -> None:
    words = (*INSTALL, "--signals-port", "15020", "--backend", network.backend)
    probe = network.pod.try_run(*READ_ONLY, "sh", *FEW, "sh", "-c", "! touch /run/rf-probe && ! touch /tmp/rf-probe")
    assert probe.returncode == 0, "the root could be written to"

    done = network.pod.try_run(*READ_ONLY, "sh", *FEW, *RINGFENCE, *words)

    assert done.returncode == 0, done.stderr
    for version in ("ipv4", "ipv6"):
        assert network.pod.dial(network.outside_at[version], 80, uid=APP_UID)["port"] == 15001
        assert network.pod.dial(network.outside_at[version], 80, uid=SIDECAR_UID, gid=SIDECAR_UID)["port"] == 80
        assert network.outside.dial(network.pod_at[version], 8080)["port"] == 15006
        assert network.outside.dial(network.pod_at[version], 15008)["port"] == 15008


def test_a_canary_is_led_to_the_sidecar_whoever_dials_it(fresh_network: Network) -> None:
    network = fresh_network
    give_route(network)
    # So that it tells at once that it knows no way there.
    network.outside.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for canary in CANARIES:
        assert "error" in network.pod.dial(canary.address, canary.port, uid=SIDECAR_UID)

    network.install("--sidecar-uid", str(SIDECAR_UID), "--exclude-cidr", "192.0.2.0/24,2001:db8::/32")

    for canary in CANARIES:
        for uid in (SIDECAR_UID, APP_UID):
            landed = network.pod.dial(canary.address, canary.port, uid=uid)
            assert (landed["port"], landed["original"]) == (15001, [canary.address, canary.port])
        assert "error" in network.pod.dial(canary.address, canary.port + 1, uid=SIDECAR_UID)
