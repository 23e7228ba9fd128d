"""The backend of every chain: nginx, one worker, 240-byte answers from memory, and files of 0 B to 10 MB."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import free_ports, listening, running, wait_until
from benchmarks.works import BenchmarkError

BODY = "x" * 240
IDENTITY_PATH = "/u/0/p/identity"
"""Answered with the ``x-forwarded-client-cert`` that reached the backend, instead of the usual body."""

BULK_PATH, BULK_BYTES = "/bulk", 1_000_000
"""Answered with so many bytes of a file."""

BODY_SIZES = (0, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BODIES_PATH = "/bodies"
"""``BODIES_PATH/N`` is answered with a file of N bytes, for N of ``BODY_SIZES``."""

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
{listens}
    location = {identity_path} {{ return 200 "$http_x_forwarded_client_cert"; }}
    location = {bulk_path} {{ sendfile on; tcp_nopush on; root {home}; }}
    location {bodies_path}/ {{ sendfile on; tcp_nopush on; root {home}; }}
    location / {{ return 200 "{body}"; }}
  }}
}}
"""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder for all files of one run."""
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as found:
        Path(found).chmod(0o711)  # nginx's worker, which root's nginx runs as nobody, reads a file in it
        yield Path(found)


@contextlib.contextmanager
def nginx(folder: Path, count: int, *, http2: bool = False) -> Iterator[list[int]]:
    """Run nginx from a folder of its own under ``folder``; gives its ``count`` ports on loopback, all alike.

    ``http2``: they speak HTTP/2 with prior knowledge, and nothing else.
    """
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("nginx", path=search)
    if program is None:
        raise BenchmarkError("nginx is not installed (package nginx-light)")
    home = folder / "nginx"
    home.mkdir()
    ports = free_ports(count)
    listens = "\n".join(f"    listen 127.0.0.1:{port}{' http2' if http2 else ''};" for port in ports)
    configuration = home / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            listens=listens,
            identity_path=IDENTITY_PATH,
            bulk_path=BULK_PATH,
            bodies_path=BODIES_PATH,
            home=home,
            body=BODY,
        )
    )
    (home / BODIES_PATH[1:]).mkdir()
    for size in BODY_SIZES:
        (home / BODIES_PATH[1:] / str(size)).write_bytes(random.Random(size).randbytes(size))
    (home / BULK_PATH[1:]).write_bytes(random.Random(0).randbytes(BULK_BYTES))
    command = [program, "-p", f"{home}/", "-e", "stderr", "-c", str(configuration)]
    with running(command, home, "nginx") as process:
        wait_until(lambda: all(map(listening, ports)), "nginx", process, home / "nginx.log", 10)
        yield ports
