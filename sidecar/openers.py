"""Where the stream of an app's connection comes from, whatever carries it. Adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint, Transport
from sidecar.tunnel.link import Link
from sidecar.tunnel.stream import Headers, Stream

if TYPE_CHECKING:
    from sidecar.outbound_relay import OutboundRelay


class Carrier(Protocol):
    """What a stream to an endpoint depends on: a link, or the connection that it is itself."""

    end_reason: DenyReason | None
    end_detail: str

    @property
    def closed(self) -> bool:
        """Whether it ended for a reason of its own."""


class Opener(Protocol):
    """Where streams to endpoints come from: the pool of links, or, without tunnels, ``sidecar.outbound_direct``."""

    def open(self, endpoint: Endpoint, headers: Headers) -> tuple[Link, Stream] | None:
        """A stream at once, if that can be; else ``wait``."""

    def wait(self, endpoint: Endpoint, waiter: OutboundRelay) -> None:
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

    def wait(self, endpoint: Endpoint, waiter: OutboundRelay) -> None:
        """As ``Opener.wait``."""
        (self._direct if endpoint.transport is Transport.DIRECT else self._pool).wait(endpoint, waiter)
