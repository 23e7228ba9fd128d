"""Structured log lines: one JSON object a line, a constant message, facts as fields.

Every line has ``ts`` (RFC 3339, UTC, milliseconds), ``level``, ``logger``, ``msg``; the rest are the caller's fields.
Values must be plain (str, int, float, bool, None, list, dict); bytes and objects are shown by ``str`` and cut at 2 KiB,
so that no peer can write a page into the log. All but printable ASCII is escaped, so that none can end a line or speak
to the terminal of whoever reads it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from ringfence.kit.clock import Clock, SystemClock

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_VALUE_LIMIT_CHARACTERS: Final = 2048


# Made once: ``json.dumps`` with arguments of its own makes an encoder for each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_quote = json.encoder.encode_basestring_ascii
_HEADS_LIMIT: Final = 256
_OWN_KEYS: Final = frozenset(("ts", "level", "logger", "msg"))


def _plain(value: object) -> object:
    """What JSON can carry of ``value``, bounded in size."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:64]]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in list(value.items())[:64]}
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _VALUE_LIMIT_CHARACTERS else text[:_VALUE_LIMIT_CHARACTERS] + "…"


def _encoded(value: object) -> str:
    """``_encode(_plain(value))``; the kinds of value that nearly all fields have, at a tenth of the price."""
    kind = type(value)
    if kind is int:
        return repr(value)
    if isinstance(value, str):
        text = str(value)
        return _quote(text if len(text) <= _VALUE_LIMIT_CHARACTERS else text[:_VALUE_LIMIT_CHARACTERS] + "…")
    if kind is float and value - value == 0:  # type: ignore[operator]  # finite
        return repr(value)
    return _encode(_plain(value))


class _Sink:
    """Where the lines of a family of loggers go, and from which level on; and the second that was stamped last."""

    __slots__ = ("level", "second", "second_text", "stream")

    def __init__(self, level: int, stream: TextIO) -> None:
        self.level = level
        self.stream = stream
        self.second = -1
        self.second_text = ""


class Logger:
    """Writes lines at or above ``level`` to ``stream``; ``bind`` makes a child with fields that every line carries."""

    __slots__ = ("_clock", "_fields", "_heads", "_sink", "_taken", "name")

    def __init__(
        self,
        name: str,
        *,
        level: str = "info",
        stream: TextIO | None = None,
        clock: Clock | None = None,
        fields: dict[str, object] | None = None,
    ) -> None:
        self.name = name
        self._sink = _Sink(LEVELS[level], stream or sys.stderr)
        self._clock = clock or SystemClock()
        self._bind({key: _plain(value) for key, value in (fields or {}).items()})

    def _bind(self, fields: dict[str, object]) -> None:
        self._fields = fields
        self._taken = _OWN_KEYS | fields.keys()
        self._heads: dict[tuple[str, str], str] = {}  # by level and message, both constants of the program's text

    def bind(self, name: str | None = None, **fields: object) -> Logger:
        child = Logger.__new__(Logger)
        child.name = name or self.name
        child._sink = self._sink
        child._clock = self._clock
        child._bind({**self._fields, **{key: _plain(value) for key, value in fields.items()}})
        return child

    @property
    def level(self) -> str:
        """The level in force for this logger and all that share its stream."""
        return next(name for name, number in LEVELS.items() if number == self._sink.level)

    def set_level(self, level: str) -> None:
        """Change the level for this logger and all that share its stream; KeyError if ``level`` is no level."""
        self._sink.level = LEVELS[level]

    def enabled(self, level: str) -> bool:
        return LEVELS[level] >= self._sink.level

    def log(self, level: str, msg: str, fields: dict[str, object], at: float | None = None) -> None:
        """``at``: when it was, Unix seconds; now, if it is not said."""
        if not self.enabled(level):
            return
        ts = self._stamp(self._clock.now() if at is None else at)
        stream = self._sink.stream
        if self._taken.isdisjoint(fields):
            head = self._heads.get((level, msg)) or self._head(level, msg)
            parts = [f'{{"ts":"{ts}",{head}']
            for key, value in fields.items():
                parts.append(f",{_quote(key)}:{_encoded(value)}")
            parts.append("}\n")
            stream.write("".join(parts))
        else:  # a field stands in the place of one that every line has
            line: dict[str, object] = {"ts": ts, "level": level, "logger": self.name, "msg": msg}
            line.update(self._fields)
            line.update((key, _plain(value)) for key, value in fields.items())
            stream.write(_encode(line) + "\n")
        stream.flush()

    def _head(self, level: str, msg: str) -> str:
        """What each line of this level and message says first, without its braces."""
        head = _encode({"level": level, "logger": self.name, "msg": msg, **self._fields})[1:-1]
        if len(self._heads) < _HEADS_LIMIT:
            self._heads[level, msg] = head
        return head

    def _stamp(self, now: float) -> str:
        """RFC 3339, UTC, milliseconds."""
        second = int(now)
        sink = self._sink
        if second != sink.second:
            sink.second = second
            sink.second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{sink.second_text}{int((now - second) * 1000):03d}Z"

    def debug(self, msg: str, **fields: object) -> None:
        self.log("debug", msg, fields)

    def info(self, msg: str, **fields: object) -> None:
        self.log("info", msg, fields)

    def warning(self, msg: str, **fields: object) -> None:
        self.log("warning", msg, fields)

    def error(self, msg: str, **fields: object) -> None:
        self.log("error", msg, fields)
