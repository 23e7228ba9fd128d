"""Tells that something happened in a folder, where the kernel can (inotify): a hint when to look, never what to see.

Whoever waits for one also looks by himself now and then: a network file system, or a kernel without inotify, is silent.
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
_READ_BYTES: Final = 65_536
_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, bytes of the name that follows


class FolderHints:
    """Hints of files in ``folders`` whose names end in one of ``suffixes``, not of what lies in folders below them.

    For use within one event loop. A folder in which others write all the time is not to be among them: each write is
    looked at.
    """

    __slots__ = ("_descriptor", "_event", "_folders", "_loop", "_suffixes")

    def __init__(self, folders: Sequence[Path], suffixes: Sequence[str]) -> None:
        self._folders = folders
        self._suffixes = tuple(os.fsencode(suffix) for suffix in suffixes)
        self._descriptor = -1
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin; quietly without hints where there are none to be had."""
        try:
            library = ctypes.CDLL(None, use_errno=True)
            descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return
        if descriptor < 0:
            return
        for folder in self._folders:
            library.inotify_add_watch(descriptor, os.fsencode(folder), _CHANGES)  # what fails gives no hints
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._descriptor, _READ_BYTES):
                if any(not name or name.endswith(self._suffixes) for name in _names(events)):
                    self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until something happened since the last wait, or for ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        if self._descriptor >= 0 and self._loop is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _names(events: bytes) -> Iterator[bytes]:
    """The files that ``events`` are about; empty for a folder itself, and where events were lost."""
    position = 0
    while position < len(events):
        *_, size = _EVENT.unpack_from(events, position)
        position += _EVENT.size + size
        yield events[position - size : position].rstrip(b"\0")
