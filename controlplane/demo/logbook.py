"""What the processes of the demo's mesh wrote, in order, so that a call can be told from the logs of both its ends.

A caller marks a place, does something, and then waits for a line after that place; nothing is guessed from time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

LINE_SECONDS: Final = 5.0
_KEPT_LINES: Final = 2_000
_FILE_LIMIT_CHARACTERS: Final = 32 * 1024 * 1024

Fields = dict[str, object]


class Logbook:
    """Takes every line (``add``) into ``file``, and keeps the newest structured ones of each process to be searched."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file: TextIO = file.open("w", encoding="utf-8")
        self._written = 0
        self._lines: dict[str, list[Fields]] = {}
        self._forgotten: dict[str, int] = {}
        self._grown = asyncio.Event()

    def __enter__(self) -> Logbook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, line: str) -> None:
        self._keep(f"{name} | {line}\n")
        try:
            fields = json.loads(line)
        except ValueError:
            return  # not one of our own processes, or one that fell over
        if not isinstance(fields, dict):
            return
        lines = self._lines.setdefault(name, [])
        lines.append(fields)
        if len(lines) > 2 * _KEPT_LINES:
            del lines[:_KEPT_LINES]
            self._forgotten[name] = self._forgotten.get(name, 0) + _KEPT_LINES
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _keep(self, line: str) -> None:
        """Write to the file; a full one becomes the one older file that is kept."""
        if self._file.closed:
            return
        if self._written > _FILE_LIMIT_CHARACTERS:
            self._file.close()
            self._path.replace(self._path.with_suffix(".old"))
            self._file = self._path.open("w", encoding="utf-8")
            self._written = 0
        self._file.write(line)
        self._file.flush()
        self._written += len(line)

    def mark(self, name: str) -> int:
        """The place after the last line of ``name``."""
        return self._forgotten.get(name, 0) + len(self._lines.get(name, ()))

    async def find(self, name: str, mark: int, wanted: Callable[[Fields], bool]) -> Fields | None:
        """The first line of ``name`` after ``mark`` that is ``wanted``; None if none comes in time."""
        try:
            async with asyncio.timeout(LINE_SECONDS):
                while True:
                    grown = self._grown
                    start = max(0, mark - self._forgotten.get(name, 0))
                    for fields in self._lines.get(name, [])[start:]:
                        if wanted(fields):
                            return fields
                    await grown.wait()
        except TimeoutError:
            return None
