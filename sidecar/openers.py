"""Where the stream of an app's connection comes from, whatever carries it. Adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint, Transport
from sidecar.direct import DirectEnd
from sidecar.tunnel.link import Link
from sidecar.tunnel.stream import Headers, Stream


class Carrier(Protocol):
    """What a stream to an endpoint depends on: a link, or the connection that it is itself."""

    end_reason: DenyReason | None
    end_detail: str

    @property
    def closed(self) -> bool:
        """Whether it ended for a reason of its own."""


class StreamWaiter(Protocol):
    """Whoever waits for a stream, and then has one."""

    @property
    def alpn(self) -> bytes | None:
        """What a server without sidecar is offered."""

    def link_found(self, link: Link) -> None:
        """There is a link: ``open`` would give a stream."""

    def stream_found(self, carrier: Carrier, stream: DirectEnd) -> None:
        """A connection of its own stands, and needs no answer to a CONNECT."""

    def link_failed(self, reason: DenyReason, detail: str) -> None:
        """There is none."""

    def move_from(self, carrier: Carrier) -> None:
        """The connection that was found takes no more requests; what is opaque stays to its end."""

    def refused(self, reason: str, detail: str) -> None:
        """The connection that was found may not go on."""


class Opener(Protocol):
    """Where streams to endpoints come from: the pool of links, or, without tunnels, ``sidecar.outbound_direct``."""

    def open(self, endpoint: Endpoint, headers: Headers) -> tuple[Link, Stream] | None:
        """A stream at once, if that can be; else ``wait``."""

    def wait(self, endpoint: Endpoint, waiter: StreamWaiter) -> None:
        """Call one of ``link_found``, ``stream_found`` and ``link_failed``, once."""


class Openers:
    """Streams to any endpoint, each by its transport; and the clock that their waits go by."""

    def __init__(self, *, pool: Opener, direct: Opener, monotonic: Callable[[], float]) -> None:
        self._pool = pool
        self._direct = direct
        self.monotonic = monotonic

    def open(self, endpoint: Endpoint, headers: Headers) -> tuple[Link, Stream] | None:
        """As ``Opener.open``."""
        return (self._direct if endpoint.transport is Transport.DIRECT else self._pool).open(endpoint, headers)

    def wait(self, endpoint: Endpoint, waiter: StreamWaiter) -> None:
        """As ``Opener.wait``."""
        (self._direct if endpoint.transport is Transport.DIRECT else self._pool).wait(endpoint, waiter)
