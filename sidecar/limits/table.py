"""One time for each who is limited, in a file in memory that the workers of a sidecar share. Adapter.

Theory of operation. A fixed number of slots, in buckets of eight; a key has one bucket, and in it any slot. A slot
whose time has passed says no more than an empty one and is used again, so the table needs no clearing and never grows.
If all eight of a bucket are in use, the key's limit has a time that all such keys share: a crowd of callers makes the
limit stricter for the crowd, never laxer, and costs no memory. Several processes change a bucket under a lock on its
byte of the file, which the kernel takes back from a process that dies. It is held for microseconds and waited for 50 ms
at most, once a second: a process that was stopped while it held one must not stop the others' traffic; they go on
without while it stands still, and may permit too many so long. Once they get that lock, they wait for locks again.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable
from typing import Final

from sidecar.limits.gcra import Bucket

_WAYS: Final = 8
_BUCKETS: Final = 4096
_SHARED: Final = 1024  # times of limits whose keys found no room
_SECRET_BYTES: Final = 16
_SLOT: Final = struct.Struct("=QQ")  # key, time
_BUCKET: Final = struct.Struct(f"={2 * _WAYS}Q")
_TIME: Final = struct.Struct("=Q")
_SHARED_AT: Final = _SECRET_BYTES + _BUCKETS * _BUCKET.size
SIZE_BYTES: Final = _SHARED_AT + _SHARED * _TIME.size
_WAIT_SECONDS: Final = 0.05  # a holder that was preempted is back long before
_IMPATIENCE_SECONDS: Final = 1.0
_LATEST: Final = 2**64 - 1


class LimitTable:
    """The times; ``descriptor`` is of the file, to be inherited, or None for a process that shares with nobody."""

    def __init__(self, memory: mmap.mmap, descriptor: int | None, now: Callable[[], int]) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self._now = now
        self._patient_from = 0.0  # monotonic seconds: until then no lock is waited for
        self._given_up = -1  # the lock that was waited for in vain
        self._secret = bytes(memory[:_SECRET_BYTES])

    @classmethod
    def alone(cls, now: Callable[[], int]) -> LimitTable:
        """A table of this process; ``now``: nanoseconds of a clock that never goes back."""
        memory = mmap.mmap(-1, SIZE_BYTES)
        memory[:_SECRET_BYTES] = secrets.token_bytes(_SECRET_BYTES)
        return cls(memory, None, now)

    @classmethod
    def shared(cls, descriptor: int, now: Callable[[], int]) -> LimitTable:
        """The table in a file that ``new_file`` made, here or in the process that this one inherited it from."""
        return cls(mmap.mmap(descriptor, SIZE_BYTES), descriptor, now)

    def key(self, *parts: str) -> int:
        """The key of who is limited by what. Keyed hashing: nobody can choose names that meet in one bucket."""
        text = "\0".join(parts).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._secret).digest(), "little") or 1

    def ask(self, bucket: Bucket, key: int, group: int) -> int:
        """Use one unit; 0, or for how many nanoseconds that is not allowed. ``group``: the key of the limit itself."""
        locked, at, now = self._find(key, group)
        paid_at, wait = bucket.ask(self._read(at), now)
        self._write(at, paid_at)
        self._unlock(locked)
        return wait

    def charge(self, bucket: Bucket, key: int, group: int, units: int) -> int:
        """Use units whatever is allowed; for how many nanoseconds to pause."""
        locked, at, now = self._find(key, group)
        paid_at, wait = bucket.charge(self._read(at), now, units)
        self._write(at, paid_at)
        self._unlock(locked)
        return wait

    def give_back(self, bucket: Bucket, key: int, group: int) -> None:
        """Take back one ``ask`` that was allowed: another limit did not allow the same thing."""
        locked, at, _ = self._find(key, group)
        self._write(at, max(0, self._read(at) - bucket.cost_ns(1)))
        self._unlock(locked)

    def _find(self, key: int, group: int) -> tuple[list[int], int, int]:
        """What is locked, where the time of this key is, and the time now."""
        number = key % _BUCKETS
        start = _SECRET_BYTES + number * _BUCKET.size
        locked: list[int] = []
        self._lock(number, locked)
        now = self._now()  # not before the lock: another process may have written a later time while this one waited
        slots = _BUCKET.unpack_from(self._memory, start)
        free = -1
        for way in range(0, 2 * _WAYS, 2):
            if slots[way] == key:
                return locked, start + 8 * way + 8, now
            if free < 0 and slots[way + 1] <= now:
                free = way
        if free >= 0:
            at = start + 8 * free
            _SLOT.pack_into(self._memory, at, key, 0)
            return locked, at + 8, now
        self._unlock(locked)
        number = group % _SHARED
        self._lock(_BUCKETS + number, locked)
        return locked, _SHARED_AT + number * _TIME.size, self._now()

    def _read(self, at: int) -> int:
        time: int = _TIME.unpack_from(self._memory, at)[0]
        return time

    def _write(self, at: int, time: int) -> None:
        _TIME.pack_into(self._memory, at, min(time, _LATEST))

    def _lock(self, byte: int, locked: list[int]) -> None:
        if self._descriptor is None:
            return
        gives_up_at = 0.0
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError:
                now = time.monotonic()
                gives_up_at = gives_up_at or now + (_WAIT_SECONDS if now >= self._patient_from else 0.0)
                if now >= gives_up_at:
                    if now >= self._patient_from:
                        self._patient_from, self._given_up = now + _IMPATIENCE_SECONDS, byte
                    return
                os.sched_yield()
            else:
                if byte == self._given_up:  # its holder goes on
                    self._patient_from, self._given_up = 0.0, -1
                locked.append(byte)
                return

    def _unlock(self, locked: list[int]) -> None:
        while locked:
            fcntl.lockf(self._descriptor or 0, fcntl.LOCK_UN, 1, locked.pop())


def new_file() -> int:
    """A descriptor of an empty table, for this process and those that inherit it."""
    descriptor = os.memfd_create("limits", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE_BYTES)
    os.pwrite(descriptor, secrets.token_bytes(_SECRET_BYTES), 0)
    return descriptor
