"""The machine on one HTTP/2 application connection: every request on it is judged and passed on; so is every response.

Theory of operation. One connection of the client, one of the server, the same stream ids on both. Frames are cut from
the bytes, looked at, and passed on as they are; of a chunk in which nothing changes the same object is returned. Two
`Direction`s do that, one for each sender; `Streams` holds the exchanges and ends them early.

    HEADERS        read (mostly: looked up), judged; the fields that the judge adds are appended to the block, each a
                   literal that no table takes up. A block that loses a field, or follows one that was kept back, is
                   written anew (`direction`: In step)
    DATA           counted against content-length and the connection's window
    WINDOW_UPDATE  windows are end to end. Exceptions: content that is dropped here is given back here, and a few
                   kilobytes of the client's connection window are kept for the content of answers made here
    SETTINGS       end to end, and so are their acknowledgements; some values are lowered (`mediation`). Between the
                   sending of a setting and its acknowledgement the wider of the old and the new value holds
    PING, GOAWAY   end to end; RST_STREAM too, and it ends the exchange
    the rest       dropped: priorities, unknown frames. PUSH_PROMISE breaks the connection

Refusals: a request by a whole response of ours (and RST_STREAM(NO_ERROR) if it was not complete); the server never
hears of it. A flaw of one message costs its stream, a breach of the framing or a flood the connection, with GOAWAY to
whoever broke it.

The adapter writes what a call returns, and then, if `attention` is set, looks at the rest: `take_client`, `take_server`
(bytes to send after what the call returned), `close_after`. Whatever is returned ends between two frames. There is no
`paused`: an adapter bounds what it holds for a slow reader by not reading from the other side; of what is made here an
end may leave a bounded amount unread (`Direction.put`), then it is cut off.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.http2 import frames as h2
from sidecar.http2.answer import Answer
from sidecar.http2.direction import UNREAD_LIMIT_BYTES
from sidecar.http2.exchange import Exchange, Judge
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import APP_BUDGETS, FloodError, FloodGuard
from sidecar.http2.heads import Heads
from sidecar.http2.held import PAUSED_BYTES
from sidecar.http2.reading import LARGEST_ID
from sidecar.http2.request_side import RequestDirection
from sidecar.http2.response_side import ResponseDirection
from sidecar.http2.streams import DRAIN_PING, Streams


class Inspector:
    """One application connection, seen from between client and server. See the module's docstring.

    ``monotonic`` is read for frames that have a budget, never for ordinary ones.

    client_bytes, server_bytes    received from either
    """

    __slots__ = ("_feed_client", "_feed_server", "_requests", "_responses", "_shared", "client_bytes", "server_bytes")

    def __init__(self, judge: Judge, heads: Heads, *, monotonic: Callable[[], float]) -> None:
        self._shared = shared = Streams(judge)
        self._requests = RequestDirection(shared, heads, FloodGuard(monotonic, APP_BUDGETS))
        self._responses = ResponseDirection(shared, heads, FloodGuard(monotonic, APP_BUDGETS))
        self._requests.other = self._responses
        self._responses.other = self._requests
        shared.requests = self._requests
        shared.responses = self._responses
        self._feed_client = self._requests.feed
        self._feed_server = self._responses.feed
        self.client_bytes = 0
        self.server_bytes = 0

    # --- bytes ---

    def from_client(self, data: bytes) -> bytes:
        """Take client bytes; returns what the server is to be sent."""
        self.client_bytes += len(data)
        if self._shared.close_after:
            return b""
        try:
            passed = self._feed_client(data)
            if self._responses.unread_bytes > UNREAD_LIMIT_BYTES:
                self._shared.break_client(FloodError("unread"))
            return passed
        except PeerError as error:
            self._shared.break_client(error)
            return self._requests.take()

    def from_server(self, data: bytes) -> bytes:
        """Take server bytes; returns what the client is to be sent."""
        self.server_bytes += len(data)
        if self._shared.close_after:
            return b""
        try:
            passed = self._feed_server(data)
            if self._requests.unread_bytes > UNREAD_LIMIT_BYTES:
                self._shared.break_server(FloodError("unread"))
            return passed
        except PeerError as error:
            self._shared.break_server(error)
            return self._responses.take()

    # --- what the adapter looks at ---

    @property
    def attention(self) -> bool:
        """Something besides the returned bytes changed; `take_client` clears it."""
        return self._shared.attention

    @property
    def close_after(self) -> bool:
        """Write what there is, then close both connections."""
        return self._shared.close_after

    @property
    def idle(self) -> bool:
        """No request is outstanding."""
        return not self._shared.streams and not self._requests.holds

    @property
    def paused(self) -> bool:
        """Feed no more client bytes for now: much of them waits for a verdict (`go_on`)."""
        return self._requests.held_bytes > PAUSED_BYTES

    @property
    def holds(self) -> bool:
        """A request waits for its verdict."""
        return self._requests.holds

    @property
    def progress(self) -> str:
        """For what the connection waits, so that a sweep can set its deadline: ``closed``, ``preface`` (with the
        client's SETTINGS), ``frame`` (one of the client's, or a header block, has begun and is not complete),
        ``streams`` or ``idle``."""
        if self._shared.close_after:
            return "closed"
        if not self._requests.began:
            return "preface"
        if self._requests.in_block:
            return "frame"
        return "streams" if not self.idle else "idle"

    def outstanding(self) -> list[Exchange]:
        """The exchanges that have been judged and have not ended, oldest first."""
        return list(self._shared.streams.values())

    def take_client(self) -> bytes:
        """Bytes for the client that were made on this side; to be sent after what the last call returned for it.

        Clears `attention`: the first thing to look at when it is set.
        """
        self._shared.attention = False
        return self._responses.take()

    def take_server(self) -> bytes:
        """Bytes for the server that were made on this side; to be sent after what the last call returned for it."""
        return self._requests.take()

    # --- what the adapter tells ---

    def refuse(self, exchange: Exchange, answer: Answer) -> None:
        """Say what a refused request is answered; only from within `Judge.request`, which then returns None."""
        exchange.local = answer

    def wait(self) -> None:
        """The request has no verdict yet: it, and those after it, are kept and judged anew by `go_on`; streams that are
        open go on. Only from within `Judge.request`, which then returns None; `Judge.done` is not called."""
        self._shared.waits = True

    def go_on(self) -> None:
        """What the request that waits needs is known: judge it. Not from within a call of the judge."""
        self._shared.attention = True
        try:
            self._requests.go_on()
        except PeerError as error:
            self._shared.break_client(error)

    def revoke(self, exchange: Exchange, answer: Answer) -> None:
        """End an exchange that had been permitted, in its protocol's words: ``answer`` where the response has not
        begun, trailers where it has and is gRPC, else a reset. The server is sent RST_STREAM(CANCEL). Not from within
        a call of the judge."""
        if self._shared.streams.get(exchange.stream_id) is exchange:
            self._shared.end(exchange, answer, client_code=h2.CANCEL, server_code=h2.CANCEL)

    def fail(self, answer: Answer | None) -> None:
        """The server cannot be had, or is gone: give ``answer`` to every request whose response is due, and close. A
        client that has been told nothing yet, and asked nothing, is just left."""
        self._shared.fail(answer)

    def drain(self) -> None:
        """Take no new requests, and close when the last has ended.

        A client may have sent some that have not arrived: it is told to stop, and what it sent until it read that is
        still served (RFC 9113 section 6.8).
        """
        shared = self._shared
        if shared.draining or shared.close_after:
            return
        if not shared.greeted and self.idle:
            shared.shut()
            return
        shared.draining = True
        shared.greet()
        shared.goaway_client(LARGEST_ID, h2.NO_ERROR)
        self._responses.put(h2.ping(DRAIN_PING))

    def client_eof(self) -> bytes:
        """The client will send no more; returns what the server is still to be sent. Requests that it has not completed
        are cut; the others are answered."""
        shared = self._shared
        shared.client_ended = True
        for exchange in self.outstanding():
            if exchange.request_open:
                shared.end(exchange, None, client_code=h2.CANCEL, server_code=h2.CANCEL)
        if not shared.streams:
            shared.shut()
        return self._requests.take()

    def server_eof(self) -> bytes:
        """The server will send no more; returns what the client is still to be sent: every response that is due is
        given in its place."""
        if not self._shared.close_after:
            self._shared.lose_server("the server closed before its response was complete")
        return self._responses.take()

    def cut(self) -> None:
        """The connection is over: every exchange that is still outstanding is done, and `cut`."""
        self._shared.shut()
