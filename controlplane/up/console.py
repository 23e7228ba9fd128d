"""Lines for people, from many children to one stream, without ever making the supervisor wait.

A terminal that is held (Ctrl-S, a pager) must not stall the mesh: a thread writes, and when it is too far behind lines
are dropped and their number told.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from types import TracebackType
from typing import Final, TextIO

_QUEUE_LINES: Final = 10_000
_LAST_LINES_SECONDS: Final = 2.0


class Console:
    """Writes ``speaker | line`` to ``stream``; use as a context manager. ``line`` may be called from one thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_QUEUE_LINES)
        self._dropped = 0
        self._width = 0
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)

    def __enter__(self) -> Console:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits a little for what is still to be written."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_LAST_LINES_SECONDS)
        self._thread.join(_LAST_LINES_SECONDS)

    def line(self, speaker: str, text: str) -> None:
        """Queue one line; control characters are shown escaped, so that no child can write on the terminal."""
        self._width = max(self._width, min(len(speaker), 40))
        shown = "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)
        try:
            if self._dropped:
                self._lines.put_nowait(f"… {self._dropped} lines were dropped, as nobody took them\n")
                self._dropped = 0
            self._lines.put_nowait(f"{speaker:<{self._width}} | {shown}\n")
        except queue.Full:
            self._dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more: that must not end the mesh
                self._stream.write(line)
                if self._lines.empty():
                    self._stream.flush()
