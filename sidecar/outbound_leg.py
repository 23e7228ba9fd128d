"""What carries one leg of a splitter: a stream of a link to its endpoint, from the wish for one to its end. Adapter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.direct import DirectEnd
from sidecar.http2.frames import CANCEL
from sidecar.openers import Carrier, Openers
from sidecar.refusal import Refusal
from sidecar.split import Leg
from sidecar.target import ENDPOINT_FAULTS, OUR_OWN
from sidecar.tunnel.link import Link
from sidecar.tunnel.stream import Headers, Stream

_INTERIM: Final = re.compile(rb"1[0-9][0-9]").fullmatch
_SUCCESS: Final = re.compile(rb"2[0-9][0-9]").fullmatch  # RFC 9110 section 9.3.6: any of these
READY_SECONDS: Final = 15.0  # for link, CONNECT and the endpoint's first SETTINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class LegLoss:
    """Why a leg could not be had, or is gone; ``told`` if the peer's sidecar said so, ``fault`` if it was the
    endpoint's."""

    reason: str
    detail: str
    told: Refusal | None = None
    fault: bool = False


class LegOwner(Protocol):
    """The relay whose splitter the leg belongs to."""

    def leg_may_wait(self) -> bool:
        """Whether the route lets one more leg wait for a mesh connection; if so `leg_waited` follows, once."""

    def leg_waited(self) -> None:
        """A leg does not wait any more."""

    def leg_bytes(self, leg: Leg, data: bytes) -> None:
        """Bytes of the endpoint."""

    def leg_full(self, leg: Leg, full: bool) -> None:
        """The endpoint's side does, or does not, take what it is sent."""

    def leg_leaves(self, leg: Leg) -> None:
        """The leg is to take no new requests."""

    def leg_lost(self, leg: Leg, loss: LegLoss | None) -> None:
        """The leg is gone, or will not come; None: the endpoint closed it."""


class LegCarrier:
    """See the module's docstring. Never reads back what it sent: a lost leg is the splitter's to make good."""

    alpn = b"h2"
    __slots__ = ("_closed", "_openers", "_owner", "_port", "_replied", "_waits", "leg", "link", "opened_at", "stream")

    def __init__(self, owner: LegOwner, leg: Leg, openers: Openers, port: int) -> None:
        self._owner = owner
        self._openers = openers
        self._port = port
        self._replied = False
        self._closed = False
        self._waits = False  # for a mesh connection
        self.leg = leg
        self.link: Carrier | None = None
        self.stream: Stream | DirectEnd | None = None
        self.opened_at = openers.monotonic()

    def open(self) -> None:
        """Get a stream, now or as soon as there is a link."""
        endpoint = self.leg.member.endpoint
        address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        opened = self._openers.open(
            endpoint, [(b":method", b"CONNECT"), (b":authority", f"{address}:{endpoint.port or self._port}".encode())]
        )
        if opened is None:
            if self._owner.leg_may_wait():
                self._waits = True
                self._openers.wait(endpoint, self)
            else:
                self._lost(DenyReason.CIRCUIT_OPEN, "as many wait for a mesh connection as the route permits")
            return
        self.link, self.stream = opened
        self.stream.endpoint = self
        self.flush()

    def _waited(self) -> None:
        if self._waits:
            self._waits = False
            self._owner.leg_waited()

    def flush(self) -> None:
        """Send what the leg has for its endpoint."""
        if self.stream is None:
            return
        data = self.leg.take()
        if data and not self.stream.send(data):
            self._owner.leg_full(self.leg, True)

    def half_close(self) -> None:
        """The client says no more, so neither does the leg."""
        if self.stream is not None:
            self.stream.end()

    def close(self) -> None:
        """The splitter is done with the leg; what was said last still goes out."""
        if self._closed:
            return
        self._closed = True
        if self.stream is not None:
            self.stream.close()

    def sweep(self, now: float) -> None:
        if not self.leg.ready and now - self.opened_at > READY_SECONDS:
            self._lost(DenyReason.UPSTREAM_TIMEOUT, f"no HTTP/2 from the endpoint in {READY_SECONDS:.0f} s")

    def _lost(self, reason: str, detail: str, told: Refusal | None = None) -> None:
        if not self._closed:
            self.close()
            fault = reason in ENDPOINT_FAULTS and (self.stream is not None or reason not in OUR_OWN)
            self._owner.leg_lost(self.leg, LegLoss(reason=reason, detail=detail, told=told, fault=fault))

    # -- the opener ---------------------------------------------------------------------------------------------------

    def link_found(self, link: Link) -> None:
        self._waited()
        if not self._closed:
            self.open()

    def stream_found(self, carrier: Carrier, stream: DirectEnd) -> None:
        self._waited()
        if self._closed:
            stream.reset(CANCEL)
            return
        self._replied = True
        self.link, self.stream = carrier, stream
        stream.endpoint = self
        self.flush()

    def move_from(self, carrier: Carrier) -> None:
        if not self._closed:
            self._owner.leg_leaves(self.leg)

    def refused(self, reason: str, detail: str) -> None:
        self._lost(reason, detail)

    def link_failed(self, reason: DenyReason, detail: str) -> None:
        self._waited()
        self._lost(reason, detail)

    # -- the stream ---------------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> bool:
        """Always consumed: how much of content is held for a slow reader is bounded by the leg's own window."""
        self._owner.leg_bytes(self.leg, data)
        return True

    def on_end(self) -> None:
        if not self._closed:
            self.close()
            self._owner.leg_lost(self.leg, None)

    def on_headers(self, headers: Headers) -> None:
        """The answer to CONNECT, or the trailers of a stream that policy ended."""
        fields = dict(headers)
        told = refusal.told_by(fields.get(refusal.HEADER, b""), self.leg.peer, fields.get(refusal.RETRY_AFTER, b""))
        if told is not None:
            self._lost(told.reason, f"refused by {told.origin}", told)
        elif not self._replied:
            status = fields.get(b":status", b"")
            self._replied = not _INTERIM(status)
            if self._replied and not _SUCCESS(status):
                self._lost(DenyReason.UPSTREAM_UNREACHABLE, f"CONNECT answered {status.decode('latin-1')}")

    def on_reset(self, code: int) -> None:
        link = self.link
        if link is not None and link.closed:
            self._lost(link.end_reason or DenyReason.UPSTREAM_UNREACHABLE, link.end_detail or "the link is gone")
        else:
            self._lost(DenyReason.UPSTREAM_UNREACHABLE, f"stream reset, code {code}")

    def on_writable(self) -> None:
        if not self._closed:
            self._owner.leg_full(self.leg, False)
