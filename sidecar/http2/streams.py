"""The exchanges of one connection, and how one ends before its time: towards the client, the server and the judge.

Stream ids are the same on both sides. What is made here goes out between whole frames, through the direction that
leads to its receiver.
"""

from __future__ import annotations

from typing import Final

from sidecar.http2 import frames as h2
from sidecar.http2.answer import Answer
from sidecar.http2.direction import Direction
from sidecar.http2.exchange import Exchange, Judge
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError
from sidecar.http2.mediation import OWN_SETTINGS, Told
from sidecar.http2.reading import LARGEST_ID
from sidecar.http2.reasons import ANSWERED, Malformed, MalformedError, reason_of
from sidecar.http2.table import Field

DRAIN_PING: Final = b"ringfnce"
"""Opaque bytes of the ping that tells when the client has seen the first GOAWAY of a drain (RFC 9113 section 6.8)."""


class Streams:
    """State that both directions share; `Inspector` is its face for the adapter."""

    __slots__ = (
        "abort",
        "attention",
        "client_ended",
        "close_after",
        "connect_offered",
        "draining",
        "goaway_last_id",
        "greeted",
        "judge",
        "judge_done",
        "last_id",
        "requests",
        "responses",
        "streams",
        "turning_away",
        "waits",
    )

    requests: Direction
    responses: Direction

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.judge_done = judge.done
        self.streams: dict[int, Exchange] = {}
        """By stream id, in the order of their opening."""
        self.last_id = 0
        """Highest stream id that the client has used."""
        self.connect_offered = False
        self.greeted = False
        """The client has been sent SETTINGS, so it may be sent anything."""
        self.goaway_last_id = LARGEST_ID
        """As told to the client last; it may only fall."""
        self.draining = False
        self.turning_away = False
        """Requests from now on are ignored: the client knows that they were not processed."""
        self.client_ended = False
        self.waits = False
        """The judge has no verdict yet on the request that it was asked about."""
        self.attention = False
        self.close_after = False
        self.abort = False

    # --- the course of an exchange ---

    def finish(self, exchange: Exchange) -> None:
        """Both messages have ended, one way or the other."""
        del self.streams[exchange.stream_id]
        self.judge_done(exchange)
        if not self.streams and (self.turning_away or self.client_ended) and not self.requests.holds:
            self.shut()

    def shut(self) -> None:
        """Read no more of either side; what is outstanding is cut off."""
        if self.close_after:
            return
        self.close_after = self.attention = True
        self.requests.drop_input()
        self.responses.drop_input()
        left = list(self.streams.values())
        self.streams.clear()
        for exchange in left:
            exchange.cut = True
            self.judge_done(exchange)

    # --- towards the client ---

    def greet(self) -> None:
        """The first frame that a client gets must be SETTINGS (RFC 9113 section 3.4)."""
        if not self.greeted:
            self.greeted = True
            self.responses.unacked.append(Told(ours=True))
            self.responses.put(h2.settings(OWN_SETTINGS))

    def goaway_client(self, last_id: int, code: int, debug: bytes = b"") -> None:
        self.goaway_last_id = min(self.goaway_last_id, last_id)
        self.responses.put(h2.goaway(self.goaway_last_id, code, debug))

    def answer(self, stream_id: int, answer: Answer, *, grpc: bool, head_only: bool) -> None:
        """Give a whole response in the place of the server, which must not have begun one."""
        self.greet()
        way = self.responses
        limit = way.receiver_frame_bytes
        if grpc:
            block = way.own_block(answer.trailers_only())
            way.put(h2.header_frames(stream_id, block, end=True, limit_bytes=limit))
            return
        size = len(answer.content)
        fits = not head_only and 0 < size <= min(way.own_room_bytes, way.receiver_window_bytes, limit)
        block = way.own_block(answer.head(with_content=fits))
        way.put(h2.header_frames(stream_id, block, end=not fits, limit_bytes=limit))
        if fits:
            way.own_room_bytes -= size
            way.put(h2.frame(h2.DATA, h2.FLAG_END_STREAM, stream_id, answer.content))

    def reset_client(self, stream_id: int, code: int, *, request_open: bool) -> None:
        """End a stream towards the client, and drop what the client sends on it until it reads that."""
        self.greet()
        self.responses.put(h2.rst_stream(stream_id, code))
        if request_open:
            self.requests.remember_late(stream_id, passes=False)

    def _tell(self, exchange: Exchange, answer: Answer | None, code: int) -> None:
        """End the client's side of ``exchange``: by ``answer`` as far as its response still has room for one, else by a
        reset with ``code``."""
        stream_id = exchange.stream_id
        answered = True
        if answer is None or not exchange.response_open:
            answered = False
        elif not exchange.status:
            self.answer(stream_id, answer, grpc=exchange.grpc, head_only=exchange.method == b"HEAD")
        elif exchange.grpc:
            way = self.responses
            block = way.own_block(answer.trailers())
            way.put(h2.header_frames(stream_id, block, end=True, limit_bytes=way.receiver_frame_bytes))
        else:
            answered = False
        if answered:
            exchange.local = answer
            if exchange.request_open:
                self.reset_client(stream_id, h2.NO_ERROR, request_open=True)
        else:
            self.reset_client(stream_id, code, request_open=exchange.request_open)

    def _reset_server(self, exchange: Exchange, code: int) -> None:
        self.requests.put(h2.rst_stream(exchange.stream_id, code))
        if exchange.response_open:
            self.responses.remember_late(exchange.stream_id, passes=False)

    # --- early ends ---

    def refused(self, exchange: Exchange) -> None:
        """The judge has refused a new request: the server never hears of it."""
        self._tell(exchange, exchange.local, h2.INTERNAL_ERROR)
        self.finish(exchange)

    def end(self, exchange: Exchange, answer: Answer | None, *, client_code: int, server_code: int) -> None:
        """End a living exchange on both sides."""
        exchange.cut = True
        self._tell(exchange, answer, client_code)
        self._reset_server(exchange, server_code)
        self.finish(exchange)

    def malformed_request(self, stream_id: int, open_: bool, fields: list[Field], error: MalformedError) -> None:
        """The client's new request is refused for its form: no exchange comes of it."""
        answer = self.judge.malformed(error.reason, error.detail)
        if not self.spend_reset():
            return
        if error.reason not in ANSWERED:
            self.reset_client(stream_id, h2.PROTOCOL_ERROR, request_open=open_)
            return
        grpc = any(name == b"content-type" and value.startswith(b"application/grpc") for name, value in fields)
        self.answer(stream_id, answer, grpc=grpc, head_only=(b":method", b"HEAD") in fields)
        if open_:
            self.reset_client(stream_id, h2.NO_ERROR, request_open=True)

    def client_fault(self, exchange: Exchange, error: MalformedError) -> None:
        """The client broke the rules of a stream whose request has been passed on."""
        self.judge.malformed(error.reason, error.detail)
        if not self.spend_reset():
            return
        code = h2.STREAM_CLOSED if error.reason is Malformed.STREAM_CLOSED else h2.PROTOCOL_ERROR
        self.end(exchange, None, client_code=code, server_code=h2.CANCEL)

    def server_fault(self, exchange: Exchange, error: MalformedError) -> None:
        """The server's frames are no response: answer in its place, if that is still possible."""
        answer = self.judge.bad_response(exchange, error.reason, error.detail)
        self.end(exchange, answer, client_code=h2.INTERNAL_ERROR, server_code=h2.PROTOCOL_ERROR)

    def spend_reset(self) -> bool:
        """The client has cost a stream its life; False if it did so too often, whoever sends the reset, and all is
        over."""
        try:
            self.requests.guard.spend("reset")
        except FloodError as error:
            self.break_client(error)
        return not self.close_after

    # --- the end of the connection ---

    def break_client(self, error: PeerError) -> None:
        """The client broke the connection."""
        if self.close_after:
            return
        self.judge.broken(True, reason_of(error), error.detail)
        if self.requests.began:  # it does speak HTTP/2
            self.greet()
            self.goaway_client(self.last_id, error.code, error.detail.encode())
        self.shut()

    def break_server(self, error: PeerError) -> None:
        """The server broke the connection: its streams are answered in its place."""
        if self.close_after:
            return
        self.judge.broken(False, reason_of(error), error.detail)
        self.requests.put(h2.goaway(0, error.code, error.detail.encode()))
        self.lose_server(f"the server broke the connection: {error.detail}")

    def lose_server(self, detail: str) -> None:
        """The server says no more: every response that is due is given here, then the connection ends."""
        for exchange in list(self.streams.values()):
            answer = None
            if exchange.response_open:
                reason = Malformed.TRUNCATED if exchange.status else Malformed.NO_RESPONSE
                answer = self.judge.bad_response(exchange, reason, detail)
            self._lose(exchange, answer)
        self.leave()

    def fail(self, answer: Answer | None) -> None:
        """As `lose_server`, with the same ``answer`` for all that is outstanding."""
        for exchange in list(self.streams.values()):
            self._lose(exchange, answer)
        self.leave()

    def _lose(self, exchange: Exchange, answer: Answer | None) -> None:
        exchange.cut = exchange.response_open
        self._tell(exchange, answer, h2.INTERNAL_ERROR if exchange.response_open else h2.NO_ERROR)
        self.finish(exchange)

    def leave(self) -> None:
        """Say goodbye to the client. One that was told nothing yet is just left, as if it had not been let in."""
        if self.close_after:
            return
        if self.greeted:
            for told in self.requests.unacked:
                if not told.ours:
                    self.responses.put(h2.SETTINGS_ACK)
            self.requests.unacked.clear()
            self.goaway_client(self.requests.taken_id, h2.NO_ERROR)  # what waits for its verdict may be sent elsewhere
        self.shut()
