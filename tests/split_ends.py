"""One HTTP/2 splitter between a client and several endpoints, driven as a relay drives it. The ends are frames written
by hand (`Fan`) or hyper-h2 on all sides (`Web`), which checks all that it is sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack

from ringfence.routing.model import RetryOn
from ringfence.snapshot import Endpoint
from ringfence.spiffe import SpiffeId
from sidecar.balance import Member, Outcome
from sidecar.http2 import Answer, Broken, Exchange, Heads, Malformed
from sidecar.http2 import frames as f
from sidecar.split import Leg, Splitter, Unprocessed
from tests.http2_ends import BAD_GATEWAY, BAD_REQUEST, FORBIDDEN, GET, OK, Fields, Frame, Seen, credit

UNREACHABLE = Answer(status=503, message="upstream_unreachable; request id 1", content=b'{"error":"unavailable"}\n')
API = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/api")


def endpoint(number: int) -> Endpoint:
    return Endpoint(mesh_host="127.0.0.1", mesh_port=15_008 + number, address=f"10.0.0.{number}", spiffe_id=API)


class Turns:
    """A chooser that goes round, and remembers what it was told."""

    def __init__(self, count: int) -> None:
        self.members = [Member(endpoint(number)) for number in range(count)]
        self.next = 0
        self.outcomes: list[tuple[int, Outcome]] = []
        self.failures: list[int] = []

    def choose(self, now: float, avoid: Collection[Member]) -> Member | None:
        for _ in range(len(self.members)):
            self.next += 1
            found = self.members[self.next % len(self.members)]
            if found not in avoid and not found.gone:
                return found
        return None

    def begun(self, member: Member) -> None:
        member.outstanding += 1

    def ended(self, member: Member, seconds: float, outcome: Outcome) -> None:
        self.outcomes.append((number_of(member), outcome))
        member.outstanding -= 1

    def unreachable(self, member: Member, seconds: float) -> None:
        self.failures.append(number_of(member))

    @property
    def open_count(self) -> int:
        return sum(member.outstanding for member in self.members)


def number_of(member: Member) -> int:
    return member.endpoint.mesh_port - 15_008


class SplitJudging:
    """The judge, and the adapter's part that both harnesses share: legs by number, in the order of their opening."""

    def __init__(
        self,
        count: int = 3,
        *,
        heads: Heads | None = None,
        inserted: bytes = b"",
        refuses: Callable[[Exchange], bool] = lambda _: False,
        attempts: int = 100,
        repeats_on: Collection[RetryOn] = (),
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.inserted = inserted
        self.refuses = refuses
        self.attempts = attempts
        self.repeats_on = repeats_on
        self.events: list[tuple[object, ...]] = []
        self.exchanges: list[Exchange] = []
        self.chooser = Turns(count)
        self.splitter = Splitter(self, self.chooser, heads or Heads(), monotonic=monotonic)
        self.legs: list[Leg] = []
        self.closed: list[int] = []

    def request(self, exchange: Exchange) -> bytes | None:
        self.exchanges.append(exchange)
        self.events.append(("request", exchange.stream_id, exchange.target))
        if self.refuses(exchange):
            self.splitter.refuse(exchange, FORBIDDEN)
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
        return BAD_GATEWAY

    def broken(self, by_client: bool, reason: Broken, detail: str) -> None:
        self.events.append(("broken", "client" if by_client else "server", reason))

    def unreachable(self, exchange: Exchange, cause: object) -> Answer:
        self.events.append(("unreachable", exchange.stream_id, cause))
        return UNREACHABLE

    def sends_again(self, exchange: Exchange, why: Unprocessed, attempts: int) -> bool:
        if attempts >= self.attempts:
            return False
        self.events.append(("sent_again", exchange.stream_id, why))
        return True

    def repeats(self, exchange: Exchange, after: Sequence[RetryOn], attempts: int) -> bool:
        told = next((one for one in after if one in self.repeats_on), None)
        if told is None or exchange.method != b"GET" or attempts >= self.attempts:
            return False
        self.events.append(("repeated", exchange.stream_id, told))
        return True

    @property
    def flaws(self) -> list[object]:
        return [event[-1] for event in self.events if event[0] in ("malformed", "bad_response", "broken")]

    @property
    def open_count(self) -> int:
        """Requests asked about and not yet done: 0 at the end of every life."""
        names = [event[0] for event in self.events]
        return names.count("request") - names.count("done")

    def number(self, leg: Leg) -> int:
        """Of its endpoint."""
        return number_of(leg.member)


class Fan(SplitJudging):
    """Frames written by hand on all sides. Each leg that is wanted is opened at once, and greets unless ``silent``."""

    def __init__(
        self,
        count: int = 3,
        *,
        greet: bool = True,
        client_settings: dict[int, int] | None = None,
        server_settings: dict[int, int] | None = None,
        silent: Collection[int] = (),
        **kwargs: object,
    ) -> None:
        super().__init__(count, **kwargs)  # type: ignore[arg-type]
        self.to_client = Seen()
        self.to_leg: dict[int, Seen] = {}
        self.leg: dict[int, Leg] = {}
        self.server_settings = server_settings or {}
        self.silent = set(silent)
        self.client_encoder = hpack.Encoder()
        self.leg_encoder: dict[int, hpack.Encoder] = {}
        if greet:
            self.client(f.PREFACE + f.settings(client_settings or {}), f.SETTINGS_ACK)
            self.to_client.frames.clear()

    def flush(self) -> None:
        """As the adapter does after each call."""
        splitter = self.splitter
        while True:
            self.to_client.take(splitter.take_client())
            opened = splitter.legs_to_open()
            for leg in opened:
                number = self.number(leg)
                self.legs.append(leg)
                self.leg[number] = leg
                self.to_leg[number] = Seen()
                self.leg_encoder[number] = hpack.Encoder()
            touched = splitter.touched_legs()
            for leg in touched:
                data = leg.take()
                if self.leg.get(self.number(leg)) is leg:
                    self.to_leg[self.number(leg)].take(data)
            self.closed += [self.number(leg) for leg in splitter.legs_to_close()]
            for leg in opened:
                if self.number(leg) not in self.silent:
                    splitter.from_leg(leg, f.settings(self.server_settings) + f.SETTINGS_ACK)
            if not opened and not touched:
                self.to_client.take(splitter.take_client())
                return

    def client(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.splitter.from_client(piece)
            self.flush()

    def server(self, number: int, *pieces: bytes) -> None:
        for piece in pieces:
            self.splitter.from_leg(self.leg[number], piece)
            self.flush()

    def tell(self, act: Callable[[], None]) -> None:
        act()
        self.flush()

    def ask(self, stream_id: int, fields: Fields = GET, *, end: bool = True, body: bytes | None = None) -> int:
        """A request in the client's own compression; the endpoint that it went to, or -1."""
        before = {number: len(seen.frames) for number, seen in self.to_leg.items()}
        block = self.client_encoder.encode(fields)
        data = f.header_frames(stream_id, block, end=end and body is None, limit_bytes=1 << 14)
        if body is not None:
            data += f.frame(f.DATA, f.FLAG_END_STREAM if end else 0, stream_id, body)
        self.client(data)
        for number, seen in self.to_leg.items():
            if any(frame.kind == f.HEADERS for frame in seen.frames[before.get(number, 0) :]):
                return number
        return -1

    def reply(
        self, number: int, stream_id: int, fields: Fields = OK, *, end: bool = True, body: bytes | None = None
    ) -> None:
        """A response of endpoint ``number`` in its own compression; ``stream_id`` is the leg's."""
        block = self.leg_encoder[number].encode(fields)
        data = f.header_frames(stream_id, block, end=end and body is None, limit_bytes=1 << 14)
        if body is not None:
            data += f.frame(f.DATA, f.FLAG_END_STREAM if end else 0, stream_id, body)
        self.server(number, data)

    def at(self, number: int) -> list[Frame]:
        return self.to_leg[number].frames


class App:
    """hyper-h2 as an endpoint."""

    def __init__(self, leg: Leg, settings: dict[h2.settings.SettingCodes, int]) -> None:
        self.leg = leg
        self.end = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.end.local_settings = h2.settings.Settings(client=False, initial_values=settings)
        self.end.initiate_connection()
        self.requests: dict[int, Fields] = {}
        self.trailers: dict[int, Fields] = {}
        self.uploads: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}

    def take(self, data: bytes) -> None:
        for event in self.end.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.requests[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                self.uploads[event.stream_id] += event.data
                credit(self.end, event)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = event.error_code
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)


class Web(SplitJudging):
    """hyper-h2 as client and as every endpoint; `pump` carries bytes until there is silence."""

    def __init__(
        self,
        count: int = 3,
        *,
        chunk: Callable[[bytes], Iterable[bytes]] = lambda data: [data],
        server_settings: dict[int, int] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(count, **kwargs)  # type: ignore[arg-type]
        self._chunk = chunk
        self._settings = server_settings or {}
        self.client = h2.connection.H2Connection(
            config=h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self.apps: list[App] = []
        self.by_leg: dict[Leg, App] = {}
        self.responses: dict[int, Fields] = {}
        self.trailers: dict[int, Fields] = {}
        self.downloads: dict[int, bytearray] = defaultdict(bytearray)
        self.resets: dict[int, int] = {}
        self.ended: set[int] = set()
        self.reading = True
        """Whether the client opens windows for what it gets."""
        self.client.initiate_connection()

    def pump(self) -> None:
        splitter = self.splitter
        while True:
            moved = False
            up = self.client.data_to_send()
            for piece in self._chunk(up) if up else ():
                moved = True
                splitter.from_client(piece)
            for leg in splitter.legs_to_open():
                self.by_leg[leg] = App(leg, self._settings)
                self.apps.append(self.by_leg[leg])
            for leg in splitter.touched_legs():
                data = leg.take()
                if data and leg in self.by_leg:
                    moved = True
                    self.by_leg[leg].take(data)
            for leg in splitter.legs_to_close():
                self.by_leg.pop(leg, None)
            for app in list(self.by_leg.values()):
                down = app.end.data_to_send()
                for piece in self._chunk(down) if down else ():
                    moved = True
                    splitter.from_leg(app.leg, piece)
            down = splitter.take_client()
            if down:
                moved = True
                self._to_client(down)
            if not moved:
                return

    def _to_client(self, data: bytes) -> None:
        for event in self.client.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.responses[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                self.downloads[event.stream_id] += event.data
                if self.reading:
                    credit(self.client, event)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = event.error_code
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
