"""An app of one request a connection: ``python -m benchmarks.brief_app PORT``, on loopback, until it is ended.

As cheap as an app can be (``benchmarks.connecting`` says why): the kernel hands over a connection when its request is
here (TCP_DEFER_ACCEPT), so there is nothing to wait for, and a connection is accept, read, write, close. It answers in
HTTP, since that is what sees to it that a chain is up, and asks at its port.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import free_ports, listening, running, wait_until

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
_SILENT_SECONDS = 1  # for whoever connects and says nothing, as a probe of the port does


@contextlib.contextmanager
def app(folder: Path) -> Iterator[int]:
    """Run the app in a process of its own; gives its port."""
    (port,) = free_ports(1)
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    with running([sys.executable, "-m", "benchmarks.brief_app", str(port)], folder, "app", environment) as process:
        wait_until(lambda: listening(port), "the app", process, folder / "app.log", 10)
        yield port


def serve(listener: socket.socket) -> None:
    """Serve until the listener fails."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SILENT_SECONDS)
    while True:
        connection, _ = listener.accept()
        try:
            connection.settimeout(_SILENT_SECONDS)
            if connection.recv(4096):
                connection.send(ANSWER)
        except OSError:
            pass  # whoever called sees it, and counts it
        connection.close()


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096) as listener:
        serve(listener)
