"""The machine on one HTTP/2 connection of the app whose requests are spread over several endpoints. Sans-IO.

Theory of operation. The app's connection ends here (`ClientEnd`); to each endpoint in use leads a connection of its own
(`Leg`), opened when a request is first to go there. A request is judged, an endpoint is chosen for it, its header
section is written anew, in literals that refer to no table (so what an index means to one connection can never matter
to another), and what follows keeps its bytes: of DATA only the frame's header is new.

    windows        a stream's are end to end: what its receiver opens is told to its sender, so a reader that is slow on
                   one stream holds up no other. A connection's are local, and bound what is held of it
    PING, SETTINGS answered here; the client's initial window is told to each leg
    RST_STREAM     end to end; REFUSED_STREAM sends the request elsewhere
    5xx, resets    end to end, unless the judge lets the request be repeated elsewhere
    GOAWAY         of an endpoint: it gets no more requests, and those that it says it has not begun go elsewhere

A flaw of one message costs its stream, a breach of the framing or a flood its connection: of a client all calls, of an
endpoint only those that it had. The app's connection outlives every leg.

The adapter feeds bytes, and after each call writes what there is: `take_client`, `touched_legs`; opens and closes
connections for legs (`legs_to_open`, `legs_to_close`), and closes the app's once `close_after` is set.
"""

from __future__ import annotations

from collections.abc import Callable

from ringfence.routing.model import RetryOn
from sidecar.balance import Member, Outcome
from sidecar.http2.answer import Answer
from sidecar.http2.direction import UNREAD_LIMIT_BYTES
from sidecar.http2.exchange import Exchange
from sidecar.http2.frames import CANCEL, PeerError
from sidecar.http2.guard import FloodError
from sidecar.http2.heads import Heads
from sidecar.split.call import Call
from sidecar.split.calls import Calls
from sidecar.split.chooser import Chooser
from sidecar.split.client_end import ClientEnd
from sidecar.split.judge import SplitJudge
from sidecar.split.leg import Leg


class Splitter:
    """See the module's docstring. ``monotonic`` is read once a request, and for frames that have a budget."""

    __slots__ = ("_calls", "_client")

    def __init__(self, judge: SplitJudge, chooser: Chooser, heads: Heads, *, monotonic: Callable[[], float]) -> None:
        def make_leg(member: Member, window_bytes: int) -> Leg:
            return Leg(self._calls, heads, member, window_bytes)

        self._calls = calls = Calls(judge, chooser, monotonic, make_leg)
        self._client = calls.client = ClientEnd(calls, heads)

    # --- bytes ---

    def from_client(self, data: bytes) -> None:
        """Take client bytes."""
        if not self._calls.close_after:
            try:
                self._client.feed(data)
            except PeerError as error:
                self._calls.break_client(error)

    def from_leg(self, leg: Leg, data: bytes) -> None:
        """Take bytes of an endpoint."""
        if not leg.closed:
            unread_bytes = self._client.unread_bytes
            try:
                leg.feed(data)
            except PeerError as error:
                self._calls.break_leg(leg, error)
            if self._client.unread_bytes > max(unread_bytes, UNREAD_LIMIT_BYTES):
                # It adds header blocks to those that a full client has not read: the cost is its own, not the client's.
                self._calls.break_leg(leg, FloodError("unread"))

    # --- what the adapter looks at ---

    @property
    def client_touched(self) -> bool:
        """There are bytes for the client."""
        return self._client.touched

    def take_client(self) -> bytes:
        """Bytes for the client."""
        return self._client.take()

    def touched_legs(self) -> list[Leg]:
        """Legs for whose endpoints there are bytes (`Leg.take`), since this was asked last."""
        calls = self._calls
        touched = calls.touched
        if not touched:
            return []
        calls.touched = []
        return [end for end in touched if isinstance(end, Leg)]

    def legs_to_open(self) -> list[Leg]:
        """Legs for which a connection is wanted, since this was asked last."""
        calls = self._calls
        if not calls.to_open:
            return []
        legs, calls.to_open = calls.to_open, []
        return [leg for leg in legs if not leg.closed]

    def legs_to_close(self) -> list[Leg]:
        """Legs whose connection is over: to be closed behind what `Leg.take` has; since this was asked last."""
        calls = self._calls
        if not calls.to_close:
            return []
        legs, calls.to_close = calls.to_close, []
        return legs

    @property
    def close_after(self) -> bool:
        """Write what there is, then close the app's connection."""
        return self._calls.close_after

    @property
    def idle(self) -> bool:
        """No request is outstanding."""
        return not self._client.streams

    @property
    def progress(self) -> str:
        """As `Inspector.progress`."""
        if self._calls.close_after:
            return "closed"
        if not self._client.began:
            return "preface"
        if self._client.in_block:
            return "frame"
        return "streams" if self._client.streams else "idle"

    def outstanding(self) -> list[Exchange]:
        """The calls that have been judged and have not ended, oldest first."""
        return list(self._client.streams.values())

    # --- what the adapter tells ---

    def refuse(self, exchange: Exchange, answer: Answer) -> None:
        """Say what a refused request is answered; only from within `Judge.request`, which then returns None."""
        exchange.local = answer

    def revoke(self, exchange: Exchange, answer: Answer) -> None:
        """As `Inspector.revoke`."""
        call = self._client.streams.get(exchange.stream_id)
        if call is exchange and call is not None:
            self._calls.end(call, answer, client_code=CANCEL, leg_code=CANCEL)

    def client_full(self, full: bool) -> None:
        """The app does, or does not, leave unread what it is sent."""
        _full(self._client, full)

    def leg_full(self, leg: Leg, full: bool) -> None:
        """The same of an endpoint."""
        _full(leg, full)
        if not full and self._calls.waiting:
            self._calls.freed(leg)

    def leg_late(self, leg: Leg) -> None:
        """``leg`` has had its time to open."""
        self._calls.leg_late(leg)

    def leg_leaves(self, leg: Leg) -> None:
        """``leg`` is to take no new requests, and to close after its last."""
        self._calls.leave(leg)

    def leg_lost(self, leg: Leg, cause: object, *, again: bool = True) -> None:
        """The connection of ``leg`` could not be had, or is over; ``cause``: see `SplitJudge.unreachable`. ``again``:
        it was the endpoint's fault, so what waits goes there, and what the judge lets be repeated; else only to
        one that is open, and the endpoint is not blamed."""
        self._calls.leg_lost(leg, cause, again=again)

    def try_again(self, exchange: Exchange) -> bool:
        """The endpoint that has a call is too slow: whether the call has gone to another."""
        call = self._client.streams.get(exchange.stream_id)
        if call is not exchange or call is None:
            return False
        return self._calls.repeat(call, (RetryOn.RESET_BEFORE_RESPONSE,), Outcome.FAILED, CANCEL)

    def keep(self) -> None:
        """The endpoints have changed; what those that are gone have goes on to its end."""
        self._calls.keep()

    def give_up(self, before: float, cause: object) -> None:
        """Answer the calls that have waited for an endpoint since before this time (monotonic seconds)."""
        for call in list(self._calls.waiting):
            if call.waiting_since is not None and call.waiting_since < before:
                self._calls.lose(call, cause)

    def drain(self) -> None:
        """As `Inspector.drain`."""
        self._calls.drain()

    def client_eof(self) -> None:
        """The client will send no more. Requests that it has not completed are cut; the others are answered."""
        calls = self._calls
        calls.client_ended = True
        for call in list(self._client.streams.values()):
            if call.request_open and not calls.close_after:
                calls.end(call, None, client_code=CANCEL, leg_code=CANCEL)
        if not self._client.streams:
            calls.shut()

    def cut(self) -> None:
        """The connection is over: every call that is outstanding is done, and `cut`."""
        self._calls.shut()


def _full(end: ClientEnd | Leg, full: bool) -> None:
    end.full = full
    if not full:
        end.unread_bytes = 0
        if end.waiting:
            end.push_waiting()


__all__ = ["Call", "Leg", "Splitter"]
