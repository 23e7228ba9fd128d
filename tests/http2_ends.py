"""One HTTP/2 inspector between two ends, driven as a relay drives it, with a transcript. The ends are frames written by
hand (`Between`) or hyper-h2 on both sides (`Pair`), which checks all that it is sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hpack

from sidecar.http2 import Answer, Broken, Exchange, Heads, Inspector, Malformed, literal
from sidecar.http2 import frames as f

Fields = list[tuple[bytes, bytes]]

IDENTITY_NAME = b"x-forwarded-client-cert"
IDENTITY_VALUE = b"URI=spiffe://shop.example/ns/shop/sa/web"
IDENTITY = literal(IDENTITY_NAME, IDENTITY_VALUE)
FORBIDDEN = Answer(
    status=403,
    message="denied: path_not_allowed; request 1234",
    fields=((b"x-ringfence-refusal", b"reason=path_not_allowed; id=1234; origin=o"),),
    content=b'{"error":"denied"}\n',
)
BAD_REQUEST = Answer(status=400, message="bad request", content=b"bad\n")
BAD_GATEWAY = Answer(status=502, message="no response", content=b"gw\n")
GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/orders"), (b":authority", b"orders:8080")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
GRPC: Fields = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/shop.Orders/Get"),
    (b":authority", b"orders:8080"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
OK: Fields = [(b":status", b"200"), (b"content-type", b"text/plain")]


class Judging:
    """The judge. ``refuses`` says which requests are refused; the rest get ``inserted``."""

    def __init__(
        self,
        *,
        heads: Heads | None = None,
        inserted: bytes = b"",
        refuses: Callable[[Exchange], bool] = lambda _: False,
        answer: Answer | None = FORBIDDEN,
        bad_gateway: Answer | None = BAD_GATEWAY,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.inserted = inserted
        self.refuses = refuses
        self.answer = answer
        self.bad_gateway = bad_gateway
        self.events: list[tuple[object, ...]] = []
        self.exchanges: list[Exchange] = []
        self.inspector = Inspector(self, heads or Heads(), monotonic=monotonic)

    def request(self, exchange: Exchange) -> bytes | None:
        self.exchanges.append(exchange)
        self.events.append(("request", exchange.stream_id, exchange.method, exchange.target))
        if self.refuses(exchange):
            if self.answer is not None:
                self.inspector.refuse(exchange, self.answer)
            return None
        return self.inserted

    def response(self, exchange: Exchange, status: int) -> None:
        self.events.append(("response", exchange.stream_id, status))

    def done(self, exchange: Exchange) -> None:
        self.events.append(("done", exchange.stream_id, exchange.status, exchange.grpc_status, exchange.cut))

    def malformed(self, reason: Malformed, detail: str) -> Answer:
        self.events.append(("malformed", reason))
        return BAD_REQUEST

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> Answer | None:
        self.events.append(("bad_response", exchange.stream_id, reason))
        return self.bad_gateway

    def broken(self, by_client: bool, reason: Broken, detail: str) -> None:
        self.events.append(("broken", "client" if by_client else "server", reason))

    @property
    def flaws(self) -> list[object]:
        return [event[-1] for event in self.events if event[0] in ("malformed", "bad_response", "broken")]

    @property
    def open_count(self) -> int:
        """Requests asked about and not yet done: 0 at the end of every life."""
        names = [event[0] for event in self.events]
        return names.count("request") - names.count("done")


class Frame:
    """A frame as it was sent."""

    def __init__(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self.kind = kind
        self.flags = flags
        self.stream_id = stream_id
        self.payload = payload

    @property
    def code(self) -> int:
        """Error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == f.RST_STREAM else self.payload[4:8], "big")

    @property
    def increment(self) -> int:
        return int.from_bytes(self.payload, "big")

    def __repr__(self) -> str:
        return f"Frame({self.kind}, {self.flags}, {self.stream_id}, {self.payload!r})"


def cut(data: bytes) -> Iterator[Frame]:
    """The frames of ``data``, which must end with one."""
    if data.startswith(f.PREFACE):
        data = data[len(f.PREFACE) :]
    while data:
        length = int.from_bytes(data[:3], "big")
        assert len(data) >= 9 + length, "output ends inside a frame"
        yield Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length])
        data = data[9 + length :]


class Seen:
    """What one end was sent: frames, and header blocks as its decoder reads them."""

    def __init__(self) -> None:
        self.data = b""
        self.decoder = hpack.Decoder()
        self.frames: list[Frame] = []
        self._pending: list[bytes] = []

    def take(self, data: bytes) -> list[Frame]:
        """Take what was sent in one go; its frames. A CONTINUATION is joined to its HEADERS."""
        self.data += data
        new: list[Frame] = []
        for frame in cut(data):
            if frame.kind == f.CONTINUATION:
                new[-1].payload += frame.payload
                new[-1].flags |= frame.flags
            else:
                new.append(frame)
        for frame in new:
            if frame.kind == f.HEADERS:
                frame.headers = [(bytes(n), bytes(v)) for n, v in self.decoder.decode(frame.payload, raw=True)]  # type: ignore[attr-defined]
        self.frames += new
        return new

    def headers(self, stream_id: int) -> list[Fields]:
        return [x.headers for x in self.frames if x.kind == f.HEADERS and x.stream_id == stream_id]  # type: ignore[attr-defined]

    def content(self, stream_id: int) -> bytes:
        return b"".join(x.payload for x in self.frames if x.kind == f.DATA and x.stream_id == stream_id)

    def codes(self, stream_id: int) -> list[int]:
        return [x.code for x in self.frames if x.kind == f.RST_STREAM and x.stream_id == stream_id]

    def ended(self, stream_id: int) -> bool:
        return any(x.flags & 1 for x in self.frames if x.kind in (f.DATA, f.HEADERS) and x.stream_id == stream_id)

    def goaways(self) -> list[int]:
        return [x.code for x in self.frames if x.kind == f.GOAWAY]

    def kinds(self) -> list[int]:
        return [x.kind for x in self.frames]


class Between(Judging):
    """Frames written by hand on both sides; `client` and `server` give what the other side was sent for them."""

    def __init__(
        self,
        *,
        greet: bool = True,
        client_settings: dict[int, int] | None = None,
        server_settings: dict[int, int] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.to_server = Seen()
        self.to_client = Seen()
        self.client_encoder = hpack.Encoder()
        self.server_encoder = hpack.Encoder()
        if greet:
            self.client(f.PREFACE + f.settings(client_settings or {}))
            self.server(f.settings(server_settings or {}) + f.SETTINGS_ACK)
            self.client(f.SETTINGS_ACK)
            self.to_server.frames.clear()
            self.to_client.frames.clear()

    # the adapter

    def client(self, *pieces: bytes) -> list[Frame]:
        out = b""
        for piece in pieces:
            out += self.inspector.from_client(piece)
            out += self._attend()[1]
        return self.to_server.take(out)

    def server(self, *pieces: bytes) -> list[Frame]:
        out = b""
        for piece in pieces:
            out += self.inspector.from_server(piece)
            answer, forward = self._attend(keep_client=True)
            out += answer
            self.to_server.take(forward)
        return self.to_client.take(out)

    def tell(self, act: Callable[[], object]) -> None:
        """Have the inspector do ``act``, and write what comes of it."""
        returned = act()
        assert returned in (None, b"")
        self.attend()

    def attend(self) -> None:
        self.to_server.take(self._attend()[1])

    def _attend(self, *, keep_client: bool = False) -> tuple[bytes, bytes]:
        inspector = self.inspector
        if not inspector.attention:
            return b"", b""
        answer, forward = inspector.take_client(), inspector.take_server()
        if not keep_client:
            self.to_client.take(answer)
            answer = b""
        return answer, forward

    # what the ends say

    def ask(self, stream_id: int, fields: Fields = GET, *, end: bool = True, body: bytes | None = None) -> list[Frame]:
        """A request in the client's own compression."""
        block = self.client_encoder.encode(fields)
        data = f.header_frames(stream_id, block, end=end and body is None, limit_bytes=1 << 14)
        if body is not None:
            data += f.frame(f.DATA, f.FLAG_END_STREAM if end else 0, stream_id, body)
        return self.client(data)

    def reply(self, stream_id: int, fields: Fields = OK, *, end: bool = True, body: bytes | None = None) -> list[Frame]:
        """A response in the server's own compression."""
        block = self.server_encoder.encode(fields)
        data = f.header_frames(stream_id, block, end=end and body is None, limit_bytes=1 << 14)
        if body is not None:
            data += f.frame(f.DATA, f.FLAG_END_STREAM if end else 0, stream_id, body)
        return self.server(data)

    def state(self) -> tuple[object, ...]:
        inspector = self.inspector
        return (self.to_server.data, self.to_client.data, self.events, inspector.close_after, inspector.idle)


class Pair(Judging):
    """hyper-h2 as client and as application; `pump` carries bytes until there is silence."""

    def __init__(self, *, chunk: Callable[[bytes], Iterable[bytes]] = lambda data: [data], **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._chunk = chunk
        self.client = h2.connection.H2Connection(
            config=h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self.server = h2.connection.H2Connection(
            config=h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        self.client_events: list[h2.events.Event] = []
        self.server_events: list[h2.events.Event] = []
        self.requests: dict[int, Fields] = {}
        self.responses: dict[int, Fields] = {}
        self.request_trailers: dict[int, Fields] = {}
        self.response_trailers: dict[int, Fields] = {}
        self.uploads: dict[int, bytearray] = defaultdict(bytearray)
        self.downloads: dict[int, bytearray] = defaultdict(bytearray)
        self.client_resets: dict[int, int] = {}
        self.server_resets: dict[int, int] = {}
        self.ended_at_client: set[int] = set()
        self.ended_at_server: set[int] = set()
        self.client.initiate_connection()
        self.server.initiate_connection()

    def pump(self) -> None:
        inspector = self.inspector
        while True:
            up = self.client.data_to_send()
            down = self.server.data_to_send()
            if not up and not down:
                return
            for piece in self._chunk(up) if up else ():
                self._to_server(inspector.from_client(piece))
                self._attend()
            for piece in self._chunk(down) if down else ():
                self._to_client(inspector.from_server(piece))
                self._attend()

    def _attend(self) -> None:
        if self.inspector.attention:
            self._to_client(self.inspector.take_client())
            self._to_server(self.inspector.take_server())

    def attend(self) -> None:
        self._attend()
        self.pump()

    def _to_server(self, data: bytes) -> None:
        if not data:
            return
        for event in self.server.receive_data(data):
            self.server_events.append(event)
            if isinstance(event, h2.events.RequestReceived):
                self.requests[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.TrailersReceived):
                self.request_trailers[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                self.uploads[event.stream_id] += event.data
                credit(self.server, event)
            elif isinstance(event, h2.events.StreamReset):
                self.server_resets[event.stream_id] = event.error_code
            elif isinstance(event, h2.events.StreamEnded):
                self.ended_at_server.add(event.stream_id)

    def _to_client(self, data: bytes) -> None:
        if not data:
            return
        for event in self.client.receive_data(data):
            self.client_events.append(event)
            if isinstance(event, h2.events.ResponseReceived):
                self.responses[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.TrailersReceived):
                self.response_trailers[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                self.downloads[event.stream_id] += event.data
                credit(self.client, event)
            elif isinstance(event, h2.events.StreamReset):
                self.client_resets[event.stream_id] = event.error_code
            elif isinstance(event, h2.events.StreamEnded):
                self.ended_at_client.add(event.stream_id)


def credit(end: h2.connection.H2Connection, event: h2.events.DataReceived) -> None:
    """Open both windows again at once: hyper-h2's own bookkeeping waits for ever where a window was made small."""
    if event.flow_controlled_length:
        end.increment_flow_control_window(event.flow_controlled_length)
        if event.stream_ended is None:
            with suppress(h2.exceptions.StreamClosedError):
                end.increment_flow_control_window(event.flow_controlled_length, event.stream_id)


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))
