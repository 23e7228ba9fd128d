"""Who watches what is judged: at most a few taps, each with a filter and a bounded queue of lines. Pure.

``sidecar.recording`` asks ``Taps.any`` (one attribute) and, if somebody watches, tells what happened. A line is made
only if a tap wants it. What a slow reader misses is dropped, never waited for; its number stands in the next line.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from ringfence.spiffe import SpiffeId, SpiffeIdError

TAPS_LIMIT: Final = 4
QUEUE_LIMIT_LINES: Final = 1_000
_FILTER_LIMIT_CHARACTERS: Final = 2_048
_KINDS: Final = ("denied", "would_deny", "shadow")
_encode = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: nothing that a peer chose reaches a terminal raw


class TapFilterError(ValueError):
    """A filter that cannot be meant; the text names it and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a filter looks at: SPIFFE ID of the caller ("" for one without), ``namespace/name`` of the called."""

    caller: str
    service: str
    denied: bool
    would_deny: bool = False
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TapFilter:
    """What one tap wants; empty words want everything.

    ``denied``, ``would_deny``, ``shadow``: of these kinds; of several, whatever is of one of them.
    ``caller``: a SPIFFE ID, or a workload as ``name`` or ``namespace/name``, which is that of its service account.
    ``service``: ``name`` (of any namespace) or ``namespace/name``.
    """

    denied: bool = False
    caller: str = ""
    service: str = ""
    would_deny: bool = False
    shadow: bool = False

    def wants(self, seen: Seen) -> bool:
        if (self.denied or self.would_deny or self.shadow) and not (
            (self.denied and seen.denied) or (self.would_deny and seen.would_deny) or (self.shadow and seen.shadow)
        ):
            return False
        if self.service and not _names(self.service, seen.service):
            return False
        if not self.caller:
            return True
        if self.caller.startswith("spiffe://"):
            return seen.caller == self.caller
        return _names(self.caller, _workload(seen.caller))


def _names(wanted: str, full: str) -> bool:
    return wanted == full or ("/" not in wanted and wanted == full.rpartition("/")[2])


def _workload(spiffe_id: str) -> str:
    """``namespace/service-account`` of an ID of a workload, else "" (which no filter names)."""
    parts = spiffe_id.split("/")  # spiffe: "" domain ns N sa S
    return f"{parts[4]}/{parts[6]}" if len(parts) == 7 and parts[3] == "ns" and parts[5] == "sa" else ""


def read_filter(query: str) -> TapFilter:
    """The filter in a query string, ``denied=1&would_deny=1&shadow=1&from=…&to=…``, each at most once; TapFilterError
    if it is not one."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8, errors="strict")
    except ValueError as error:
        raise TapFilterError(f"not a query: {query[:80]!r} (name=value, joined by &)") from error
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in (*_KINDS, "from", "to"):
            raise TapFilterError(f"unknown filter {name[:80]!r} (there is {', '.join(_KINDS)}, from, to)")
        if name in given:
            raise TapFilterError(f"filter {name!r} is given twice")
        given[name] = value
    for kind in _KINDS:
        if given.get(kind, "0") not in ("0", "1"):
            raise TapFilterError(f"{kind}: {given[kind][:80]!r} (give 0 or 1)")
    caller = given.get("from", "")
    if caller.startswith("spiffe:"):
        try:
            caller = str(SpiffeId.parse(caller))
        except SpiffeIdError as error:
            raise TapFilterError(f"from: {error}") from error
    elif "from" in given:
        _check_name("from", caller)
    if "to" in given:
        _check_name("to", given["to"])
    return TapFilter(
        denied=given.get("denied") == "1",
        would_deny=given.get("would_deny") == "1",
        shadow=given.get("shadow") == "1",
        caller=caller,
        service=given.get("to", ""),
    )


def _check_name(what: str, text: str) -> None:
    parts = text.split("/")
    if not all(parts) or len(parts) > 2 or len(text) > _FILTER_LIMIT_CHARACTERS or not text.isprintable():
        mend = "give name or namespace/name" + (", or a SPIFFE ID" if what == "from" else "")
        raise TapFilterError(f"{what}: {text[:80]!r} ({mend})")


class Tap:
    """One reader: its filter, and the lines that it has not been given yet. A feed of ``sidecar.local_http``."""

    def __init__(self, taps: Taps, wanted: TapFilter, schedule: Callable[[Callable[[], None]], object]) -> None:
        self.filter = wanted
        self.missed = 0
        """Lines dropped since the last that was queued."""
        self._taps = taps
        self._schedule = schedule
        self._lines: deque[bytes] = deque()
        self._write: Callable[[bytes], None] | None = None
        self._full = False
        self._flushing = False

    def started(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._taps.enter(self)

    def full(self) -> None:
        self._full = True

    def room(self) -> None:
        self._full = False
        self._flush()

    def gone(self) -> None:
        self._write = None
        self._lines.clear()
        self._taps.leave(self)

    def take(self, line: dict[str, object]) -> None:
        """Queue a line, or count it as missed."""
        if len(self._lines) >= QUEUE_LIMIT_LINES:
            self.missed += 1
            return
        if self.missed:
            line = {**line, "missed": self.missed}
            self.missed = 0
        self._lines.append(_encode(line).encode("ascii") + b"\n")
        if not self._flushing and not self._full:
            self._flushing = True
            self._schedule(self._flush)  # all lines of a turn of the loop leave together

    def _flush(self) -> None:
        self._flushing = False
        if self._write is not None and self._lines and not self._full:
            lines = b"".join(self._lines)
            self._lines.clear()
            self._write(lines)


class Taps:
    """The open taps of a sidecar."""

    def __init__(self) -> None:
        self.any = False
        """Whether somebody watches: all that an event costs when nobody does."""
        self.changed: Callable[[], None] = lambda: None
        """Called when ``any`` may have changed."""
        self._open: list[Tap] = []

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Tap]:
        return iter(self._open)

    def enter(self, tap: Tap) -> None:
        self._open.append(tap)
        self.any = True
        self.changed()

    def leave(self, tap: Tap) -> None:
        if tap in self._open:
            self._open.remove(tap)
        self.any = bool(self._open)
        self.changed()

    def tell(self, seen: Seen, make: Callable[[], dict[str, object]]) -> None:
        """Something was judged; ``make`` gives the line, for those who want it."""
        line: dict[str, object] | None = None
        for tap in self._open:
            if tap.filter.wants(seen):
                if line is None:
                    line = make()
                tap.take(line)
