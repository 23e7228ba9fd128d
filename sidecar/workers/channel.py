"""One end of the socket pair between the parent and a worker: messages out and in, until either side ends. Adapter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from sidecar.workers.messages import Decoder, Message, MessageError, encode

PEER_GONE: Final = "the other end is gone"


class ChannelOwner(Protocol):
    """Who speaks by a channel."""

    def message(self, message: Message) -> None:
        """One came."""

    def channel_lost(self, reason: str) -> None:
        """No more will come, and none can be sent; called once."""


class Channel(asyncio.Protocol):
    """Sends whole messages and takes whole messages; what breaks the language ends it."""

    def __init__(self, owner: ChannelOwner) -> None:
        self._owner = owner
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._why = PEER_GONE
        self.full = False
        """The other end is slow to read."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when ``full`` has ended."""

    @classmethod
    async def over(cls, sock: socket.socket, owner: ChannelOwner) -> Channel:
        """A channel over one end of a pair, which belongs to it from now on."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(owner), sock=sock)
        return channel

    def send(self, message: Message) -> None:
        """Send it, if anybody is there."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def close(self) -> None:
        """What was sent still goes out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except MessageError as error:
            self._why = str(error)
            self.abort()
            return
        for message in messages:
            self._owner.message(message)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # A process that ends with something unread resets its channel: that is no other end than a quiet one.
        quiet = exc is None or isinstance(exc, ConnectionError)
        self._owner.channel_lost(self._why if quiet else str(exc))
