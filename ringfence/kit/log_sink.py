"""Where log lines wait for a slow reader, so that the event loop never does.

Standard error is often a pipe; when its reader stalls, a write to it blocks the whole process. Here lines are handed
to a thread, at most ``LIMIT_CHARACTERS`` of them wait, and what does not fit is dropped and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, Protocol

LIMIT_CHARACTERS: Final = 4 * 1024 * 1024
_LINGER_SECONDS: Final = 0.02  # gathers the lines of many requests into one write


class Lines(Protocol):
    """Where text can be written, such as a text stream."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class LogSink:
    """A text stream (``write``, ``flush``) in front of ``target``; ``close`` waits a bounded time for what waits.

    ``write`` is for one thread. No counter is written by both threads: what waits is the difference of two.
    """

    def __init__(self, target: Lines) -> None:
        self._target = target
        self._lines: deque[str] = deque()
        self._taken_characters = 0  # by write
        self._given_characters = 0  # by the thread
        self._closed = False
        self._wake = threading.Event()
        self._dropped_full = 0
        self._dropped_broken = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were not written: no room for them, or a target that takes none."""
        return self._dropped_full + self._dropped_broken

    @property
    def waiting_characters(self) -> int:
        """Taken and not yet written."""
        return self._taken_characters - self._given_characters

    def write(self, text: str) -> int:
        if self.waiting_characters > LIMIT_CHARACTERS:
            self._dropped_full += 1
            return 0
        self._taken_characters += len(text)
        self._lines.append(text)
        if not self._wake.is_set():
            self._wake.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread flushes."""

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._closed:
                threading.Event().wait(_LINGER_SECONDS)
            self._wake.clear()
            # A line that is appended meanwhile is taken now, or wakes the next round.
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            text = "".join(lines)
            try:
                self._target.write(text)
                self._target.flush()
            except (OSError, ValueError):
                self._dropped_broken += len(lines)
            self._given_characters += len(text)
            if self._closed and not self._lines:
                return

    def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for at most ``seconds``."""
        self._closed = True
        self._wake.set()
        self._thread.join(seconds)
