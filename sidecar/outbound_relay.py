"""An app's connection to an upstream, before and after it has a stream. Adapter.

What was sent on a stream is kept until CONNECT is answered, as far as it is short: if the other side says that no app
has seen it, it goes to another endpoint, once or twice. Proof is one of these: there was no stream yet; the stream came
back as REFUSED_STREAM or stood above the last id of a GOAWAY; CONNECT was refused. What adds to the load of others, as
a peer that has too much to do makes it, comes out of the budget of retries.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from ringfence.policy.reasons import DenyReason
from ringfence.routing.model import Retries, RetryOn
from sidecar import refusal
from sidecar.balance import Member, Outcome
from sidecar.direct import DirectEnd
from sidecar.http2.frames import CANCEL, REFUSED_STREAM
from sidecar.idleness import Idleness
from sidecar.opaque import ReadsInPlace
from sidecar.openers import Carrier, Openers
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.target import ENDPOINT_FAULTS, OUR_OWN, Target
from sidecar.tls_notes import TlsNotes
from sidecar.tunnel.link import Link
from sidecar.tunnel.stream import Headers, Stream

_INTERIM: Final = re.compile(rb"1[0-9][0-9]").fullmatch
_SUCCESS: Final = re.compile(rb"2[0-9][0-9]").fullmatch  # RFC 9110 section 9.3.6: any of these
REPLY_SECONDS: Final = 10.0  # for the answer to CONNECT; longer than the other side gives its app
RESEND_LIMIT_BYTES: Final = 64 * 1024  # of what may have to be sent again


class OutboundRelay(Relay):
    """Gets its stream from an opener; waits, unread, while there is none."""

    takes_views = False
    alpn: bytes | None = None  # what a server without sidecar is offered
    _asked = False  # a stream was asked for, where that does not happen at once

    def __init__(self, owner: RelayOwner, facts: RelayFacts, openers: Openers, target: Target, member: Member) -> None:
        super().__init__(owner, facts)
        self._openers = openers
        self._target = target
        self._member = member
        self._tried: tuple[Member, ...] = ()  # by what waits for an answer, in vain
        target.balancer.joined(member)
        self._link: Carrier | None = None
        self.stream: Stream | DirectEnd | None = None
        self.replied = False  # CONNECT was answered
        self._waiting_since: float | None = None  # monotonic seconds, seen by ``sweep``
        self._opened_at = 0.0  # monotonic seconds
        self._pending = False  # waits for a link
        self.shut_out = False  # it came when the route let no more connections in
        self._idleness = Idleness()  # seen by ``sweep``
        self._told: refusal.Refusal | None = None
        self._notes: TlsNotes | None = TlsNotes()
        self._unsent: list[bytes] = []  # read before there was a stream; one read at most, or what is sent again
        self._resend: list[bytes] | None = None  # sent, and to be sent again if it comes to that
        self._resend_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.ended or not self.open_on_connect():
            return
        if self.shut_out:
            self.refused(DenyReason.CIRCUIT_OPEN, "as many connections are open as the route permits")
        else:
            self.open_stream()

    def uses(self, link: Link) -> bool:
        """Whether its stream is one of this link's."""
        return self._link is link

    def move_from(self, carrier: Carrier) -> None:
        """``carrier`` takes no more streams; what is opaque stays to its end."""
        self.drain()

    def open_on_connect(self) -> bool:
        """Whether the stream is wanted before the app's first byte, since the server may speak first."""
        return True

    # -- a stream -----------------------------------------------------------------------------------------------------

    def open_stream(self) -> None:
        """Get a stream, now or as soon as there is a link; the app is not read meanwhile."""
        endpoint = self._member.endpoint
        address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        opened = self._openers.open(
            endpoint,
            [(b":method", b"CONNECT"), (b":authority", f"{address}:{endpoint.port or self.facts.port}".encode())],
        )
        if opened is None:
            self._wait()
            return
        self._link, stream = opened
        if isinstance(stream, Stream):
            stream.takes_views = self.takes_views
        stream.endpoint = self
        self.stream = stream
        self.replied = False
        self._waiting_since = None
        self._opened_at = self._openers.monotonic()

    def _wait(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()
        if not self._target.balancer.circuit.try_pending():
            self._target.circuit_opened("pending")
            self.refused(DenyReason.CIRCUIT_OPEN, "as many connections wait for a mesh connection as the route permits")
            return
        self._pending = True
        self._opened_at = self._openers.monotonic()
        self._openers.wait(self._member.endpoint, self)

    def _waited(self) -> None:
        if self._pending:
            self._pending = False
            self._target.balancer.circuit.pending -= 1

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        if self._notes is not None and not self._notes.wants_more(self.facts, data):
            self._notes = None
        self.to_mesh(data)

    def link_found(self, link: Link) -> None:
        """The pool has a link: go on with what waited."""
        self._waited()
        if self.ended:
            return
        self._open_and_go_on()

    def stream_found(self, carrier: Carrier, stream: DirectEnd) -> None:
        """A connection of its own stands, and needs no answer to a CONNECT."""
        self._waited()
        if self.ended:
            stream.reset(CANCEL)
            return
        self._link, self.stream = carrier, stream
        stream.endpoint = self
        self.replied = True
        self._go_on()

    def _open_and_go_on(self) -> None:
        self.open_stream()
        self._go_on()

    def _go_on(self) -> None:
        if self.stream is not None:
            self.stream_opened()
            self._read_on()

    def _read_on(self) -> None:
        if self.transport is not None and self.stream is not None and self.stream.writable:
            self.transport.resume_reading()

    def to_mesh(self, data: bytes) -> None:
        if self.stream is None:
            # uvloop begins to read after connection_made whatever was asked in it; from here on it does pause.
            self._unsent.append(data)
            if self.transport is not None:
                self.transport.pause_reading()
            return
        if self._resend is not None:
            self._keep(data)
        super().to_mesh(data)

    def stream_opened(self) -> None:
        """The stream came later than the app's first bytes, or its end."""
        unsent, self._unsent = self._unsent, []
        if self.stream is None:
            return
        self._resend, self._resend_bytes = ([] if self.resendable else None), 0
        if unsent:
            data = b"".join(unsent)
            self._keep(data)
            self.stream.send(data)
        if self._app_ended and self.stream is not None:
            self.stream.end()

    def take_stream_of(self, before: OutboundRelay) -> None:
        """Go on with a stream to the same endpoint, opened before it was known what would go over it."""
        stream, before.stream = before.stream, None
        assert stream is not None
        self._asked = True
        self._link, self.stream = before._link, stream
        self.replied, self._opened_at = before.replied, before._opened_at
        stream.endpoint = self
        self.stream_opened()

    @property
    def resendable(self) -> bool:
        """Whether what is sent may have to be sent again."""
        return not self.replied

    def _keep(self, data: bytes) -> None:
        """Keep what is sent, unless it has become too much."""
        if self._resend is not None:
            self._resend_bytes += len(data)
            if self._resend_bytes <= RESEND_LIMIT_BYTES:
                self._resend.append(data)
            else:
                self._resend = None

    # -- another try --------------------------------------------------------------------------------------------------

    def retries(self) -> Retries:
        """What may be tried again of what waits for an answer."""
        return self._target.route.retries

    def _try_again(self, on: RetryOn, outcome: Outcome, *, free: bool = False) -> bool:
        """Send what is held to another endpoint, or, where this one only took back its stream, to the same; False if
        that may not be, and nothing has changed then. ``free``: it adds to nobody's load, so it needs no budget."""
        retries = self.retries()
        sent = self.stream is not None
        if on not in retries.on or len(self._tried) >= retries.attempts or (sent and self._resend is None):
            return False
        now = self._openers.monotonic()
        target, before = self._target, self._member
        tried = (*self._tried, before)
        member = target.balancer.choose(now, tried)
        if member is None and on is RetryOn.REFUSED:
            member = before
        if member is None or not (free or target.may_retry(now)):
            return False
        target.retried(on)
        self._tried = tried
        if sent:
            self._unsent, self._resend = self._resend or [], None
            self._drop(CANCEL)
        self._lead_to(member, outcome, now)
        self._open_and_go_on()
        return True

    def _lead_to(self, member: Member, outcome: Outcome, now: float) -> None:
        """Go to ``member`` from now on; ``outcome``: what the one before it made of the calls that go along."""
        before, self._member = self._member, member
        balancer = self._target.balancer
        balancer.left(before)
        balancer.joined(member)
        if outcome is not Outcome.UNKNOWN:
            self._target.learned(before, now - self._opened_at, outcome, now)
        self.facts.peer = str(member.endpoint.spiffe_id)

    def _drop(self, code: int) -> None:
        """Let the stream go; the app's connection stays."""
        stream, self.stream, self._link = self.stream, None, None
        held, self._held_bytes = self._held_bytes, 0
        if stream is not None:
            if held:
                stream.credit(held)
            stream.drop(code)

    def _blame(self, reason: str) -> Outcome:
        return Outcome.FAILED if reason in ENDPOINT_FAULTS else Outcome.UNKNOWN

    # -- what the mesh says -------------------------------------------------------------------------------------------

    def link_failed(self, reason: DenyReason, detail: str) -> None:
        self._waited()
        if self.ended:
            return
        if reason is DenyReason.UPSTREAM_TIMEOUT:
            self._target.timed_out("connect")
        # Of these alone the endpoint is the cause, and nothing was sent.
        elsewhere = reason not in OUR_OWN
        if elsewhere and self._try_again(RetryOn.CONNECT_FAILURE, Outcome.FAILED, free=True):
            return
        self._tried_out(self._blame(reason) if elsewhere else Outcome.UNKNOWN)
        self.refused(reason, detail)

    def _tried_out(self, outcome: Outcome) -> None:
        """What the last try to connect says of its endpoint."""
        now = self._openers.monotonic()
        self._target.learned(self._member, now - self._opened_at, outcome, now)

    def on_headers(self, headers: Headers) -> None:
        """The answer to CONNECT, or the trailers of a stream that policy ended."""
        fields = dict(headers)
        again = fields.get(refusal.RETRY_AFTER, b"")
        told = self._told = refusal.told_by(fields.get(refusal.HEADER, b""), self.facts.peer, again)
        status = fields.get(b":status", b"")
        if told is None and (self.replied or _INTERIM(status)):
            return
        if told is None and _SUCCESS(status):
            self._connected()
            return
        reason = told.reason if told is not None else DenyReason.UPSTREAM_UNREACHABLE
        # What a peer of another make answers with 4xx is its policy, as ours is told by a reason.
        if not self.replied and refusal.status_of(reason) >= 500 and status[:1] != b"4":
            if self._try_again(RetryOn.CONNECT_FAILURE, self._blame(reason), free=reason != DenyReason.OVERLOADED):
                return
            self._tried_out(self._blame(reason))
        self.replied = True
        if told is not None:
            self.facts.request_id = told.request_id
            self.facts.origin = told.origin
            self.retry_after_seconds = told.retry_after_seconds
            self.refused(reason, f"refused by {told.origin}")
        else:
            self.refused(reason, f"CONNECT answered {status.decode('latin-1')}")

    def _connected(self) -> None:
        """An app has the connection: what it was sent cannot be called back."""
        self.replied = True
        self._resend = None
        if not self._target.plain:
            self._tried_out(Outcome.ANSWERED)

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if self.stream is None or self.replied or self.ended:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > REPLY_SECONDS:
            self._target.timed_out("connect")
            self._tried_out(Outcome.FAILED)
            self.refused(DenyReason.UPSTREAM_TIMEOUT, f"no answer to CONNECT in {REPLY_SECONDS:.0f} s")
        idle_seconds = self._target.timeouts.idle_seconds
        if idle_seconds is not None and not self.ended:
            moved = self.facts.bytes_from_app + self.facts.bytes_to_app
            seconds = self._idleness.seconds(moved, now, busy=self.busy)
            if seconds >= idle_seconds:
                self._target.timed_out("idle")
                self.end("closed", f"idle for {seconds:.0f} s")

    @property
    def busy(self) -> bool:
        """Whether something is under way although no byte moves."""
        return self._pending

    def on_reset(self, code: int) -> None:
        if self.taken_back(code):
            return
        link = self._link
        if link is not None and link.closed:
            self.refused(link.end_reason or DenyReason.UPSTREAM_UNREACHABLE, link.end_detail)
        else:
            super().on_reset(code)

    def taken_back(self, code: int) -> bool:
        """Whether the stream came back unprocessed, and has gone elsewhere."""
        if code != REFUSED_STREAM or self.replied:
            return False
        leaves = isinstance(self._link, Link) and self._link.machine.going_away  # else it has too much to do
        return self._try_again(RetryOn.REFUSED, Outcome.UNKNOWN, free=leaves)

    def refused(self, reason: str, detail: str) -> None:
        """The mesh ends this connection: by policy with a close, by a failure with a reset, as TCP itself would."""
        self.end(reason, detail, abort=refusal.is_failure(reason))

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = CANCEL) -> None:
        if not self.ended:
            self._resend = None
            self._unsent.clear()
            self.leave_target()
        super().end(reason, detail, abort=abort, code=code)

    def leave_target(self) -> None:
        """No longer count as a connection to the upstream; said once."""
        balancer = self._target.balancer
        balancer.left(self._member)
        balancer.circuit.connections -= 1


class OutboundOpaqueRelay(OutboundRelay, ReadsInPlace):
    """Bytes that nobody looks at."""

    takes_views = True

    @property
    def keeps_what_it_sends(self) -> bool:
        return self._resend is not None or self._notes is not None
