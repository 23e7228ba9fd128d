"""Network namespaces for the tests: made in pairs, joined by a virtual cable, gone when the test is over."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
_DEADLINE_SECONDS = 30.0
_numbers = itertools.count()


def environment(path: str | None = None) -> dict[str, str]:
    """Ours, with the folders of administrators' programs; ``path``: a folder whose programs go before others."""
    folders = [*filter(None, (path, os.environ.get("PATH"))), "/usr/sbin", "/sbin"]
    return os.environ | {"PATH": os.pathsep.join(folders), "PYTHONPATH": str(REPOSITORY)}


class SpaceError(Exception):
    """The machine lets us make no namespace."""


@dataclass(frozen=True)
class Ends:
    """Where one end of a cable is reached, by IP version."""

    ipv4: str
    ipv6: str
    link_local: str

    def __getitem__(self, version: str) -> str:
        return {"ipv4": self.ipv4, "ipv6": self.ipv6}[version]


class Space:
    """One network namespace, and the programs that were started in it."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.name = f"rf-{os.getpid()}-{next(_numbers)}-{word}"
        self._children = ExitStack()
        made = subprocess.run(
            ["ip", "netns", "add", self.name], capture_output=True, text=True, check=False, env=environment()
        )
        if made.returncode != 0:
            raise SpaceError(made.stderr.strip())
        self.run("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        """End what runs in it and take it away; the cable goes with it."""
        self._children.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False, env=environment())

    def try_run(self, *argv: str, given: str = "", path: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end; ``path``: a folder whose programs go before others."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *argv],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_SECONDS,
            cwd=REPOSITORY,
            env=environment(path),
        )

    def run(self, *argv: str, given: str = "") -> str:
        """The same for a program that must go well; what it printed."""
        finished = self.try_run(*argv, given=given)
        assert finished.returncode == 0, f"{' '.join(argv)}: {finished.stderr}"
        return finished.stdout

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program in it that ends with the namespace."""
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=environment(),
        )
        self._children.callback(_end, child)
        return child

    def land(self, *ports: int | str) -> None:
        """Accept on these ports (``landing.py``)."""
        child = self.start(sys.executable, str(HERE / "landing.py"), self.word, *map(str, ports))
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"

    def dial(self, host: str, port: int, **wish: Any) -> dict[str, Any]:
        """Where a TCP connection from here lands (``dialling.py``)."""
        told = self.run(*_dialling(host, port, wish))
        landed: dict[str, Any] = json.loads(told)
        return landed

    def hold(self, host: str, port: int, **wish: Any) -> Held:
        """The same, kept open."""
        return Held(self.start(*_dialling(host, port, {**wish, "hold": True})))

    def redirect(self, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        """``ringfence redirect`` in it."""
        return self.try_run(sys.executable, "-m", "ringfence", "redirect", *words, path=path)


class Held:
    """A connection that stays open."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.landed = self._line()

    def exchange(self) -> dict[str, Any] | str:
        """Send a word and give back the echo, or the error."""
        assert self._child.stdin is not None
        self._child.stdin.write("word\n")
        self._child.stdin.flush()
        line = self._line()
        return "alive" if line == "word" else line

    def _line(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline().strip()
        return line if line == "word" or not line else json.loads(line)


def cable(left: Space, right: Space, number: int, device: str = "eth0") -> tuple[Ends, Ends]:
    """Join two namespaces by a cable; the addresses of both ends, from networks of that number."""
    left.run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", right.name)
    return _end_of(left, device, number, 1), _end_of(right, device, number, 2)


def _end_of(space: Space, device: str, number: int, host: int) -> Ends:
    ipv4, ipv6 = f"10.77.{number}.{host}", f"fd77:{number}::{host}"
    # Without duplicate address detection addresses are usable at once, the link-local one, too.
    space.run("sysctl", "-q", "-w", "net.ipv6.conf.all.accept_dad=0", f"net.ipv6.conf.{device}.accept_dad=0")
    space.run("ip", "address", "add", f"{ipv4}/24", "dev", device)
    space.run("ip", "address", "add", f"{ipv6}/64", "dev", device)
    # Derived from the device's own number otherwise, and then known only when the cable is up.
    space.run("ip", "link", "set", device, "addrgenmode", "none")
    space.run("ip", "address", "add", f"fe80::{number}:{host}/64", "dev", device)
    space.run("ip", "link", "set", device, "up")
    return Ends(ipv4=ipv4, ipv6=ipv6, link_local=f"fe80::{number}:{host}")


def _dialling(host: str, port: int, wish: dict[str, Any]) -> Sequence[str]:
    return (sys.executable, "-I", "-S", str(HERE / "dialling.py"), json.dumps({"host": host, "port": port, **wish}))


def _end(child: subprocess.Popen[str]) -> None:
    with child:
        child.kill()
