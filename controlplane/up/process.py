"""One run of one child: started in a session of its own and on a leash, its lines collected, its end awaited.

Linux: the end is seen through a pidfd, so no signal handler and no thread is needed, on any event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.up.groups import group_alive

LINE_LIMIT_BYTES: Final = 16 * 1024
"""A longer line is cut: no child may make its supervisor keep a page that never ends."""

_LEASH: Final = Path(__file__).with_name("leash.py")
_GROUP_POLL_SECONDS: Final = 0.02
_LAST_LINES_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run: ``command`` (looked up in the PATH of ``environment``), where, and with which environment."""

    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(repr=False)


class LineSplitter:
    """Sans-IO: bytes in any pieces in, whole lines out, each at most ``LINE_LIMIT_BYTES``."""

    __slots__ = ("_cutting", "_pending")

    def __init__(self) -> None:
        self._pending = b""
        self._cutting = False

    def feed(self, received: bytes) -> list[str]:
        """The lines that ended in ``received``, without their ends."""
        *whole, self._pending = (self._pending + received).split(b"\n")
        lines = []
        for line in whole:
            if self._cutting:
                self._cutting = False
            else:
                lines.append(_text(line))
        if len(self._pending) > LINE_LIMIT_BYTES:
            if not self._cutting:
                lines.append(_text(self._pending))
            self._cutting = True
            self._pending = b""
        return lines

    def finish(self) -> list[str]:
        """What was written last without a line end."""
        rest, self._pending = self._pending, b""
        return [_text(rest)] if rest and not self._cutting else []


def _text(line: bytes) -> str:
    cut = line[:LINE_LIMIT_BYTES]
    return cut.decode("utf-8", "backslashreplace").rstrip("\r") + ("…" if len(line) > LINE_LIMIT_BYTES else "")


class _Lines(asyncio.Protocol):
    """Hands each line of the child to ``on_line``; ``ended`` is set when its last writer closed the pipe."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._splitter = LineSplitter()
        self._on_line = on_line
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            self._on_line(line)

    def connection_lost(self, exc: Exception | None) -> None:
        for line in self._splitter.finish():
            self._on_line(line)
        self.ended.set()


class Process:
    """A running child and all that it started in its process group. Made by ``Process.start``."""

    def __init__(self, popen: subprocess.Popen[bytes], lines: _Lines, transport: asyncio.ReadTransport) -> None:
        self._popen = popen
        self._lines = lines
        self._transport = transport
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @classmethod
    async def start(cls, launch: Launch, on_line: Callable[[str], None]) -> Process:
        """Start ``launch``; its standard output and error go to ``on_line`` line by line, its input is empty.

        OSError if the directory is not there. A command that is not there shows as exit status 127 and a line.
        """
        reading, writing = os.pipe()
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220 (asyncio's own hides the pid's end from pidfd; this takes 1 ms)
                [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *launch.command],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT,
                cwd=launch.directory,
                env=dict(launch.environment),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        pipe = os.fdopen(reading, "rb", buffering=0)
        transport: asyncio.ReadTransport | None = None
        try:
            transport, lines = await asyncio.get_running_loop().connect_read_pipe(lambda: _Lines(on_line), pipe)
            return cls(popen, lines, transport)
        except BaseException:  # cancelled here, or out of descriptors: nobody else knows of the child yet
            (transport or pipe).close()
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()  # was killed: does not block
            raise

    @property
    def pid(self) -> int:
        """Process id of the leader, which is also the id of its process group."""
        return self._popen.pid

    async def wait(self) -> int:
        """Until the leader ended; its return code as ``Popen`` has it. The rest of its group may live on."""
        await asyncio.shield(self._exited)
        return self._popen.returncode

    async def group_gone(self) -> None:
        """Until nothing of the process group is left."""
        await self.wait()  # before that its exit status is not ours to take in by group
        while group_alive(self._popen.pid):  # noqa: ASYNC110 (the kernel tells nobody when a group empties)
            await asyncio.sleep(_GROUP_POLL_SECONDS)

    def signal_group(self, number: int) -> bool:
        """Send a signal to the leader and all that it started; False if nobody is left."""
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return False
        return True

    async def close(self) -> None:
        """Kill what is left of the group, take in its last lines, let go of the pipe."""
        if self.signal_group(signal.SIGKILL):
            await self.group_gone()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LINES_SECONDS):
                await self._lines.ended.wait()
        self._transport.close()

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._popen.wait()  # has ended: does not block
        if not self._exited.done():
            self._exited.set_result(None)
