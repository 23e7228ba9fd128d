"""Two ends of a tunnel without sockets, for tests: a machine, what it told its handler, and endpoints that record."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.tunnel.machine import TunnelMachine
from sidecar.tunnel.stream import Headers, Stream


class Endpoint:
    """Records what a stream tells it; ``taking`` False makes it a reader that holds everything."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.reset: int | None = None
        self.headers: list[Headers] = []
        self.writable = 0
        self.taking = True

    def on_data(self, data: bytes) -> bool:
        self.received += data
        return self.taking

    def on_end(self) -> None:
        self.ended = True

    def on_headers(self, headers: Headers) -> None:
        self.headers.append(headers)

    def on_reset(self, code: int) -> None:
        self.reset = code

    def on_writable(self) -> None:
        self.writable += 1


class End:
    """One machine with its handler."""

    def __init__(self, *, server: bool, monotonic: Callable[[], float] = lambda: 0.0) -> None:
        self.connects: list[tuple[Stream, Headers]] = []
        self.endpoints: dict[int, Endpoint] = {}
        self.proofs: list[bytes] = []
        self.goaways: list[int] = []
        self.settled = False
        self.drained = 0
        self.taking = True
        self.refusing = False
        self.machine = TunnelMachine(server=server, handler=self, schedule=lambda: None, monotonic=monotonic)

    def on_connect(self, stream: Stream, headers: Headers) -> None:
        self.connects.append((stream, headers))
        if self.refusing:
            stream.machine.reply(stream, [(b":status", b"403")], end=True)
            stream.reset(0)
            return
        endpoint = self.endpoints[stream.stream_id] = Endpoint()
        endpoint.taking = self.taking
        stream.endpoint = endpoint

    def on_proof(self, payload: bytes) -> None:
        self.proofs.append(payload)

    def on_goaway(self, code: int) -> None:
        self.goaways.append(code)

    def on_settings(self) -> None:
        self.settled = True

    def on_drained(self) -> None:
        self.drained += 1

    def open(self, authority: bytes = b"127.0.0.1:8080") -> tuple[Stream, Endpoint]:
        stream = self.machine.open([(b":method", b"CONNECT"), (b":authority", authority)])
        assert stream is not None
        endpoint = self.endpoints[stream.stream_id] = Endpoint()
        stream.endpoint = endpoint
        return stream, endpoint


def exchange(client: End, server: End, *, step: int = 0) -> int:
    """Carry bytes between the ends until both are silent; ``step`` > 0 cuts them. The number of bytes carried."""
    carried = 0
    while True:
        moved = 0
        for source, target in ((client, server), (server, client)):
            data = source.machine.take()
            source.machine.set_room(1 << 20)
            moved += len(data)
            for at in range(0, len(data), step or len(data) or 1):
                target.machine.receive(data[at : at + (step or len(data))])
        carried += moved
        if not moved and not client.machine.out and not server.machine.out:
            return carried


def pair() -> tuple[End, End]:
    """A client and a server that have exchanged settings."""
    client, server = End(server=False), End(server=True)
    client.machine.start()
    server.machine.start()
    exchange(client, server)
    assert client.settled
    assert server.settled
    return client, server
