"""The CNI plugin at a real network of a pod: rules before any container, or no pod."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cni_calls import configuration, environment, plain, pod_list, result, served
from tests.golden_pods import pod
from tests.netns.conftest import APP_UID, Network
from tests.netns.spaces import environment as programs


def account(made: dict[str, Any]) -> tuple[int, int]:
    """User and group of its sidecar."""
    security = made["spec"]["initContainers"][0]["securityContext"]
    return security["runAsUser"], security["runAsGroup"]


def call(network: Network, command: str, given: bytes, **environ: str) -> tuple[int, Any]:
    """As the runtime calls it: from the node's network, with the way to the pod's."""
    netns = f"/run/netns/{network.pod.name}"
    done = subprocess.run(
        [sys.executable, "-m", "ringfence", "k8s", "cni"],
        input=given,
        capture_output=True,
        env=programs() | environment(command, CNI_NETNS=netns, **environ),
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def addresses(network: Network) -> tuple[str, ...]:
    return f"{network.pod_at.ipv4}/24", f"{network.pod_at.ipv6}/64"


def test_a_pod_is_redirected_before_it_starts_and_its_rules_are_found_again(
    fresh_network: Network, tmp_path: Path
) -> None:
    network = fresh_network
    made = served(pod())
    user, group = account(made)
    given = configuration(*addresses(network), pods=pod_list(tmp_path, made))
    assert call(network, "ADD", given) == (0, result(*addresses(network)))
    for version in ("ipv4", "ipv6"):
        assert network.pod.dial(network.outside_at[version], 80, uid=APP_UID)["port"] == 15001
        assert network.pod.dial(network.outside_at[version], 80, uid=user, gid=group)["port"] == 80
        # An image that guessed one of both, or was made with those of another pod's sidecar, is led like any other.
        for uid, gid in ((user, group + 1), (user + 1, group), (15100, 15100)):
            assert network.pod.dial(network.outside_at[version], 80, uid=uid, gid=gid)["port"] == 15001
        assert network.outside.dial(network.pod_at[version], 8080)["port"] == 15006
    assert call(network, "CHECK", given) == (0, None)
    assert call(network, "ADD", given)[0] == 0, "a second time is no harm"

    network.flush()
    status, document = call(network, "CHECK", given)
    assert status == 1 and "has lost its redirect" in document["msg"]


def test_a_pod_that_is_not_in_the_mesh_gets_no_rules(fresh_network: Network, tmp_path: Path) -> None:
    network = fresh_network
    before = network.rules()
    given = configuration(*addresses(network), pods=pod_list(tmp_path, plain()))
    assert call(network, "ADD", given) == (0, result(*addresses(network)))
    assert network.rules() == before


def test_a_network_that_is_another_pods_gets_no_rules_and_the_pod_does_not_start(
    fresh_network: Network, tmp_path: Path
) -> None:
    network = fresh_network
    before = network.rules()
    given = configuration("192.0.2.7/24", pods=pod_list(tmp_path, served(pod())))
    status, document = call(network, "ADD", given)
    assert status == 1 and document["code"] == 101 and "is not the pod's" in document["msg"]
    assert network.rules() == before


def test_a_pod_whose_rules_are_refused_does_not_start(fresh_network: Network, tmp_path: Path) -> None:
    network = fresh_network
    made = served(pod())
    for one in made["spec"]["initContainers"]:
        one["securityContext"].update(runAsUser=2**32 - 1, runAsGroup=2**32 - 1)  # no user to the kernel
    given = configuration(*addresses(network), pods=pod_list(tmp_path, made))
    status, document = call(network, "ADD", given)
    assert status == 1 and document["code"] == 100 and "does not start" in document["msg"]


def test_the_network_is_found_by_the_descriptor_that_the_nodes_script_hands_over(
    fresh_network: Network, tmp_path: Path
) -> None:
    network = fresh_network
    descriptor = os.open(f"/run/netns/{network.pod.name}", os.O_RDONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ringfence", "k8s", "cni"],
            input=configuration(*addresses(network), pods=pod_list(tmp_path, served(pod()))),
            capture_output=True,
            env=programs() | environment(CNI_NETNS="/not/from/here", RINGFENCE_CNI_NETNS=f"/proc/self/fd/{descriptor}"),
            pass_fds=(descriptor,),
            check=False,
        )
    finally:
        os.close(descriptor)
    assert done.returncode == 0, done.stdout
    assert network.pod.dial(network.outside_at.ipv4, 80, uid=APP_UID)["port"] == 15001
