"""What was judged since the last report, counted: at most so many kinds of calls, whatever callers do. Pure.

Theory of operation. A relay asks ``FlowTable.of`` once for its caller and then tells ``CallerFlows.seen`` of each call:
for one like an earlier one this is a dict look-up. Where only the query, a number or a UUID is another, it is two or
three (``alike``). For a really new one the path is brought to its shape; that takes some microseconds, and a caller
that makes every call a new one is only looked at so many times between two reports, the rest is counted as unrecorded.
What no row can hold any more is counted so, too. Calls that are refused may fill one half of the table and no more:
whoever is permitted nothing can hide nobody who is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ringfence.policy.decision import Decision
from ringfence.policy.learning.flow import OTHER_METHOD
from ringfence.policy.learning.shapes import grpc_shape_of, shape_of
from ringfence.policy.paths import judged_path
from sidecar.flows.alike import LIMIT_BYTES, alike
from sidecar.flows.places import Met, Places
from sidecar.flows.rows import Row, RowKey, key_of
from sidecar.http1.lines import METHODS

LIMIT_ROWS: Final = 4096  # of calls that passed, and as many of calls that were refused
LIMIT_CALLER_ROWS: Final = 512  # of one caller, of each kind
LIMIT_CALLERS: Final = 2048
LIMIT_ADDRESSES: Final = 256  # of callers without an identity, for as long as the process lives
LIMIT_KNOWN: Final = 2048  # calls of one caller that are found by a look-up
LIMIT_KNOWN_OF_ALL: Final = 65_536
LIMIT_LOOKS: Final = 8192  # at calls of one caller that are not, between two reports


class CallerFlows:
    """The calls of one caller to one port in one protocol."""

    __slots__ = (
        "_alike",
        "_held",
        "_known",
        "_looks",
        "_places",
        "_rows",
        "_table",
        "address",
        "caller",
        "port",
        "protocol",
    )

    def __init__(self, table: FlowTable, caller: str, port: int, protocol: str, address: str) -> None:
        self.caller = caller
        self.address = address
        self.port = port
        self.protocol = protocol
        self._rows: dict[RowKey, Row] = {}
        self._held = {True: 0, False: 0}  # of them, by whether the calls passed
        self._table = table
        self._known: dict[tuple[bytes, bytes], Row] = {}  # by method and path as sent
        self._alike: dict[tuple[bytes, bytes], Row] = {}  # by method and ``alike`` of the path
        self._looks = 0
        self._places = {True: Places(), False: Places()}  # of calls that passed, and of those refused

    def seen(self, decision: Decision, method: bytes, target: bytes, shadow: Decision | None = None) -> None:
        """A request was judged. ``target`` in origin form, as sent."""
        row = self._known.get((method, target))
        if row is None or row.decision is not decision or row.shadow is not shadow:
            row = self._found(decision, method, target.partition(b"?")[0], shadow)
            if row is None:
                self._table.unrecorded += 1
                return
        row.count += 1

    def missed(self, method: bytes, target: bytes) -> None:
        """The app answered the last such request that it knows no such thing."""
        path = target.partition(b"?")[0]
        row = self._known.get((method, path)) or self._alike.get((method, alike(path)))
        if row is not None and row.missed < row.count:
            row.missed += 1

    def connected(self, decision: Decision, shadow: Decision | None = None) -> None:
        """A connection was judged unread."""
        row = self._row(key_of(decision, shadow, "", None))
        if row is None:
            self._table.unrecorded += 1
        else:
            row.count += 1

    def told(self, key: RowKey, *, count: int, missed: int, first_seen: float) -> None:
        """So many calls were counted elsewhere, by a worker."""
        passed = key.passed
        if key.segments is not None and key.segments != ("*",):
            segments, changed = self._places[passed].placed(key.segments, self._met(passed))
            key = replace(key, segments=segments)
            if changed:
                self._place_again(passed)
        row = self._row(key)
        if row is None:
            self._table.unrecorded += count
            return
        row.count += count
        row.missed += missed
        row.first_seen = min(row.first_seen, first_seen)

    def taken(self) -> list[Row]:
        """The rows since this was asked last; forgets them, and keeps where paths branch."""
        rows = list(self._rows.values())
        for row in rows:
            if row.key.segments is not None:
                self._places[row.key.passed].counted(row.key.segments, row.count - row.missed)
        self._rows.clear()
        self._forget()
        self._held = {True: 0, False: 0}
        self._looks = 0
        return rows

    def _found(self, decision: Decision, method: bytes, path: bytes, shadow: Decision | None) -> Row | None:
        """The row of a request that is not known as sent; ``path``: without its query."""
        row = self._known.get((method, path))
        if row is not None and row.decision is decision and row.shadow is shadow:
            return row
        like = alike(path)
        row = self._alike.get((method, like)) if like else None
        if row is None or row.decision is not decision or row.shadow is not shadow:
            row = self._look(decision, method, path, shadow)
            if row is not None and like and not row.has_digits:
                self._remember(self._alike, (method, like), row)
        if row is not None and len(path) <= LIMIT_BYTES:
            self._remember(self._known, (method, path), row)
        return row

    def _remember(self, known: dict[tuple[bytes, bytes], Row], key: tuple[bytes, bytes], row: Row) -> None:
        if key not in known:
            if len(known) >= LIMIT_KNOWN:
                self._table.known -= len(known)
                known.clear()
            if self._table.known >= LIMIT_KNOWN_OF_ALL:
                return
            self._table.known += 1
        known[key] = row

    def _forget(self) -> None:
        self._table.known -= len(self._known) + len(self._alike)
        self._known.clear()
        self._alike.clear()

    def _look(self, decision: Decision, method: bytes, target: bytes, shadow: Decision | None) -> Row | None:
        if self._looks >= LIMIT_LOOKS:
            return None
        self._looks += 1
        name = method.decode("ascii") if method in METHODS else OTHER_METHOD
        path = judged_path(target)
        segments: tuple[str, ...] | None = None
        if path == b"*":
            segments = ("*",)
        elif path is not None:
            shape = grpc_shape_of(path) if self.protocol == "grpc" else shape_of(path)
            passed = decision.permitted
            segments, changed = self._places[passed].placed(shape, self._met(passed))
            if changed:
                self._place_again(passed)
        row = self._row(key_of(decision, shadow, name, segments))
        if row is not None:
            row.decision, row.shadow = decision, shadow
        return row

    def _met(self, passed: bool) -> Met:
        return lambda: (
            (row.key.segments, row.count - row.missed)
            for row in self._rows.values()
            if row.key.segments is not None and row.key.passed is passed
        )

    def _row(self, key: RowKey) -> Row | None:
        row = self._rows.get(key)
        if row is None:
            passed = key.passed
            if self._held[passed] >= LIMIT_CALLER_ROWS or not self._table.room(self, passed=passed):
                return None
            self._held[passed] += 1
            row = self._rows[key] = Row(key, self._table.now())
        return row

    def _place_again(self, passed: bool) -> None:
        """A place has become a parameter: so it is for what was counted before, too."""
        self._forget()
        places, met = self._places[passed], self._met(passed)
        for row in list(self._rows.values()):
            key = row.key
            if key.segments is None or key.segments == ("*",) or key.passed is not passed:
                continue
            segments, _ = places.placed(key.segments, met)
            if segments == key.segments:
                continue
            del self._rows[key]
            row.key = replace(key, segments=segments)
            held = self._rows.setdefault(row.key, row)
            if held is not row:
                held.count += row.count
                held.missed += row.missed
                held.first_seen = min(held.first_seen, row.first_seen)
                self._held[passed] -= 1
                self._table.freed(passed=passed)


class FlowTable:
    """The callers of one sidecar, or of all its workers (``sidecar.flows.reports``)."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now``: Unix seconds."""
        self.now = now
        self.unrecorded = 0
        """Calls judged since the last report that no row counts."""
        self.known = 0
        """Calls of all callers that are found by a look-up."""
        self._callers: dict[tuple[str, int, str, str], CallerFlows] = {}
        self._addresses: set[str] = set()
        self._active: dict[CallerFlows, None] = {}
        self._left = {True: LIMIT_ROWS, False: LIMIT_ROWS}

    @property
    def crowded(self) -> bool:
        """Whether a report is due before its time."""
        return min(self._left.values()) < LIMIT_ROWS // 4

    @property
    def empty(self) -> bool:
        return not self._active and not self.unrecorded

    def of(self, caller: str, port: int, protocol: str, address: str = "") -> CallerFlows:
        """The flows of a caller (its SPIFFE ID, empty without one); asked for once a connection. ``address``: of a
        caller without one, who is told by it, unless there are too many of them."""
        if address and address not in self._addresses:
            if len(self._addresses) < LIMIT_ADDRESSES:
                self._addresses.add(address)
            else:
                address = ""
        key = (caller, port, protocol, address)
        found = self._callers.pop(key, None)
        if found is None:
            if len(self._callers) >= LIMIT_CALLERS:
                del self._callers[next(iter(self._callers))]  # what it counted since the last report is in _active
            found = CallerFlows(self, caller, port, protocol, address)
        self._callers[key] = found
        return found

    def room(self, flows: CallerFlows, *, passed: bool) -> bool:
        """Take the room of one row, if there is any."""
        if not self._left[passed]:
            return False
        self._left[passed] -= 1
        self._active[flows] = None
        return True

    def freed(self, *, passed: bool) -> None:
        """Two rows have become one."""
        self._left[passed] += 1

    def take(self) -> tuple[list[tuple[CallerFlows, list[Row]]], int]:
        """All that was counted since the last time, and how many calls were not."""
        found = [(flows, flows.taken()) for flows in self._active]
        self._active.clear()
        self._left = {True: LIMIT_ROWS, False: LIMIT_ROWS}
        unrecorded, self.unrecorded = self.unrecorded, 0
        return found, unrecorded
