"""What a redirect does not hold, so that nobody believes that it does: docs/threat-model.md says the same."""

from __future__ import annotations

import sys

import pytest

from tests.netns.conftest import APP_UID, SIDECAR_UID, Network

_ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
    echo.bind((sys.argv[1], 443))
    print("ready", flush=True)
    data, whence = echo.recvfrom(64)
    echo.sendto(b"outside:" + data, whence)
"""
_ASK = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
    ask.settimeout(30)
    ask.connect((sys.argv[1], 443))
    ask.send(b"quic")
    print(ask.recv(64).decode())
"""


def test_udp_and_so_quic_passes_by(network: Network) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))
    echo = network.outside.start(sys.executable, "-c", _ECHO, network.outside_at.ipv4)
    try:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        said = network.pod.run(sys.executable, "-c", _ASK, network.outside_at.ipv4, str(APP_UID))
        assert said == "outside:quic\n"
    finally:
        echo.kill()
        echo.communicate()
    assert network.pod.dial(network.outside_at.ipv4, 443, uid=APP_UID)["port"] == 15001, (
        "TCP to the same place does not"
    )


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_who_becomes_the_sidecars_user_passes_by(network: Network, version: str) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))
    assert network.pod.dial(network.outside_at[version], 80, uid=SIDECAR_UID)["space"] == "outside"
    assert network.pod.dial(network.outside_at[version], 80, uid=0)["port"] == 15001, "root alone does not"


def test_who_may_change_the_rules_passes_by(network: Network) -> None:
    network.install("--sidecar-uid", str(SIDECAR_UID))
    network.flush()
    assert network.pod.dial(network.outside_at.ipv4, 80, uid=APP_UID)["space"] == "outside"
