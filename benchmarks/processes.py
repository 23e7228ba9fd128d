"""Processes of one run: started under a stack that always ends them, and read through the kernel's own books.

CPU time is the process CPU clock (nanoseconds; all threads, those that ended too); memory is the resident set.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.works import BenchmarkError

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 10.0
_PORTS = range(20_000, 32_000)  # below those that the kernel hands to clients


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``command`` in ``folder`` with its output in ``<name>.log`` there; end it on leaving, by force if need be.

    The kernel ends it too should this process die without leaving.
    """
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    with (folder / f"{name}.log").open("wb") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                preexec_fn=die_with_parent,
            )
        except FileNotFoundError:
            raise BenchmarkError(f"{command[0]} is not installed") from None
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    ready: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path, seconds: float
) -> None:
    """Return once ``ready()``; BenchmarkError with the log's end when ``process`` dies or ``seconds`` pass first."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            why = "died" if process.poll() is not None else f"was not ready after {seconds:.0f} s"
            tail = log.read_text(errors="replace").strip()[-2000:]
            raise BenchmarkError(f"{what} {why}; its log ends:\n{tail}")
        time.sleep(0.05)


def listening(port: int) -> bool:
    """True when something accepts connections on loopback ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """``count`` different loopback ports that nobody listens on now, and none that the kernel may hand to a client."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise BenchmarkError(f"{count} free ports were not found on 127.0.0.1 (of {_PORTS[0]} to {_PORTS[-1]})")


def cpu_seconds(pid: int) -> float:
    """CPU time that process ``pid`` has used so far, user and system, all its threads."""
    try:
        # The clock id of a process's CPU clock, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as error:
        raise BenchmarkError(f"process {pid} is gone ({error.strerror})") from error


def kernel_seconds(pid: int) -> float:
    """The part of ``cpu_seconds`` that was spent in system calls, to a hundredth of a second."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise BenchmarkError(f"process {pid} is gone ({error.strerror})") from error
    return int(fields[12]) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """Resident set of process ``pid`` in MiB, shared pages counted in full."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise BenchmarkError(f"process {pid} is gone ({error.strerror})") from error
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"process {pid} has no resident set")
