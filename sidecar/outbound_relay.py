"""An app's connection to an upstream, before and after it has a stream. Adapter."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Final, Protocol

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint
from sidecar import refusal
from sidecar.direct import DirectEnd
from sidecar.http2.frames import CANCEL
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.tunnel.link import Link
from sidecar.tunnel.stream import Headers, Stream

_INTERIM: Final = re.compile(rb"1[0-9][0-9]").fullmatch
_SUCCESS: Final = re.compile(rb"2[0-9][0-9]").fullmatch  # RFC 9110 section 9.3.6: any of these
REPLY_SECONDS: Final = 10.0  # for the answer to CONNECT; longer than the other side gives its app


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


class OutboundRelay(Relay):
    """Gets its stream from an opener; waits, unread, while there is none."""

    alpn: bytes | None = None  # what a server without sidecar is offered

    def __init__(self, owner: RelayOwner, facts: RelayFacts, pool: Opener, endpoint: Endpoint) -> None:
        super().__init__(owner, facts)
        address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        self._connect_headers: Headers = [(b":method", b"CONNECT"), (b":authority", f"{address}:{facts.port}".encode())]
        self._pool = pool
        self._endpoint = endpoint
        self._link: Carrier | None = None
        self.replied = False  # CONNECT was answered
        self._waiting_since: float | None = None  # monotonic seconds, seen by ``sweep``
        self._told: refusal.Refusal | None = None
        self._unsent: list[bytes] = []  # read before there was a stream; one read at most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.open_on_connect():
            self.open_stream()

    def uses(self, link: Link) -> bool:
        """Whether its stream is one of this link's."""
        return self._link is link

    def open_on_connect(self) -> bool:
        """Whether the stream is wanted before the app's first byte, since the server may speak first."""
        return True

    def open_stream(self) -> None:
        """Get a stream, now or as soon as there is a link; the app is not read meanwhile."""
        opened = self._pool.open(self._endpoint, self._connect_headers)
        if opened is None:
            if self.transport is not None:
                self.transport.pause_reading()
            self._pool.wait(self._endpoint, self)
            return
        self._link, self.stream = opened
        self.stream.endpoint = self

    def link_found(self, link: Link) -> None:
        """The pool has a link: go on with what waited."""
        if self.ended:
            return
        self.open_stream()
        self._go_on()

    def stream_found(self, carrier: Carrier, stream: DirectEnd) -> None:
        """A connection of its own stands, and needs no answer to a CONNECT."""
        if self.ended:
            stream.reset(CANCEL)
            return
        self.replied = True
        self._link, self.stream = carrier, stream
        stream.endpoint = self
        self._go_on()

    def _go_on(self) -> None:
        if self.stream is not None:
            self.stream_opened()
            if self.transport is not None and self.stream.writable:
                self.transport.resume_reading()

    def to_mesh(self, data: bytes) -> None:
        if self.stream is None:
            # uvloop begins to read after connection_made whatever was asked in it; from here on it does pause.
            self._unsent.append(data)
            if self.transport is not None:
                self.transport.pause_reading()
            return
        super().to_mesh(data)

    def stream_opened(self) -> None:
        """The stream came later than the app's first bytes, or its end."""
        unsent, self._unsent = self._unsent, []
        if unsent and self.stream is not None:
            self.stream.send(b"".join(unsent))
        if self._app_ended and self.stream is not None:
            self.stream.end()

    def link_failed(self, reason: DenyReason, detail: str) -> None:
        self.refused(reason, detail)

    def on_headers(self, headers: Headers) -> None:
        """The answer to CONNECT, or the trailers of a stream that policy ended."""
        fields = dict(headers)
        self._told = self.told_by_peer(fields.get(refusal.HEADER, b""))
        if self._told is not None:
            self.facts.request_id = self._told.request_id
            self.facts.origin = self._told.origin
        if self._told is not None:
            self.replied = True
            self.refused(self._told.reason, f"refused by {self._told.origin}")
        elif not self.replied:
            status = fields.get(b":status", b"")
            self.replied = not _INTERIM(status)
            if self.replied and not _SUCCESS(status):
                self.refused(DenyReason.UPSTREAM_UNREACHABLE, f"CONNECT answered {status.decode('latin-1')}")

    def told_by_peer(self, value: bytes) -> refusal.Refusal | None:
        """A refusal as the peer tells it; its origin is the peer, whatever it says there."""
        told = refusal.parse_refusal(value)
        return replace(told, origin=self.facts.peer) if told is not None and told.origin != self.facts.peer else told

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if self.stream is None or self.replied or self.ended:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > REPLY_SECONDS:
            self.refused(DenyReason.UPSTREAM_TIMEOUT, f"no answer to CONNECT in {REPLY_SECONDS:.0f} s")

    def on_reset(self, code: int) -> None:
        link = self._link
        if link is not None and link.closed:
            self.refused(link.end_reason or DenyReason.UPSTREAM_UNREACHABLE, link.end_detail)
        else:
            super().on_reset(code)

    def refused(self, reason: str, detail: str) -> None:
        """The mesh ends this connection: by policy with a close, by a failure with a reset, as TCP itself would."""
        self.end(reason, detail, abort=refusal.status_of(reason) != 403)
