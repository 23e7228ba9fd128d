"""One worker as its parent sees it: a process started afresh, and what is said with it. Adapter.

Not forked: neither the event loop nor OpenSSL's state would survive it. Nothing but the number of a descriptor is on
its command line; all else, the private key too, goes over the socket pair, which has no name that others could open.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Final

from sidecar.exposition import Family
from sidecar.workers import counting
from sidecar.workers.channel import PEER_GONE, Channel
from sidecar.workers.messages import (
    Answer,
    AppRefused,
    Attached,
    Connections,
    Counted,
    Discard,
    Drain,
    Enforce,
    Flowed,
    Message,
    MessageError,
    Noted,
    NotedSince,
    Prepare,
    Tapped,
)

ANSWER_SECONDS: Final = 10.0
_END_SECONDS: Final = 1.0


class WorkerLostError(Exception):
    """The worker is gone, or of no use any more; it has been ended."""


class WorkerProcess:
    """A process and its channel; a worker that does not answer in time, or not in our language, is killed."""

    def __init__(
        self,
        number: int,
        on_tapped: Callable[[WorkerProcess, Tapped], None],
        on_app_refused: Callable[[int], None],
        on_flows: Callable[[WorkerProcess, Flowed], None] = lambda _worker, _message: None,
    ) -> None:
        self.number = number
        self.attached = asyncio.Event()
        self.enforces = 0
        """The revision; 0 before the first."""
        self.report: list[Family] = []
        """All families, as last told."""
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit status, once it has one (negative: the signal)."""
        self.version = ""
        self.reason = ""
        """Why it was ended from here, if it was."""
        self._on_tapped = on_tapped
        self._on_app_refused = on_app_refused
        self._on_flows = on_flows
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._serial = 0
        self._waiting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self, inherited: tuple[int, ...]) -> None:
        """Run it; OSError when the machine will not."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "sidecar.workers", str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *inherited),
                )  # fmt: skip
            undo.pop_all()
        self._waiting = asyncio.get_running_loop().create_task(self._wait(self._process), name="worker's end")
        self._channel = await Channel.over(ours, self)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if self._channel is not None:
            self._channel.close()
        if not self.gone.done():
            self.gone.set_result(status)

    def send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    async def prepare(self, snapshot: bytes, received: float) -> str:
        """Why it refuses this snapshot; empty when it is ready for it. Raises WorkerLostError."""
        return (await self._ask(lambda serial: Prepare(serial=serial, received=received, blob=snapshot))).error

    async def enforce(self, revision: int) -> None:
        """Have it enforce what it prepared. Raises WorkerLostError."""
        await self._ask(lambda serial: Enforce(serial=serial))
        self.enforces = revision

    async def discard(self) -> None:
        """Have it forget that. Raises WorkerLostError."""
        await self._ask(lambda serial: Discard(serial=serial))

    async def connections(self, limit: int) -> bytes:
        """What lives in it, as JSON. Raises WorkerLostError."""
        return (await self._ask(lambda serial: Connections(serial=serial, limit=limit))).blob

    async def noted(self, request_id: str) -> bytes:
        """What it noted of a call, as JSON; empty if nothing. Raises WorkerLostError."""
        return (await self._ask(lambda serial: Noted(serial=serial, request_id=request_id))).blob

    async def noted_since(self, moment: float, limit: int) -> bytes:
        """The latest calls that it noted since then, as a JSON list. Raises WorkerLostError."""
        return (await self._ask(lambda serial: NotedSince(serial=serial, moment=moment, limit=limit))).blob

    async def _ask(self, question: Callable[[int], Message]) -> Answer:
        self._serial += 1
        serial = self._serial
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[serial] = answer
        self.send(question(serial))
        if self._channel is None or self.gone.done():
            self._drop_asked()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await answer
        except TimeoutError as error:
            self.kill(f"it did not answer in {ANSWER_SECONDS:.0f} s")
            raise WorkerLostError(self.reason) from error
        finally:
            self._asked.pop(serial, None)
        return answer.result()

    def drain(self, seconds: float) -> None:
        """Have it end; one that cannot be talked with yet, or any more, is killed."""
        if self._channel is None:
            self.kill("it cannot be talked with")
        self.send(Drain(seconds=seconds))

    def kill(self, reason: str) -> None:
        """End it without a word to it."""
        if self._process is not None and self._process.returncode is None:
            self.reason = self.reason or reason
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _drop_asked(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerLostError(self.reason or PEER_GONE))

    # -- the channel's owner ------------------------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        match message:
            case Attached():
                self.version = message.version
                self.attached.set()
            case Answer():
                asked = self._asked.get(message.serial)
                if asked is not None and not asked.done():
                    asked.set_result(message)
            case Counted():
                try:
                    self.report = counting.from_bytes(message.blob)
                except MessageError as error:
                    self.kill(str(error))
            case Tapped():
                self._on_tapped(self, message)
            case AppRefused():
                self._on_app_refused(message.port)
            case Flowed():
                self._on_flows(self, message)
            case _:
                self.kill(f"{type(message).__name__} is no worker's")

    def channel_lost(self, reason: str) -> None:
        """It is ending, or cannot be talked with: then it must end, since it would never hear what is denied."""
        self._channel = None
        self._drop_asked()
        if reason != PEER_GONE:
            self.kill(reason)
        elif not self.gone.done():
            asyncio.get_running_loop().call_later(_END_SECONDS, self.kill, "it closed its channel and did not end")
