"""Takes connections in, no more than so many at a time, each counted from its first packet on.

A server of the library's counts a connection once it has shaken hands. Whoever opens connections and says nothing would
then have as many as the process has descriptors, and the control plane would have none for its sidecars.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, cast

from ringfence.kit.log import Logger

_PAUSE_SECONDS: Final = 0.2


class Served(Protocol):
    """Of what serves a connection: its transport, None before it has shaken hands and after its end."""

    @property
    def transport(self) -> asyncio.Transport | None: ...


class Door:
    """``make``: what serves one more connection, an asyncio.Protocol too; ``most``: of all that shake hands and all
    that have."""

    def __init__(
        self,
        make: Callable[[], Served],
        context: ssl.SSLContext,
        *,
        most: int,
        handshake_seconds: float,
        log: Logger,
    ) -> None:
        self._make = make
        self._context = context
        self._most = most
        self._handshake_seconds = handshake_seconds
        self._log = log
        self._guests: list[_Guest] = []

    async def keep(self, listener: socket.socket) -> None:
        """Take in who comes to ``listener``, which does not block, until cancelled; who has not shaken hands by then is
        let go."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    taken, address = await loop.sock_accept(listener)
                except OSError as error:  # gone again already, or no descriptor is left
                    self._log.warning("connection not accepted", error=str(error))
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                self._make_room()
                served = self._make()
                task = loop.create_task(self._shake(taken, served), name="webhook handshake")
                self._guests.append(_Guest(taken, str(address[0]), served, task))
                await asyncio.sleep(0)  # while more wait at the door, accepting one does not wait
        finally:
            for guest in self._guests:
                if not guest.has_shaken:
                    guest.let_go()

    def _make_room(self) -> None:
        """One too many is not kept waiting. Of the source that has the most, so that who opens many loses his own, the
        oldest goes that has not shaken hands, or else the oldest."""
        self._guests = [one for one in self._guests if one.is_here]
        if len(self._guests) < self._most:
            return
        crowded, _ = Counter(one.source for one in self._guests).most_common(1)[0]
        theirs = [one for one in self._guests if one.source == crowded]
        gone = next((one for one in theirs if not one.has_shaken), theirs[0])
        self._guests.remove(gone)
        gone.let_go()

    async def _shake(self, taken: socket.socket, served: Served) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast("asyncio.Protocol", served),
                taken,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except OSError:  # its fault: it speaks no TLS of ours, or left, or took too long
            taken.close()


class _Guest:
    """One connection, from its first packet on; ``shaking``: the task that shakes hands with it."""

    def __init__(self, taken: socket.socket, source: str, served: Served, shaking: asyncio.Task[None]) -> None:
        self.source = source
        self._taken = taken
        self._served = served
        self._shaking = shaking
        shaking.add_done_callback(self._shaken)

    @property
    def has_shaken(self) -> bool:
        return self._served.transport is not None

    @property
    def is_here(self) -> bool:
        transport = self._served.transport
        return not self._shaking.done() if transport is None else not transport.is_closing()

    def let_go(self) -> None:
        if self._served.transport is not None:
            self._served.transport.abort()
        self._shaking.cancel()

    def _shaken(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # perhaps before it began
            self._taken.close()
