"""A cluster leaves nothing behind: neither when it ends, nor when it fails to start, nor when its owner is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import Settings, new_name, running
from tests.cluster.machine import ClusterError, hierarchies, until
from tests.cluster.traces import PREFIX, folder_of, processes, traces
from tests.cluster.workloads import sleeper


def _machine_wide() -> set[str]:
    """What a cluster could leave under a name that is not its own."""
    seen = {f"link {path}" for path in Path("/sys/class/net").iterdir()}
    seen |= {f"mount {line.split()[1]}" for line in Path("/proc/self/mounts").read_text().splitlines()}
    seen |= {f"group {path}" for hierarchy in hierarchies() for path in hierarchy.iterdir() if path.is_dir()}
    for folder in (
        "/run/netns",
        "/var/lib/kubelet",
        "/var/lib/cni",
        "/var/log/pods",
        "/var/log/containers",
        "/etc/cni",
    ):
        seen |= {str(path) for path in Path(folder).glob("**/*")}
    return seen - {found for found in seen if PREFIX in found}


def test_nothing_is_left_of_a_cluster_with_running_pods(programs: Path) -> None:
    before = _machine_wide()
    settings = Settings(programs=programs, nodes=2)
    with running(settings) as cluster:
        for node in ("node1", "node2"):
            cluster.apply(sleeper(f"on-{node}", nodeName=node))
        cluster.kubectl("wait", "--for=condition=Ready", "pod/on-node1", "pod/on-node2", "--timeout=60s")
        assert len(processes(settings.name)) > 10
    assert traces(settings.name) == []
    assert _machine_wide() <= before


def test_nothing_is_left_of_a_start_that_fails_in_the_middle(programs: Path, tmp_path: Path) -> None:
    half = tmp_path / "programs"
    half.mkdir()
    for program in programs.iterdir():
        (half / program.name).symlink_to(program)
    (half / "kubelet").unlink()
    (half / "kubelet").write_text("#!/bin/sh\necho no kubelet today >&2\nexit 3\n")
    (half / "kubelet").chmod(0o755)
    settings = Settings(programs=half)
    with pytest.raises(ClusterError, match=r"kubelet ended with status 3.*no kubelet today"), running(settings):
        raise AssertionError("it started")
    assert traces(settings.name) == []


def test_a_cluster_whose_owner_was_killed_is_removed_by_name(programs: Path) -> None:
    name = new_name()
    argv = [sys.executable, "-m", "tests.cluster", "up", "--no-image", "--name", name.removeprefix(PREFIX)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as owner:
        try:
            until(lambda: (folder_of(name) / "node1" / "log" / "kube-apiserver.log").exists(), "the first programs")
        finally:
            owner.send_signal(signal.SIGKILL)
    assert traces(name) != []
    down = [sys.executable, "-m", "tests.cluster", "down", "--name", name.removeprefix(PREFIX)]
    subprocess.run(down, check=True)
    assert traces(name) == []


def test_two_clusters_run_beside_each_other(programs: Path) -> None:
    one, two = Settings(programs=programs), Settings(programs=programs)
    with running(one) as first:
        with running(two) as second:
            first.kubectl("create", "namespace", "only-here")
            assert second.try_kubectl("get", "namespace", "only-here").returncode != 0
        assert traces(two.name) == []
        assert first.kubectl("get", "namespace", "only-here", "--output=name") == "namespace/only-here\n"
