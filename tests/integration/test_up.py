"""``ringfence up`` with real processes: restarts, stopping, nothing left behind, what is told when it cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.processes import Command, Marked, command_line, ringfence, until

APP = """
import asyncio, os, signal, sys

async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))
    print("echo listens", flush=True)
    await server.serve_forever()

if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
asyncio.run(main())
"""

MESH = """
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {{name: small}}
spec:
  trustDomain: small.example
  controlPlane: {{join: "127.0.0.1:{join}", listen: "127.0.0.1:{listen}", signals: "127.0.0.1:{signals}"}}
  services:
    - name: echo
      namespace: small
      mesh: {mesh}
      forwardProxy: "127.0.0.1:{proxy}"
      ports:
        - {{port: 7000, protocol: tcp, app: {app}}}
      upstreams:
        - {{service: echo, port: 7000, listen: "127.0.0.1:{upstream}"}}
      run: {{command: {command}, env: {{PORT: "{app}"}}}}
"""

POLICY = """
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: echo-callers, namespace: small}
spec:
  service: echo
  rules:
    - name: itself
      from: [{namespace: small}]
"""

DIRECT = '[python3, "app.py"]'
SHELL = '[sh, -c, "python3 app.py & wait"]'
DEAF_DAEMON = "setsid sh -c 'trap : TERM; while :; do sleep 1; done'"
DAEMONS = f'[sh, -c, "setsid sleep 1000 & {DEAF_DAEMON} & exec python3 app.py"]'
DEAF = '[python3, "app.py", "deaf"]'


@dataclass(frozen=True)
class Small:
    """A mesh of one service, in a folder."""

    folder: Path
    ports: dict[str, int]

    @property
    def file(self) -> Path:
        return self.folder / "mesh.yaml"

    def echoes(self) -> bool:
        """Whether a line goes through the sidecar, to the app and back."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports["upstream"]), timeout=5) as connection:
                connection.sendall(b"hello\n")
                return connection.recv(16) == b"hello\n"
        except OSError:
            return False

    def echoes_by_proxy(self) -> bool:
        """The same by the forward proxy, as an app does it that knows nothing but ``http_proxy``."""
        with socket.create_connection(("127.0.0.1", self.ports["proxy"]), timeout=5) as connection:
            connection.sendall(b"CONNECT echo.small:7000 HTTP/1.1\r\nhost: echo.small:7000\r\n\r\nhello\n")
            answer = connection.makefile("rb")
            return answer.readline().startswith(b"HTTP/1.1 200 ") and answer.readlines(3)[:2] == [b"\r\n", b"hello\n"]


@pytest.fixture
def marked(tmp_path: Path) -> Marked:
    return Marked(XDG_CONFIG_HOME=str(tmp_path / "config"))


def small_mesh(folder: Path, command: str = DIRECT) -> Small:
    names = ("join", "listen", "signals", "mesh", "app", "upstream", "proxy")
    ports = {name: free_port() for name in names}
    (folder / "policies").mkdir()
    (folder / "policies" / "echo.yaml").write_text(POLICY)
    (folder / "app.py").write_text(APP)
    (folder / "mesh.yaml").write_text(MESH.format(command=command, **ports))
    return Small(folder, ports)


@contextmanager
def running(mesh: Small, marked: Marked) -> Iterator[tuple[Command, dict[str, Any]]]:
    with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=mesh.folder) as command:
        command.wait_for_stdout("\n")
        yield command, json.loads(command.stdout)


@dataclass(frozen=True)
class Shared:
    """A mesh that runs through several tests, each of which leaves it whole."""

    mesh: Small
    marked: Marked
    command: Command
    facts: dict[str, Any]

    def pid_of(self, msg: str) -> list[int]:
        return [pid for pid in self.marked.pids() if msg in " ".join(command_line(pid))]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("up")
    marked, mesh = Marked(XDG_CONFIG_HOME=str(folder / "config")), small_mesh(folder)
    with running(mesh, marked) as (command, facts):
        yield Shared(mesh, marked, command, facts)


def test_when_it_says_ready_a_call_goes_through(shared: Shared) -> None:
    assert shared.mesh.echoes()
    assert shared.mesh.echoes_by_proxy()
    assert shared.facts["ready"] is True
    [service] = shared.facts["services"]
    assert service["spiffe_id"] == "spiffe://small.example/ns/small/sa/echo"
    assert service["app_listens"] is True
    told = {shared.facts["control_plane"]["pid"], service["sidecar_pid"], service["app_pid"]}
    assert len(told) == 3
    assert None not in told


def test_a_killed_sidecar_is_named_started_again_and_serves_again(shared: Shared) -> None:
    [killed] = shared.pid_of("-m sidecar")
    os.kill(killed, signal.SIGKILL)
    until(lambda: "small/echo sidecar was killed by SIGKILL; starting it again" in shared.command.stderr, "its name")
    until(shared.mesh.echoes, "a call through the new sidecar")
    until(lambda: '"proved_by":"host key"' in shared.command.stderr, "its proof")
    assert shared.pid_of("-m sidecar") != [killed]


def test_a_killed_app_and_a_killed_control_plane_come_back(shared: Shared) -> None:
    for name in ("app.py", "ringfence controlplane"):
        [pid] = shared.pid_of(name)
        os.kill(pid, signal.SIGKILL)
    command = shared.command
    until(lambda: "small/echo app was killed by SIGKILL" in command.stderr, "the app's name")
    until(lambda: "control plane was killed by SIGKILL" in command.stderr, "the control plane's name")
    until(lambda: command.stderr.count('"msg":"control plane ready"') == 2, "the new control plane")
    until(shared.mesh.echoes, "a call to the new app")


def test_no_secret_is_on_a_command_line_in_an_environment_or_beside_the_keys(shared: Shared) -> None:
    [passphrase_file] = (shared.mesh.folder / "config" / "ringfence").iterdir()
    assert stat.S_IMODE(passphrase_file.stat().st_mode) == 0o600
    state = Path(shared.facts["state"])
    [token_file] = (state / "run").glob("*.token")
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(token_file.parent.stat().st_mode) == 0o700
    secrets = [passphrase_file.read_text().strip(), token_file.read_text().strip()]
    assert all(len(secret) > 20 for secret in secrets)
    for pid in shared.marked.pids():
        shown = " ".join(command_line(pid)) + Path(f"/proc/{pid}/environ").read_text()
        assert not any(secret in shown for secret in secrets)
    assert not any(secrets[0].encode() in file.read_bytes() for file in state.rglob("*") if file.is_file())


def test_two_of_one_state_folder_are_refused(shared: Shared) -> None:
    marked = Marked(XDG_CONFIG_HOME=str(shared.mesh.folder / "config"))
    ended = up(shared.mesh, marked)
    assert ended.returncode == 1
    assert f"is in use by process {shared.command.popen.pid}" in ended.stderr
    assert marked.pids() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_leaves_no_process(tmp_path: Path, marked: Marked, number: int) -> None:
    mesh = small_mesh(tmp_path, SHELL)
    with running(mesh, marked) as (command, _):
        command.popen.send_signal(number)
        assert command.wait() == 0
        assert marked.pids() == []
        assert "nothing is left running" in command.stderr
        told = command.stderr
        assert told.index('"msg":"sidecar stopped"') < told.index('"msg":"control plane stops"')


def test_what_left_its_group_is_ended_too_and_named(tmp_path: Path, marked: Marked) -> None:
    mesh = small_mesh(tmp_path, DAEMONS)
    with running(mesh, marked) as (command, _):
        until(lambda: any(command_line(pid)[:1] == ["sleep"] for pid in marked.pids()), "the daemon")
        command.popen.send_signal(signal.SIGINT)
        assert command.wait() == 0
        assert marked.pids() == []
        assert "(sleep) had left its group and was ended" in command.stderr
        assert "(sh) had left its group and was killed" in command.stderr


def test_killing_the_supervisor_leaves_no_process_not_even_a_grandchild(tmp_path: Path, marked: Marked) -> None:
    mesh = small_mesh(tmp_path, SHELL)
    with running(mesh, marked) as (command, _):
        assert any("app.py" in command_line(pid) for pid in marked.pids())
        command.popen.kill()
        command.wait()
        until(lambda: not marked.pids(), "the end of all processes")


def test_a_second_interrupt_kills_what_does_not_want_to_stop(tmp_path: Path, marked: Marked) -> None:
    mesh = small_mesh(tmp_path, DEAF)
    with running(mesh, marked) as (command, _):
        command.popen.send_signal(signal.SIGINT)
        until(lambda: "once more to kill them at once" in command.stderr, "the answer to the first interrupt")
        command.popen.send_signal(signal.SIGINT)
        assert command.wait() == 0
        assert marked.pids() == []
        assert "did not end in time" not in command.stderr


def up(mesh: Small, marked: Marked) -> subprocess.CompletedProcess[str]:
    """``ringfence up`` that is expected to end by itself."""
    command = [sys.executable, "-P", "-m", "ringfence", "up", "-f", "mesh.yaml", "--state", "s"]
    return subprocess.run(
        command, cwd=mesh.folder, env=marked.environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("join", "setting 'controlPlane.join' of the control plane"),
        ("signals", "setting 'controlPlane.signals' of the control plane"),
        ("mesh", "setting 'mesh' of service small/echo"),
        ("app", "setting 'app of its port' of service small/echo"),
        ("upstream", "setting 'listen of its upstream small/echo:7000' of service small/echo"),
    ],
)
def test_a_taken_port_is_told_with_its_setting_and_its_holder(
    tmp_path: Path, marked: Marked, name: str, setting: str
) -> None:
    mesh = small_mesh(tmp_path)
    with socket.create_server(("127.0.0.1", mesh.ports[name])):
        ended = up(mesh, marked)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert f"127.0.0.1:{mesh.ports[name]} is already in use by process {os.getpid()}" in line
    assert setting in line
    assert marked.pids() == []


def test_a_broken_mesh_and_policy_are_told_at_once_and_nothing_is_started_or_made(
    tmp_path: Path, marked: Marked
) -> None:
    mesh = small_mesh(tmp_path)
    mesh.file.write_text(mesh.file.read_text().replace("mesh:", "mash:").replace("port: 7000", "port: 70000"))
    (tmp_path / "policies" / "echo.yaml").write_text(POLICY.replace("rules:", "rulez:"))
    ended = up(mesh, marked)
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert any(line.startswith("mesh.yaml:") and "mash" in line and "did you mean mesh?" in line for line in lines)
    assert any(line.startswith("mesh.yaml:") and "70000" in line for line in lines)
    assert any(line.startswith("policies/echo.yaml:") and "rulez" in line for line in lines)
    assert ended.stdout == ""
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "config").exists()


def test_a_state_folder_that_the_system_refuses_is_one_line(tmp_path: Path, marked: Marked) -> None:
    mesh = small_mesh(tmp_path)
    (tmp_path / "s" / "run" / "lock").mkdir(parents=True, mode=0o700)
    for folder in (tmp_path / "s", tmp_path / "s" / "run"):
        folder.chmod(0o700)
    ended = up(mesh, marked)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "Is a directory" in line
    assert "run/lock" in line


def test_a_mesh_file_that_is_not_there_is_one_line(tmp_path: Path, marked: Marked) -> None:
    ended = up(Small(tmp_path, {}), marked)
    assert ended.returncode == 2
    assert ended.stderr == "mesh.yaml:1:1: cannot be read: no such file (name the mesh file by --file)\n"


def test_a_program_that_is_not_there_is_told_before_anything_starts(tmp_path: Path, marked: Marked) -> None:
    mesh = small_mesh(tmp_path, "[pythn3, app.py]")
    ended = up(mesh, marked)
    assert ended.returncode == 2
    assert "run.command of small/echo: 'pythn3' is no program that can be run" in ended.stderr


def test_it_starts_again_on_its_own_state_and_not_as_another_mesh_or_without_its_passphrase(
    tmp_path: Path, marked: Marked
) -> None:
    mesh = small_mesh(tmp_path)
    fingerprints = []
    for _ in range(2):
        with running(mesh, marked) as (command, facts):
            fingerprints.append(facts["root_fingerprint"])
            assert mesh.echoes()
            command.popen.send_signal(signal.SIGINT)
            assert command.wait() == 0
    assert fingerprints[0] == fingerprints[1]
    for file in (mesh.file, tmp_path / "policies" / "echo.yaml"):
        file.write_text(file.read_text().replace("small.example", "other.example"))
    ended = up(mesh, marked)
    assert ended.returncode == 1
    assert "control plane does not start: it exited with status 2, and last said" in ended.stderr
    assert "trust domain other.example is not that of the CA" in ended.stderr
    assert marked.pids() == []
    [passphrase_file] = (tmp_path / "config" / "ringfence").iterdir()
    passphrase_file.unlink()
    ended = up(mesh, marked)
    assert ended.returncode == 1
    assert str(passphrase_file) in ended.stderr
    assert not passphrase_file.exists()


def test_a_service_with_workers_serves_and_stops_like_any_other(tmp_path: Path, marked: Marked) -> None:
    mesh = small_mesh(tmp_path)
    mesh.file.write_text(mesh.file.read_text().replace("      ports:\n", "      workers: 2\n      ports:\n"))
    with running(mesh, marked) as (command, _):
        until(mesh.echoes, "an echo")
        workers = [pid for pid in marked.pids() if "sidecar.workers" in command_line(pid)]
        assert len(workers) == 2
        command.popen.send_signal(signal.SIGINT)
        assert command.wait() == 0
        until(lambda: not marked.pids(), "the end of every process")
        assert "Traceback" not in command.stderr
