"""Watches files by content: a file that was touched but says the same is no change; one that says something else is.

Theory: every poll stats each file; one whose stat is what it was is not read again, unless it was modified so shortly
before it was last read that a second change could hide in the same timestamp. Polling, because it is right everywhere
(bind mounts, network file systems, Kubernetes volumes that swap a symbolic link) where notification is not. Hints,
where there are any, make it look sooner, and may prove that the writer of a single changed file was done with it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from ringfence.kit.clock import Clock
from ringfence.kit.hints import FolderHints

_T = TypeVar("_T")

# Coarser than the timestamps of any file system in use (FAT: 2 s).
_TIMESTAMP_DOUBT_SECONDS: Final = 2.0
_DEPTH_LIMIT: Final = 8
_ENTRY_LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What a file said, or in ``error`` why it could not be read (``content`` is then empty)."""

    path: Path
    content: bytes = b""
    error: str = ""


class ContentReader:
    """Reads files, unchanged ones from memory; the memory holds what the last ``keep`` named and no more."""

    __slots__ = ("_clock", "_held", "_limit_bytes")

    def __init__(self, *, clock: Clock, limit_bytes: int) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._held: dict[Path, tuple[tuple[int, ...], FileContent]] = {}

    def read(self, path: Path) -> FileContent:
        """The file's content; a file of more than the limit is read to one byte beyond it, so that it shows."""
        try:
            # Without O_NONBLOCK, opening a pipe that nobody writes to would wait forever.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    return FileContent(path=path, error="not a regular file")
                signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                held = self._held.get(path)
                if held is not None and held[0] == signature:
                    return held[1]
                content = FileContent(path=path, content=file.read(self._limit_bytes + 1))
        except OSError as error:
            self._held.pop(path, None)
            return FileContent(path=path, error=error.strerror or str(error))
        changed = max(found.st_mtime, found.st_ctime)
        if self._clock.now() - changed > _TIMESTAMP_DOUBT_SECONDS:
            self._held[path] = (signature, content)
        else:
            self._held.pop(path, None)
        return content

    def keep(self, paths: set[Path]) -> None:
        """Forget every file that is not in ``paths``."""
        for path in self._held.keys() - paths:
            del self._held[path]


def list_files(folder: Path, suffixes: tuple[str, ...], limit: int) -> list[Path]:
    """Files under ``folder`` whose names end in one of ``suffixes``, sorted; hidden names are left out.

    At most ``limit`` + 1 are listed, so that too many shows. Symbolic links to files count, those to folders do not.
    Raises OSError when ``folder`` cannot be listed, is nested too deeply or holds too much else: what is left out
    unsaid would be a policy that somebody believes in.
    """
    found: list[Path] = []
    waiting = [(folder, 0)]
    seen = 0
    while waiting and len(found) <= limit:
        current, depth = waiting.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                seen += 1
                if seen > _ENTRY_LIMIT:
                    raise OSError(errno.EMFILE, f"more than {_ENTRY_LIMIT} entries")
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth >= _DEPTH_LIMIT:
                        raise OSError(errno.ELOOP, f"nested deeper than {_DEPTH_LIMIT} folders")
                    waiting.append((Path(entry.path), depth + 1))
                elif entry.name.endswith(suffixes):
                    found.append(Path(entry.path))
                    if len(found) > limit:
                        break
    return sorted(found)


class Watch(Generic[_T]):
    """Polls ``read`` (in a thread, since it touches disks) and offers each value unlike the last to ``changed``.

    A value is offered once it stood still for ``settle_seconds``: the first half of a file that is being written can
    be a whole document that says something else, such as a rule without its restrictions. Sooner, where
    ``only_change`` names the one file in which two values differ and the hints say that its writer was done with it.
    ``changed`` answers whether the value is settled; one that is not is offered again at the next poll.
    """

    __slots__ = (
        "_changed",
        "_hints",
        "_interval_seconds",
        "_last",
        "_only_change",
        "_read",
        "_read_seconds",
        "_settle_seconds",
    )

    def __init__(
        self,
        read: Callable[[], _T],
        changed: Callable[[_T], Awaitable[bool]],
        *,
        last: _T,
        interval_seconds: float,
        settle_seconds: float,
        hints: FolderHints | None = None,
        only_change: Callable[[_T, _T], Path | None] = lambda _last, _found: None,
    ) -> None:
        self._read = read
        self._changed = changed
        self._last = last
        self._interval_seconds = interval_seconds
        self._settle_seconds = settle_seconds
        self._read_seconds = 0.0
        self._hints = hints
        self._only_change = only_change

    async def run(self) -> None:
        """Poll until cancelled; where reading takes much CPU, less often, so that it is a tenth of a core at most."""
        hints = self._hints
        if hints is None:
            while True:
                await asyncio.sleep(max(self._interval_seconds, 10.0 * self._read_seconds))
                await self.poll()
        hints.open()
        try:
            while True:
                await asyncio.sleep(10.0 * self._read_seconds)
                await hints.wait(self._interval_seconds)
                await self.poll()
        finally:
            hints.close()

    async def poll(self) -> bool:
        """Look once; True if there was a change and it is settled."""
        moment = self._hints.moment() if self._hints is not None else 0
        found, self._read_seconds = await asyncio.to_thread(self._timed_read)
        changed = found != self._last
        if changed:
            if not self._completed(found, moment):
                await asyncio.sleep(self._settle_seconds)
                if await asyncio.to_thread(self._read) != found:
                    return False
            if not await self._changed(found):
                return False
            self._last = found
        if self._hints is not None:
            self._hints.forget(moment)
        return changed

    def _timed_read(self) -> tuple[_T, float]:
        """Read, and the CPU time that it took; a busy machine or a slow disk alone is no reason to look less often."""
        started = time.thread_time()
        return self._read(), time.thread_time() - started

    def _completed(self, found: _T, moment: int) -> bool:
        """Whether one file makes the difference and ``found`` has what its writer left when done.

        Several are a set that is being saved, and nothing tells when it is whole but that no more comes.
        """
        path = self._only_change(self._last, found)
        return path is not None and self._hints is not None and self._hints.completed(path, moment)
