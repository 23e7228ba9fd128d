"""The product's image: the same from the same, small in what it may do, and fit for every role."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from tests.cluster import product_image
from tests.cluster.cluster import Cluster
from tests.cluster.workloads import ringfence_pod


def test_machines_that_have_nothing_build_the_same_image(image: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.tar"
    product_image.kept().buildah("push", product_image.BASE, f"docker-archive:{base}:{product_image.BASE}")

    def built(name: str) -> str:
        fresh = product_image.Store(folder=tmp_path / name)
        fresh.buildah("pull", f"docker-archive:{base}")
        return product_image.build_image(fresh, product_image.REPOSITORY)

    one = built("one")
    if one != image.stem:  # the distribution has newer packages than those of the layers that are kept
        assert one == built("other")


def test_an_image_says_who_runs_it_and_names_no_time_or_place(image: Path) -> None:
    config = _config(image)
    assert config["config"]["User"] == "15100:15100"
    assert config["config"]["Entrypoint"] == ["ringfence"]
    assert config["created"].startswith("2020-01-01")
    assert "index-url" not in json.dumps(config)


def test_a_restricted_pod_runs_the_command_on_a_root_that_it_cannot_write(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    said = _run_to_the_end(cluster, namespace, ringfence_pod("says-what-it-can", "--help"))
    assert "sidecar" in said
    assert "controlplane" in said


def test_what_a_redirect_needs_is_there_and_what_only_a_build_needs_is_not(cluster: Cluster, namespace: str) -> None:
    script = "iptables --version && nft --version && ip -V && id -u && ! ls /opt/ringfence/packages | grep -i hatch"
    pod = ringfence_pod("looks-around")
    pod["spec"]["containers"][0]["command"] = ["sh", "-euc", script]
    assert _run_to_the_end(cluster, namespace, pod).splitlines()[-1] == "15100"


def test_no_compiled_python_of_the_image_is_out_of_date(cluster: Cluster, namespace: str) -> None:
    """Else each start would compile all anew, and could keep nothing of it."""
    script = """
import importlib.util, pathlib, sys, sysconfig
wrong = []
for root in ("/opt/ringfence", sysconfig.get_path("stdlib")):
    for path in pathlib.Path(root).rglob("*.py"):
        kept = pathlib.Path(importlib.util.cache_from_source(str(path)))
        if kept.exists() and kept.read_bytes()[4:8] != b"\\x01\\0\\0\\0":
            wrong.append(str(path))
assert pathlib.Path(importlib.util.cache_from_source("/opt/ringfence/code/ringfence/cli.py")).exists()
sys.exit(f"valid by time: {wrong}" if wrong else 0)
"""
    pod = ringfence_pod("compares")
    pod["spec"]["containers"][0]["command"] = ["python3", "-c", script]
    _run_to_the_end(cluster, namespace, pod)


def _run_to_the_end(cluster: Cluster, namespace: str, pod: dict[str, Any]) -> str:
    name = pod["metadata"]["name"]
    cluster.apply({**pod, "metadata": {"name": name, "namespace": namespace}})
    where = ("--namespace", namespace)
    ended = cluster.try_kubectl(
        "wait", *where, f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"
    )
    said = cluster.try_kubectl("logs", *where, name).stdout
    assert ended.returncode == 0, cluster.kubectl("describe", *where, "pod", name) + said
    return said


def _config(image: Path) -> Any:
    with tarfile.open(image) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        file = archive.extractfile(json.load(manifest)[0]["Config"])
        assert file is not None
        return json.load(file)
