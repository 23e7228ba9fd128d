"""A call as whoever makes it sees it: messages to write, messages to read, an end. One reader and one writer at a time.

Whatever goes wrong is an RpcError with the call's status. A call that is given up by cancellation is cancelled on the
wire too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from google.protobuf.message import DecodeError

from sidecar.http2 import frames as h2
from sidecar.rpc.messages import framed
from sidecar.rpc.methods import Answer, Method, Request
from sidecar.rpc.status import RpcError, Status, StatusCode
from sidecar.rpc.stream import RpcStream

if TYPE_CHECKING:
    from sidecar.rpc.connection import Connection

REQUEST_LIMIT_BYTES = 64 << 10
"""Of one message to the control plane, which takes no larger ones."""


class Call(Generic[Request, Answer]):
    """One call on ``connection``; made by it."""

    def __init__(self, connection: Connection, stream: RpcStream, method: Method[Request, Answer]) -> None:
        self._connection = connection
        self._stream = stream
        self._method = method

    async def write(self, message: Request, *, last: bool = False) -> None:
        """Send ``message``; returns when flow control has let all of it out. RpcError if the call is over before.

        Given up midway, it leaves half a message behind, so the call is cancelled.
        """
        stream = self._stream
        data = framed(message.SerializeToString(), REQUEST_LIMIT_BYTES)
        self._check()
        self._connection.send(stream, data, end=last)
        try:
            while stream.pending:
                await self._connection.progress()
        except BaseException:
            self.cancel()
            raise
        if not last:
            self._check()

    async def read(self) -> Answer | None:
        """The next message; None when the other side has ended the call with OK. RpcError for any other end."""
        stream = self._stream
        while True:
            data = self._connection.take(stream)
            if data is not None:
                return self._parsed(data)
            if stream.status is not None:
                if stream.status.code is StatusCode.OK:
                    return None
                raise RpcError(stream.status)
            await self._connection.progress()

    def cancel(self) -> None:
        """End the call at once; harmless when it is over."""
        self._connection.cancel(self._stream)

    def _check(self) -> None:
        """RpcError if nothing can be written any more."""
        status = self._stream.status
        if status is not None and status.code is StatusCode.OK:
            raise RpcError(Status(code=StatusCode.CANCELLED, details="the other side has ended the call"))
        if status is not None:
            raise RpcError(status)

    def _parsed(self, data: bytes) -> Answer:
        try:
            return self._method.answer.FromString(data)
        except DecodeError as error:
            status = Status(code=StatusCode.INTERNAL, details=f"not a {self._method.answer.DESCRIPTOR.name}: {error}")
            self._connection.break_off(self._stream, status, h2.CANCEL)
            raise RpcError(status) from error
