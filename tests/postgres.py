"""A private PostgreSQL cluster for the tests: a temporary folder, a Unix socket, nothing listening on the network.

Without the server's programs the tests that need it are skipped, except under CI, where they fail: there nobody would
notice. PostgreSQL refuses to run as root, so root's tests run it as the user ``postgres`` (or ``nobody``).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

_START_SECONDS = 60.0
_OWNER = "ringfence"


def _programs() -> Path | None:
    """The folder of the newest installed server's programs; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _user() -> str | None:
    """Whom to run the server as: somebody else if we are root, ourselves if not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.fail("no user to run PostgreSQL as: neither postgres nor nobody exists")


class Cluster:
    """A running cluster; ``url`` gives the address of a database in it."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = _user()
        self._group = pwd.getpwnam(self._user).pw_gid if self._user else None
        # Not pytest's folder: that is closed to other users, and too long a path for a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="rf-pg-", dir="/tmp"))
        self._log = self.folder / "log"
        if self._user:
            shutil.chown(self.folder, self._user)
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://{_OWNER}@/{database}?host={quote(str(self.folder), safe='')}"

    def make(self) -> None:
        """Create and start it; returns once it answers."""
        data = self.folder / "data"
        made = subprocess.run(
            [self._programs / "initdb", "-D", data, "-A", "trust", "-U", _OWNER, "-E", "UTF8", "--no-sync"],
            user=self._user,
            group=self._group,
            extra_groups=[] if self._user else None,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
            capture_output=True,
            timeout=_START_SECONDS,
            check=False,
        )
        assert made.returncode == 0, made.stderr.decode(errors="replace")
        self.start()

    def start(self) -> None:
        """Start the server in the existing folder; its end is bound to ours."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "60",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        bound = ["setpriv", "--pdeathsig", "QUIT", "--"] if shutil.which("setpriv") else []
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [*bound, str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options],
                user=self._user,
                group=self._group,
                extra_groups=[] if self._user else None,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self._server.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server: at once, but in order (SIGINT is PostgreSQL's fast shutdown)."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(_START_SECONDS)
            self._server = None

    def create(self, database: str) -> str:
        """A new, empty database; its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")  # type: ignore[call-overload]
        return self.url(database)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def server_programs() -> Path:
    """The folder of the server's programs; without them the test is skipped, or fails under CI."""
    programs = _programs()
    if programs is None:
        missing = "PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return programs


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A cluster for the whole run."""
    cluster = Cluster(server_programs())
    try:
        cluster.make()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def new_postgres_url(postgres_cluster: Cluster) -> Callable[[], str]:
    """Makes empty databases, each call another."""
    numbers = count(1)
    return lambda: postgres_cluster.create(f"test_{next(numbers)}")


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """An empty database of this test's own."""
    return new_postgres_url()
