"""A service of three instances with real processes: each is reached, and one that cannot serve is left alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.data_path import free_port
from tests.processes import Command, Marked, command_line, ringfence, until

NAMES = ("a", "b", "c")
CALLS = 40  # of which none goes to one of three by chance in 1 of 10**7 runs

# Tells every caller its name, then echoes. SIGUSR1: it refuses connections from now on; SIGUSR2: it takes them again.
APP = """
import asyncio, os, signal

async def serve(reader, writer):
    writer.write(os.environ["NAME"].encode() + b"\\n")
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()

async def main():
    loop, orders = asyncio.get_running_loop(), asyncio.Queue()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, orders.put_nowait, number)
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))
    while True:
        if await orders.get() == signal.SIGUSR1:
            server.close()
        else:
            server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))

asyncio.run(main())
"""

POLICY = """
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: echo-callers, namespace: small}
spec:
  service: echo
  rules:
    - name: web
      from: [{spiffeId: spiffe://small.example/ns/small/sa/web}]
"""


def mesh_text(ports: dict[str, int], names: tuple[str, ...] = NAMES) -> str:
    addresses = ", ".join(f'{key}: "127.0.0.1:{ports[key]}"' for key in ("join", "listen", "signals"))
    instances = "".join(
        f"        - name: {name}\n"
        f"          mesh: {ports[f'mesh-{name}']}\n"
        f"          apps: {{7000: {ports[f'app-{name}']}}}\n"
        f'          run: {{env: {{NAME: {name}, PORT: "{ports[f"app-{name}"]}"}}}}\n'
        for name in names
    )
    return (
        "apiVersion: ringfence.io/v1alpha1\n"
        "kind: Mesh\n"
        "metadata: {name: small}\n"
        "spec:\n"
        "  trustDomain: small.example\n"
        f"  controlPlane: {{{addresses}}}\n"
        "  services:\n"
        "    - name: echo\n"
        "      namespace: small\n"
        "      ports: [{port: 7000, protocol: tcp}]\n"
        "      run: {command: [python3, app.py]}\n"
        "      instances:\n"
        f"{instances}"
        "    - name: web\n"
        "      namespace: small\n"
        f"      mesh: {ports['mesh-web']}\n"
        f'      upstreams: [{{service: echo, port: 7000, listen: "127.0.0.1:{ports["upstream"]}"}}]\n'
    )


@dataclass(frozen=True)
class Running:
    """A mesh that runs through several tests, each of which leaves it whole."""

    folder: Path
    marked: Marked
    command: Command
    facts: dict[str, Any]
    ports: dict[str, int]

    def dial(self) -> tuple[str, socket.socket]:
        """A connection of web's app, and the name of the instance that took it; empty if it was closed instead."""
        connection = socket.socket()
        connection.settimeout(10)
        try:
            connection.connect(("127.0.0.1", self.ports["upstream"]))
            return connection.recv(16).decode().strip(), connection
        except ConnectionError:
            return "", connection

    def reached(self) -> set[str]:
        """Which instances many new connections reach."""
        found = set()
        for _ in range(CALLS):
            name, connection = self.dial()
            connection.close()
            found.add(name)
        return found

    def status(self) -> dict[str, Any]:
        """The instances of echo, by name, as ``ringfence status`` has them."""
        command = [sys.executable, "-P", "-m", "ringfence", "status", "--json"]
        told = subprocess.run(
            [*command, "--admin-socket", self.facts["admin_socket"]], capture_output=True, check=True, timeout=30
        )
        workloads = json.loads(told.stdout)["workloads"]
        return {one["instance"]: one for one in workloads if one["service"] == "small/echo"}

    def not_ready(self, name: str) -> str:
        """Why callers are told not to choose this instance; empty if they are not."""
        told = self.status()[name]["not_ready"]
        return "" if told is None else str(told["reason"])

    def pid_of(self, name: str, what: str) -> int:
        [pid] = [
            pid
            for pid in self.marked.pids()
            if what in (words := command_line(pid)) and f"NAME={name}" in environment(pid) | {f"NAME={given(words)}"}
        ]
        return pid


def served(instance: dict[str, Any]) -> bool:
    """Whether a sidecar of the instance enforces what it should."""
    return any(sidecar["standing"] == "current" for sidecar in instance["sidecars"])


def environment(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace").split("\0"))


def given(words: list[str]) -> str:
    """The instance on a sidecar's command line."""
    return words[words.index("--instance") + 1] if "--instance" in words else ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("instances")
    wanted = ("join", "listen", "signals", "upstream", "mesh-web")
    ports = {name: free_port() for name in (*wanted, *(f"{what}-{one}" for what in ("mesh", "app") for one in NAMES))}
    (folder / "policies").mkdir()
    (folder / "policies" / "echo.yaml").write_text(POLICY)
    (folder / "app.py").write_text(APP)
    (folder / "mesh.yaml").write_text(mesh_text(ports))
    marked = Marked(XDG_CONFIG_HOME=str(folder / "config"))
    with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=folder) as command:
        command.wait_for_stdout("\n")
        yield Running(folder, marked, command, json.loads(command.stdout), ports)


def test_every_instance_is_started_named_shown_and_reached(running: Running) -> None:
    assert running.facts["ready"] is True
    echo = [one for one in running.facts["services"] if one["service"] == "small/echo"]
    assert [one["instance"] for one in echo] == list(NAMES)
    assert len({one["sidecar_pid"] for one in echo} | {one["app_pid"] for one in echo}) == 2 * len(NAMES)
    status = running.status()
    assert list(status) == list(NAMES)
    assert {one["spiffe_id"] for one in status.values()} == {"spiffe://small.example/ns/small/sa/echo"}
    for one in status.values():
        assert one["ready"] is True
        [sidecar] = one["sidecars"]
        assert sidecar["standing"] == "current"
    until(lambda: running.reached() == set(NAMES), "a call that reaches each")


def test_an_instance_whose_app_refuses_connections_is_left_alone_until_it_takes_them_again(running: Running) -> None:
    app = running.pid_of("b", "app.py")
    os.kill(app, signal.SIGUSR1)
    until(lambda: running.reached() and "refuses connections" in running.not_ready("b"), "the word that b cannot serve")
    until(lambda: running.reached() == {"a", "c"}, "calls that all leave b alone")
    os.kill(app, signal.SIGUSR2)
    until(lambda: not running.not_ready("b"), "the word that b serves again")
    until(lambda: running.reached() == set(NAMES), "a call that reaches b")


def test_a_control_plane_that_comes_back_hears_who_cannot_serve_and_believes_the_best_of_the_others(
    running: Running,
) -> None:
    app = running.pid_of("a", "app.py")
    os.kill(app, signal.SIGUSR1)
    until(lambda: running.reached() and running.not_ready("a"), "the word that a cannot serve")
    [control_plane] = [pid for pid in running.marked.pids() if "controlplane" in command_line(pid)]
    os.kill(control_plane, signal.SIGKILL)
    until(lambda: running.command.stderr.count('"msg":"control plane ready"') == 2, "the new control plane")
    until(lambda: "refuses connections" in running.not_ready("a"), "the word of a to the new control plane")
    assert running.not_ready("b") == running.not_ready("c") == ""
    assert running.reached() <= {"b", "c"}
    os.kill(app, signal.SIGUSR2)
    until(lambda: not running.not_ready("a"), "the word that a serves again")
    # Of a sidecar that had not come back, the new control plane would never know that it is gone.
    until(lambda: all(map(served, running.status().values())), "the return of every sidecar")


def test_an_instance_whose_sidecar_is_gone_is_left_alone_until_it_is_back(running: Running) -> None:
    os.kill(running.command.popen.pid, signal.SIGSTOP)  # it would start the sidecar again at once
    try:
        os.kill(running.pid_of("c", "--instance"), signal.SIGKILL)
        until(lambda: running.not_ready("c") == "its sidecar is gone", "the end of the grace of c")
        assert running.status()["c"]["sidecars"][0]["standing"] == "disconnected"
        until(lambda: running.reached() == {"a", "b"}, "calls that all leave c alone")
    finally:
        os.kill(running.command.popen.pid, signal.SIGCONT)
    until(lambda: "small/echo/c sidecar was killed by SIGKILL; starting it again" in running.command.stderr, "its name")
    until(lambda: not running.not_ready("c"), "the word that c is back")
    until(lambda: running.reached() == set(NAMES), "a call that reaches c")


def test_an_instance_taken_out_of_the_mesh_gets_no_new_calls_and_keeps_the_living_ones(running: Running) -> None:
    name, living = running.dial()
    while name != "c":
        living.close()
        name, living = running.dial()
    (running.folder / "mesh.yaml").write_text(mesh_text(running.ports, ("a", "b")))
    until(lambda: list(running.status()) == ["a", "b"], "a mesh without c")
    until(lambda: running.reached() == {"a", "b"}, "calls that none go to c")
    living.sendall(b"still here\n")
    assert living.recv(32) == b"still here\n"
    living.close()
    until(lambda: "has no instance c: use one of a, b" in running.command.stderr, "the word to the sidecar of c")
    (running.folder / "mesh.yaml").write_text(mesh_text(running.ports))
    until(lambda: list(running.status()) == list(NAMES), "a mesh with c")
    until(lambda: not running.not_ready("c"), "the word that c has come")
    until(lambda: running.reached() == set(NAMES), "a call that reaches c")
