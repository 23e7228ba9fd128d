"""Running the packet filter's programs: found on the path, started without a shell, bounded in time and output.

They get a bare environment (and the two variables by which administrators steer iptables), so that what they print can
be read. Imported only by the commands, never by the proxy.
"""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from sidecar.redirect.errors import RedirectError

__all__ = ["DEADLINE_SECONDS", "OUTPUT_LIMIT_BYTES", "Finished", "find_program", "run"]

DEADLINE_SECONDS: Final = 15.0
"""Above the time for which the legacy programs are told to wait for their lock."""

OUTPUT_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""A node with ten thousand services has some 20 MiB of NAT rules."""

_CHUNK_BYTES: Final = 65536
# Administrators' programs are off a plain user's path on Debian; a container may have no path at all.
_MORE_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
_KEPT_VARIABLES: Final = ("XTABLES_LIBDIR", "XTABLES_LOCKFILE")
_LOCK_FILE: Final = Path("/run/xtables.lock")  # that of iptables-legacy


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A program that ended: its exit status (negative: ended by that signal) and what it printed."""

    status: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """What it said was wrong, on one line; made up if it said nothing."""
        lines = (line.strip() for line in self.errors.splitlines())
        said = [line for line in lines if line and not line.startswith("#") and set(line) != {"^"}]
        return "; ".join(said[:3])[:400] or f"exit status {self.status}"


def find_program(name: str) -> str | None:
    """The program's full path, or None."""
    return shutil.which(name, path=_search_path())


def run(argv: Sequence[str], *, given: str = "", deadline_seconds: float = DEADLINE_SECONDS) -> Finished:
    """Run it to its end with ``given`` as its standard input.

    Raises RedirectError if it cannot start, takes too long or prints too much; then it has been killed.
    """
    name = os.path.basename(argv[0])  # noqa: PTH119
    try:
        process = subprocess.Popen(  # argv comes from this package; no shell
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            cwd="/",
            bufsize=0,
        )
    except OSError as error:
        raise RedirectError(f"{name} cannot be started: {error.strerror} (install it anew)") from error
    with process:
        try:
            output, errors = _converse(process, name, given.encode(), time.monotonic() + deadline_seconds)
        except BaseException:
            process.kill()
            raise
    return Finished(
        status=process.returncode,
        output=output.decode(errors="replace"),
        errors=errors.decode(errors="replace"),
    )


def _converse(process: subprocess.Popen[bytes], name: str, given: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Feed and drain it until it has closed both outputs and ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    gathered: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    unsent = memoryview(given)
    with selectors.DefaultSelector() as selector:
        for stream in gathered:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(_left(deadline, name))
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    unsent = _feed(process.stdin, unsent)
                    if not unsent:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                source = process.stdout if key.fileobj is process.stdout else process.stderr
                chunk = os.read(source.fileno(), _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(source)
                gathered[source] += chunk
                if len(gathered[source]) > OUTPUT_LIMIT_BYTES:
                    raise RedirectError(f"{name} printed more than {OUTPUT_LIMIT_BYTES} bytes (are its rules sane?)")
    try:
        process.wait(_left(deadline, name))
    except subprocess.TimeoutExpired as error:
        raise _too_slow(name) from error
    return bytes(gathered[process.stdout]), bytes(gathered[process.stderr])


def _feed(stdin: IO[bytes], unsent: memoryview) -> memoryview:
    """What is left to send; a program that stopped reading says why by its exit status."""
    try:
        return unsent[os.write(stdin.fileno(), unsent[:_CHUNK_BYTES]) :]
    except BrokenPipeError:
        return unsent[:0]


def _left(deadline: float, name: str) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_slow(name)
    return left


def _too_slow(name: str) -> RedirectError:
    return RedirectError(f"{name} did not end in time (does another program hold the packet filter's lock?)")


def _search_path() -> str:
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    return os.pathsep.join([*folders, *_MORE_FOLDERS])


def may_lock(lock_file: Path) -> bool:
    """Whether the program could open its lock, or make it; nothing is made here."""
    return os.access(lock_file if lock_file.exists() else lock_file.parent, os.W_OK)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    if "XTABLES_LOCKFILE" not in kept and not may_lock(_LOCK_FILE):
        # On a read-only root it can be neither made nor is it shared with anybody. What keeps two of us apart is the
        # turn that each takes (``turn.py``), and any file that can be opened does for the program.
        kept["XTABLES_LOCKFILE"] = os.devnull
    # iptables loads modules by starting modprobe from the path.
    return {"LC_ALL": "C", "PATH": os.pathsep.join(_MORE_FOLDERS)} | kept
