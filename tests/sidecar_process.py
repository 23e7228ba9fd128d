"""`ringfence sidecar` as a process that a test talks to, and the CA and control plane for it.

The workload calls itself: its sidecar is outbound and inbound at once, so one process carries traffic over real mutual
TLS.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringfence.wire.gen import control_pb2 as pb
from ringfence.wire.gen.control_pb2_grpc import add_ControlServicer_to_server
from tests.fake_control import FakeControl
from tests.issuing_backends import ORDERS, FakeBackend
from tests.sidecar_snapshots import snapshot_message

RUN = "import sys; from ringfence.cli import main; sys.argv[0] = 'ringfence'; sys.exit(main())"
ROOT = Path(__file__).parents[1]
HTTP_PORT, TCP_PORT = 8080, 9000


class SidecarProcess:
    """One sidecar process; its log lines as they come."""

    def __init__(self, child: asyncio.subprocess.Process, signals_port: int, admin_socket: Path) -> None:
        self.child = child
        self.signals_port = signals_port
        self.admin_socket = admin_socket
        self.lines: list[dict[str, Any]] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            assert line.startswith(b"{"), line + await self.child.stderr.read()
            self.lines.append(json.loads(line))

    @property
    def pid(self) -> int:
        return self.child.pid

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while not (await self.page("/readyz")).startswith(b"HTTP/1.1 200 "):
                assert self.child.returncode is None, self.lines
                await asyncio.sleep(0.02)

    async def page(self, path: str) -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.signals_port)
        except OSError:
            return b""
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = await reader.read()
        writer.transport.abort()
        return answer

    async def ask(self, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        """The JSON of a page of the admin socket; ``body``: POST it, empty for none."""
        reader, writer = await asyncio.open_unix_connection(str(self.admin_socket))
        if body is None:
            writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        else:
            text = json.dumps(body).encode() if body else b""
            writer.write(f"POST {path} HTTP/1.1\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text)
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        writer.transport.abort()
        assert b" 200 " in head, (head, answer)
        found: dict[str, Any] = json.loads(answer)
        return found

    async def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        _, _, body = (await self.page("/metrics")).partition(b"\r\n\r\n")
        samples = (line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def end(self, number: signal.Signals | None = None) -> int:
        if number is not None and self.child.returncode is None:
            self.child.send_signal(number)
        status = await asyncio.wait_for(self.child.wait(), 60)
        await asyncio.wait_for(self._reading, 60)  # until the last that holds standard error is gone
        return status

    def told(self, level: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["level"] == level]

    def said(self, msg: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["msg"] == msg]


class SelfCaller:
    """A CA and a control plane in this process, and the sidecar of a workload that calls itself."""

    def __init__(self, backend: FakeBackend, folder: Path, free_port: Callable[[], int]) -> None:
        self.backend = backend
        self.control = FakeControl()
        self.folder = folder
        self.token_file = folder / "token"
        self.token_file.write_text(backend.mint(ORDERS))
        self.signals_port, self.mesh_port = free_port(), free_port()
        self.http_listen, self.tcp_listen = free_port(), free_port()
        self.apps = {HTTP_PORT: free_port(), TCP_PORT: free_port()}
        self.revision = 0
        add_ControlServicer_to_server(self.control, backend.servers.mutual)  # type: ignore[no-untyped-call]
        self.push(HTTP_PORT, TCP_PORT)
        self.processes: list[SidecarProcess] = []

    def snapshot(self, *permitted: int) -> pb.Snapshot:
        """The next revision, in which the workload may call these ports of itself."""
        self.revision += 1
        message = snapshot_message(self.revision, mesh_port=self.mesh_port, root=self.backend.ca.root.der)
        del message.workload.ports[:]
        del message.allowlists[0].rules[:]
        for port, protocol, listen in ((HTTP_PORT, "http", self.http_listen), (TCP_PORT, "tcp", self.tcp_listen)):
            app = {"app_host": "127.0.0.1", "app_port": self.apps[port]}
            message.workload.ports.add(port=port, protocol=protocol, address="127.0.0.1", **app)
            upstream = message.upstreams.add(
                service="orders", namespace="shop", port=port, protocol=protocol, listen_host="127.0.0.1",
                listen_port=listen,
            )  # fmt: skip
            upstream.endpoints.add(
                mesh_host="127.0.0.1", mesh_port=self.mesh_port, address="127.0.0.1", spiffe_id=str(ORDERS)
            )
            if port in permitted:
                rule = message.allowlists[0].rules.add(name=f"own-{protocol}", ports=[port])
                getattr(rule, "from").add(spiffe_id=str(ORDERS))
        if not permitted:
            del message.allowlists[:]
        return message

    def push(self, *permitted: int) -> None:
        self.control.push(self.snapshot(*permitted))

    async def start(self, *flags: str, token: bool = True) -> SidecarProcess:
        servers = self.backend.servers
        flags = (*(("--join-token-file", str(self.token_file)) if token else ()), *flags)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, "sidecar", "--spiffe-id", str(ORDERS), "--join", str(servers.join),
            "--control", str(servers.renew), "--root-fingerprint", self.backend.root_fingerprint,
            "--state", str(self.folder / "state"),
            "--signals", f"127.0.0.1:{self.signals_port}", *flags,
            stderr=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )  # fmt: skip
        process = SidecarProcess(child, self.signals_port, self.folder / "state" / "run" / "admin.sock")
        self.processes.append(process)
        return process

    async def stop(self) -> None:
        for process in self.processes:
            if process.child.returncode is None:
                await process.end(signal.SIGKILL)
        await self.backend.stop()
