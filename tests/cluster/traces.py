"""What a test cluster leaves on a machine, found by its name alone; and its removal, whoever started it.

`down` of another process, of a run that was killed and of a start that failed are the same code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.cluster.machine import MARK, environment, hierarchies, until

PREFIX: Final = "rf-kube-"
"""How the names of all clusters begin: of their folders, network namespaces and groups."""


def folder_of(name: str) -> Path:
    return Path(tempfile.gettempdir()) / name


def names() -> list[str]:
    """The clusters whose folders are here."""
    return sorted(path.name for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if path.is_dir())


def processes(name: str) -> list[int]:
    """What carries the mark, and what runs in a group of the cluster's (pods see no variable of ours)."""
    needle = f"{MARK}={name}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = needle in (process / "environ").read_bytes().split(b"\0")
            if marked or f"/{name}-" in (process / "cgroup").read_text():
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


def networks(name: str) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True, env=environment(name))
    return [line.split()[0] for line in listed.stdout.splitlines() if line.startswith(f"{name}-")]


def groups(name: str) -> list[Path]:
    return [path for hierarchy in hierarchies() for path in hierarchy.glob(f"{name}-*")]


def mounts(name: str) -> list[str]:
    """Mount points under its folder, deepest first."""
    below = f"{folder_of(name)}/"
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(below)), reverse=True)


def traces(name: str) -> list[str]:
    """Everything of a cluster that is still here, in words; empty when there is nothing."""
    found = [f"process {pid}" for pid in processes(name)]
    found += [f"network namespace {network}" for network in networks(name)]
    found += [f"group {group}" for group in groups(name)]
    found += [f"mount {point}" for point in mounts(name)]
    if folder_of(name).exists():
        found.append(f"folder {folder_of(name)}")
    return found


def remove(name: str) -> None:
    """End and remove all of a cluster; ClusterError when something stays."""
    assert name.startswith(PREFIX), name
    until(lambda: not _kill(name), f"the end of all processes of {name}")
    for point in mounts(name):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False, env=environment(name))
    for network in networks(name):
        subprocess.run(["ip", "netns", "del", network], capture_output=True, check=False, env=environment(name))
    until(lambda: not _remove_groups(name), f"the end of all groups of {name}")
    if folder_of(name).exists():
        shutil.rmtree(folder_of(name))


def _kill(name: str) -> list[int]:
    """Kill what runs; the first processes of machines take all of theirs along."""
    found = processes(name)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _remove_groups(name: str) -> list[Path]:
    for top in groups(name):
        for path in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()
    return groups(name)
