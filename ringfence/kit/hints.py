"""Tells what the kernel says of folders (inotify): when to look, and whether the writer of a file is done with it.

What a file says is read from the file and never concluded from here. Whoever waits for a hint also looks by himself now
and then: a network file system, or a kernel without inotify, is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

# inotify(7): modified, attributes, closed after writing, moved from and to, created, deleted, itself deleted or moved.
_CHANGES: Final = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_ATTRIBUTES: Final = 0x4
_COMPLETED: Final = 0x8 | 0x80  # closed after writing, moved to this name
_READ_BYTES: Final = 65_536
_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, bytes of the name that follows

QUIET_SECONDS: Final = 0.01
_LIMIT_QUIET: Final = 5  # times the quiet is waited for at most, where others go on writing beside the files


class FolderHints:
    """Hints of files in ``folders`` whose names end in one of ``suffixes``, not of what lies in folders below them.

    For use within one event loop. A folder in which others write all the time is not to be among them: each write is
    looked at.
    """

    __slots__ = (
        "_completed",
        "_descriptor",
        "_event",
        "_folders",
        "_heard",
        "_heard_at",
        "_library",
        "_loop",
        "_quiet_seconds",
        "_suffixes",
        "_watched",
    )

    def __init__(
        self, folders: Sequence[Path], suffixes: Sequence[str], *, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        """``quiet_seconds``: how long nothing may happen in a folder before what happened is told, so that files that
        are saved together are seen together."""
        self._folders = folders
        self._suffixes = tuple(os.fsencode(suffix) for suffix in suffixes)
        self._quiet_seconds = quiet_seconds
        self._library: ctypes.CDLL | None = None
        self._descriptor = -1
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: dict[int, Path] = {}
        self._heard = 0  # events, whatever the name
        self._heard_at = 0.0
        self._completed: dict[Path, int] = {}  # files whose last event completed them, and which event it was

    def open(self) -> None:
        """Begin; quietly without hints where there are none to be had."""
        try:
            library = ctypes.CDLL(None, use_errno=True)
            descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return
        if descriptor < 0:
            return
        self._library, self._descriptor = library, descriptor
        self._watch_folders()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._readable)

    def _watch_folders(self) -> None:
        """Watch what the folders' names stand for now; what fails gives no hints.

        A watch follows the folder, not its name. The kernel answers with the watch that there is, unless another folder
        has come by the name since; then whatever was heard is of files that have gone.
        """
        if self._library is None or self._descriptor < 0:
            return
        found = {}
        for folder in self._folders:
            watch = self._library.inotify_add_watch(self._descriptor, os.fsencode(folder), _CHANGES)
            if watch >= 0:
                found[watch] = folder
        if found != self._watched:
            for gone in self._watched.keys() - found.keys():
                self._library.inotify_rm_watch(self._descriptor, gone)
            self._watched = found
            self._completed.clear()

    def _readable(self) -> None:
        if self._loop is None or self._descriptor < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._descriptor, _READ_BYTES):
                self._heard_at = self._loop.time()
                for watch, mask, name in _events(events):
                    self._heard += 1
                    self._note(self._watched.get(watch), mask, name)

    def _note(self, folder: Path | None, mask: int, name: bytes) -> None:
        if not name:  # of a folder itself, or events were lost
            self._completed.clear()
            self._event.set()
        elif folder is not None and name.endswith(self._suffixes):
            path = folder / os.fsdecode(name)
            if mask & _COMPLETED:
                self._completed[path] = self._heard
            elif not mask & _ATTRIBUTES:
                self._completed.pop(path, None)
            self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until something happened since the last wait and it is quiet again, or for ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        if self._loop is not None and self._event.is_set():
            for _ in range(_LIMIT_QUIET):
                left = self._heard_at + self._quiet_seconds - self._loop.time()
                if left <= 0:
                    break
                await asyncio.sleep(left)
        self._event.clear()

    def moment(self) -> int:
        """The number of events so far."""
        self._readable()
        return self._heard

    def completed(self, path: Path, moment: int) -> bool:
        """Whether what was read from ``path`` since ``moment`` is what its writer left when done with it.

        Renamed to this name, or closed after writing, and quiet since: around it, too, as somebody who works there may
        not be done. Not known of a symbolic link, to whose file things happen elsewhere.
        """
        self._watch_folders()
        self._readable()
        return (
            self._loop is not None
            and self._heard == moment
            and self._loop.time() - self._heard_at >= self._quiet_seconds
            and path in self._completed
            and not path.is_symlink()
        )

    def forget(self, moment: int) -> None:
        """Let go of what happened up to ``moment``: it is no proof of a change that comes later."""
        self._completed = {path: heard for path, heard in self._completed.items() if heard > moment}

    def close(self) -> None:
        if self._descriptor >= 0 and self._loop is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _events(events: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Watch, mask and name of the file; the name is empty for a folder itself, and where events were lost."""
    position = 0
    while position < len(events):
        watch, mask, _, size = _EVENT.unpack_from(events, position)
        position += _EVENT.size + size
        yield watch, mask, events[position - size : position].rstrip(b"\0")
