"""Tells that something happened in a folder, where the kernel can (inotify): a hint when to look, never what to see.

Whoever waits for one also looks by himself now and then: a network file system, or a kernel without inotify, is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# inotify(7): modified, attributes, closed after writing, moved from and to, created, deleted, itself deleted or moved.
_CHANGES: Final = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_READ_BYTES: Final = 65_536


class FolderHints:
    """Hints of ``folders``, not of what lies in folders below them; for use within one event loop."""

    __slots__ = ("_descriptor", "_event", "_folders", "_loop")

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
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
            while os.read(self._descriptor, _READ_BYTES):
                pass
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
