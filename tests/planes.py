"""A control plane as a process, over a folder of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ca
from controlplane.operate.admin_client import get_document
from ringfence.spiffe import TrustDomain
from tests.mesh_files import MeshFolder

DOMAIN = TrustDomain("shop.example")
PASSPHRASE = b"correct horse battery staple"
WAIT_SECONDS = 30.0
RINGFENCE = (sys.executable, "-m", "ringfence")


def new_authority(folder: Path) -> Path:
    """The data folder of a CA that nobody has opened yet."""
    data = folder / "ca"
    ca.init_authority(data, DOMAIN, PASSPHRASE)
    return data


def until(condition: Callable[[], Any]) -> Any:
    """What ``condition`` answers once that is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


class Plane:
    """A folder with a mesh, a CA and a state folder, and the process over them."""

    def __init__(self, folder: Path, authority: Path) -> None:
        """``authority``: the data folder of a CA of shop.example, to be copied."""
        self.folder = folder
        self._authority = authority
        self.files = MeshFolder(folder)
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.passphrase_file = folder / "passphrase"
        self.passphrase_file.write_bytes(PASSPHRASE)
        self.passphrase_file.chmod(0o600)
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[dict[str, Any]] = []

    @property
    def admin_socket(self) -> Path:
        return self.state / "run" / "admin.sock"

    def init_authority(self) -> None:
        shutil.copytree(self._authority, self.state / "ca")

    def command(self, *flags: str, free: bool = True) -> list[str]:
        anywhere = ("--join-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--signals", "127.0.0.1:0")
        return [
            *RINGFENCE,
            "controlplane",
            *("--mesh", "mesh.yaml", "--state", "state", "--passphrase-file", "passphrase"),
            *(anywhere if free else ()),
            *flags,
        ]

    def start(self, *flags: str, descriptors: int | None = None) -> dict[str, Any]:
        """Run it, with so many descriptors at most; the log line by which it says that it is ready."""
        log = (self.folder / "log").open("w+")
        command = self.command(*flags)
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(command, cwd=self.folder, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        return until(lambda: self.logged("control plane ready"))[-1]  # type: ignore[no-any-return]

    def logged(self, message: str) -> list[dict[str, Any]]:
        assert self.process is not None
        text = (self.folder / "log").read_text()
        assert self.process.poll() in (None, 0), text
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [line for line in lines if line["msg"] == message]

    def refuse(self, *flags: str, free: bool = True) -> list[str]:
        """Run it where it cannot start: the lines that it says, after exit status 2."""
        run = subprocess.run(
            self.command(*flags, free=free),
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert (run.returncode, run.stdout) == (2, ""), run.stderr
        return run.stderr.splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_SECONDS)

    def status(self) -> dict[str, Any]:
        return get_document(self.admin_socket, "/status")

    def workload(self, service: str) -> dict[str, Any]:
        found = [one for one in self.status()["workloads"] if one["service"] == f"shop/{service}"]
        assert len(found) == 1
        return found[0]  # type: ignore[no-any-return]
