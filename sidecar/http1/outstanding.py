"""The queue of exchanges on one connection, and the ground state that the two sides of the inspector share.

Owns the order of responses, the answers made on this side, and the end of the connection. `request_side` and
`response_side` build on it, one upon the other; `inspector` tops them.
"""

from __future__ import annotations

from typing import Final

from sidecar.http1.body import Body, CountedBody
from sidecar.http1.ending import as_answer
from sidecar.http1.exchange import Exchange, Judge
from sidecar.http1.head import Heads
from sidecar.http1.websocket import FrameEdges

OUTSTANDING_LIMIT: Final = 64
"""Requests in flight on one connection; the machine is paused beyond."""

HEAD: Final = 0
BODY: Final = 1
SWALLOW: Final = 2
HOLD: Final = 3
RAW: Final = 4
DEAD: Final = 5


class Outstanding:
    """State of one connection; see `inspector` for what the parts mean together.

    `current` is the exchange whose response is due, `later` holds those behind it, `newest` is the one whose request
    came last. Client bytes are in step HEAD, BODY, SWALLOW, HOLD, RAW or DEAD; server bytes in HEAD, BODY, RAW or DEAD.
    """

    __slots__ = (
        "_blank",
        "_body",
        "_client_out",
        "_client_step",
        "_current",
        "_draining",
        "_frames",
        "_heads",
        "_held",
        "_interim",
        "_judge",
        "_judge_done",
        "_judge_request",
        "_judge_response",
        "_known_requests",
        "_known_responses",
        "_later",
        "_newest",
        "_partial",
        "_ready",
        "_response_body",
        "_response_keeps",
        "_response_partial",
        "_server_out",
        "_server_step",
        "_simple",
        "_waits",
        "abort",
        "attention",
        "client_bytes",
        "client_ended",
        "close_after",
        "paused",
        "raw",
        "server_bytes",
    )

    def __init__(self, judge: Judge, heads: Heads) -> None:
        self._judge = judge
        self._judge_request = judge.request
        self._judge_response = judge.response
        self._judge_done = judge.done
        self._heads = heads
        self._known_requests = heads.requests.get
        self._known_responses = heads.responses.get
        self._current: Exchange | None = None
        self._later: list[Exchange] = []
        self._newest: Exchange | None = None
        self._client_step = HEAD
        self._server_step = HEAD
        self._ready = True  # nothing outstanding, nothing buffered: the next request may take the short way
        self._simple = False  # one ordinary request outstanding, nothing buffered: so may its response
        self._blank = False  # an empty line has been dropped since the last request
        self._partial = bytearray()
        self._response_partial = bytearray()
        self._held = bytearray()
        self._body: Body = CountedBody(0)
        self._response_body: Body = self._body
        self._response_keeps = True
        self._waits = False  # the request that begins what is held has no verdict yet
        self._interim = 0
        self._draining = False
        self._frames: FrameEdges | None = None  # of a server that speaks WebSocket now
        self._client_out: list[bytes] = []
        self._server_out: list[bytes] = []
        self.attention = False
        self.paused = False
        self.raw = False
        self.close_after = False
        self.abort = False
        self.client_ended = False
        self.client_bytes = 0
        self.server_bytes = 0

    def outstanding(self) -> list[Exchange]:
        """The exchanges that have been judged and have not ended, oldest first."""
        return [exchange for exchange in (self._current, *self._later) if exchange is not None and exchange.method]

    def _push(self, exchange: Exchange) -> None:
        self._newest = exchange
        if self._current is None:
            self._current = exchange
        else:
            self._later.append(exchange)

    def _finish(self) -> None:
        """The current exchange has ended; the next one's response is due."""
        exchange = self._current
        self._current = self._later.pop(0) if self._later else None
        if exchange is not None and exchange.method:  # without a method it stands for bytes that were no request
            self._judge_done(exchange)
        if self._draining and self._current is None:
            self._shut(abort=False)

    def _answer(self, exchange: Exchange, response: bytes, *, close: bool) -> None:
        """Have ``exchange`` answered on this side when its turn comes."""
        exchange.local = as_answer(response, close=close, head_only=exchange.method == b"HEAD")
        exchange.local_close = close

    def _flush(self, out: list[bytes]) -> None:
        """Give the answers of this side whose turn has come."""
        while (exchange := self._current) is not None and exchange.local is not None and exchange.response_open:
            out.append(exchange.local)
            exchange.response_open = False
            self.attention = True
            if exchange.request_open:
                return
            self._finish()
            if exchange.local_close:
                self._shut(abort=False)

    def _shut(self, *, abort: bool) -> None:
        """Read no more from either side; whatever is outstanding has ended."""
        if self.close_after:
            return
        self._client_step = self._server_step = DEAD
        self.close_after = self.attention = True
        self.abort = abort
        self._partial.clear()
        self._response_partial.clear()
        self._held.clear()
        while (exchange := self._current) is not None:
            exchange.cut = exchange.cut or not self.raw
            self._finish()
        self._settle()

    def _settle(self) -> None:
        """Set the guards of the two short ways by all that the long ways know."""
        calm = (
            self._client_step == HEAD
            and self._server_step == HEAD
            and not (self._partial or self._response_partial or self._held or self._later)
            and not (self._blank or self._interim or self._draining or self.client_ended)
        )
        current = self._current
        self._ready = calm and current is None
        self._simple = (
            calm
            and current is not None
            and current.local is None
            and current.fields.plain
            and not current.request_open
            and current.response_open
            and not current.status
            and current.method != b"HEAD"
        )
