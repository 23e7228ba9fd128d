"""What a node of a test cluster runs in: a network, a mount and a process namespace, and a group of its own.

The first process of the process namespace holds all together: when it dies the kernel kills whatever runs in there,
pods included, and with the last process every mount is gone. So an end without a trace needs no co-operation.

A mount namespace of its own gives the programs that write to fixed places (kubelet's plugins, containerd's shims, CNI's
records) places that nobody else sees. `/sys` stays as it is: the kubelet looks for groups there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

MARK: Final = "RINGFENCE_TEST_CLUSTER"
"""The variable by which everything that a cluster starts is found; its value is the cluster's name."""

_COVERED: Final = ("/run", "/var/lib", "/var/log")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_DEADLINE_SECONDS: Final = 60.0
# A private copy of the tree of mounts, which the kubelet and containerd then share among themselves.
_FIRST: Final = """
mount --make-rshared /
for covered in {covered}; do mount -t tmpfs -o mode=755 tmpfs "$covered"; done
exec {pause}
"""


class ClusterError(Exception):
    """A test cluster cannot be made, or one of its programs ended."""


def environment(name: str, programs: Path | None = None) -> dict[str, str]:
    """What a program of a cluster is given; ``programs``: the folder that it looks into first (containerd's shim is
    found by the path, and Debian's would be another version's)."""
    first = [str(programs)] if programs is not None else []
    folders = [*first, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    return os.environ | {MARK: name, "PATH": os.pathsep.join(folders)}


def until(holds: Callable[[], object], what: str, seconds: float = _DEADLINE_SECONDS) -> None:
    """Wait until ``holds``; ClusterError naming ``what`` when it does not in time.

    What takes long to ask, such as by kubectl, is asked less often: the asking must not take the processor from that
    which is waited for.
    """
    deadline = time.monotonic() + seconds
    asked = time.monotonic()
    while not holds():
        now = time.monotonic()
        if now > deadline:
            raise ClusterError(f"{what} did not come about in {seconds:.0f} s")
        time.sleep(max(0.1, min(2 * (now - asked), 2)))
        asked = time.monotonic()


def children(pid: int) -> list[int]:
    """Its children's numbers, as they are known outside of any process namespace."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Daemon:
    """A program that runs in a machine; ``log`` has what it wrote."""

    def __init__(self, name: str, argv: list[str], popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self._popen = popen

    def check(self) -> bool:
        """Whether it runs; ClusterError with the end of its log when it ended by itself."""
        if self._popen.poll() is not None:
            told = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
            raise ClusterError(f"{self.name} ended with status {self._popen.returncode}; {self.log} ends: {told}")
        return True

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        for pid in children(self._popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self._popen.wait(_DEADLINE_SECONDS)


class Machine:
    """Namespaces and a group, and the daemons in them."""

    def __init__(self, cluster: str, name: str, folder: Path, programs: Path) -> None:
        self.cluster = cluster
        self.name = name
        self.folder = folder
        self.network = f"{cluster}-{name}"
        self.group = f"{cluster}-{name}"
        self.daemons: dict[str, Daemon] = {}
        self._programs = programs
        self._holder: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def first(self) -> int:
        """The process that holds the machine together, for `nsenter --target`."""
        assert self._holder is not None
        found = children(self._holder.pid)
        if not found:
            raise ClusterError(f"machine {self.name} has ended")
        return found[0]

    def start(self) -> None:
        (self.folder / "log").mkdir(parents=True)
        self.ip("netns", "add", self.network)
        self.inside_ip("link", "set", "lo", "up")
        _make_group(self.group)
        script = _FIRST.format(covered=" ".join(_COVERED), pause=self._programs / "pause")
        apart = ["--mount", "--propagation=private", "--pid", "--mount-proc", "--uts", "--fork", "--kill-child=KILL"]
        argv = ["nsenter", f"--net=/run/netns/{self.network}", "unshare", *apart, "sh", "-euc", script]
        self._holder = self._popen(argv, self.folder / "log" / "machine.log")
        until(self._held, f"machine {self.name}")

    def _held(self) -> bool:
        assert self._holder is not None
        if self._holder.poll() is not None:
            told = (self.folder / "log" / "machine.log").read_text(errors="replace")
            raise ClusterError(f"no namespaces for machine {self.name}: {told}")
        with contextlib.suppress(OSError):
            return any(Path(f"/proc/{pid}/exe").readlink().name == "pause" for pid in children(self._holder.pid))
        return False

    def enter(self) -> list[str]:
        """The words before a command that is to run in here."""
        return ["nsenter", f"--target={self.first}", "--mount", "--net", "--pid", "--uts"]

    def daemon(self, name: str, *argv: str) -> Daemon:
        """Start a program; its state is its own affair."""
        log = self.folder / "log" / f"{name}.log"
        made = Daemon(name, list(argv), self._popen([*self.enter(), *argv], log), log)
        self.daemons[name] = made
        return made

    def again(self, name: str) -> Daemon:
        """Start once more what was stopped."""
        return self.daemon(name, *self.daemons[name].argv)

    def run(self, *argv: str) -> str:
        """Run a program to its end in here; what it printed."""
        return _run([*self.enter(), *argv], self.cluster)

    def ip(self, *words: str) -> None:
        _run(["ip", *words], self.cluster)

    def inside_ip(self, *words: str) -> None:
        self.ip("-n", self.network, *words)

    def _popen(self, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            started = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(self.cluster, self._programs),
                cwd=self.folder,
                start_new_session=True,
            )
        self._started.append(started)
        return started

    def bury(self) -> None:
        """Take note of the end of all that was started here, once it was killed."""
        for started in self._started:
            started.wait(_DEADLINE_SECONDS)


def _run(argv: list[str], cluster: str) -> str:
    ran = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=_DEADLINE_SECONDS, env=environment(cluster)
    )
    if ran.returncode != 0:
        raise ClusterError(f"{' '.join(argv)}: {ran.stderr.strip()}")
    return ran.stdout


def hierarchies() -> list[Path]:
    """The trees of groups: one a controller (version 1), or the only one (version 2)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _make_group(name: str) -> None:
    for hierarchy in hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        if (hierarchy / "cgroup.subtree_control").exists():
            for folder in (hierarchy, group):
                controllers = (folder / "cgroup.controllers").read_text().split()
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{word}" for word in controllers))
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (group / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())
