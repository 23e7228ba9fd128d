"""Connections of the app that came by the forward proxy, once it is known where they lead. Adapter.

CONNECT is answered when the other end has the connection, or, when it cannot be had, in HTTP's words. In absolute form
requests for one destination share a connection; one for another destination is taken over by the proxy as if it had
come on a connection of its own, so that each request goes where it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.direct import DirectEnd
from sidecar.egress_http import EgressHttpRelay
from sidecar.egress_relay import EgressRelay
from sidecar.http1 import Exchange, Heads, MalformedError, RequestFields
from sidecar.http1.ending import as_answer
from sidecar.http1.fields import join_block, tokens
from sidecar.http2.frames import CANCEL
from sidecar.http_relay import HEAD_SECONDS, HttpRelay
from sidecar.openers import Carrier
from sidecar.outbound_http import OutboundHttpRelay
from sidecar.outbound_relay import OutboundOpaqueRelay
from sidecar.proxy_request import Asked, read_asked, read_authority
from sidecar.recording import new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import Relay

ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
MISDIRECTED: Final = 421  # RFC 9110 section 15.5.20: ask again on another connection
_OWN_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade"})

TakeOver = Callable[[asyncio.Transport, bytes], None]
"""Gives a client back to the proxy, with what was read of its next request."""


class Answering(Relay):
    """CONNECT's answer, whatever the tunnel is made of. Stands before a relay that moves opaque bytes."""

    own_id: str
    _answered = False

    def confirm(self) -> None:
        """The other end has the connection."""
        if not self._answered and not self.ended and self.transport is not None:
            self._answered = True
            self.transport.write(ESTABLISHED)

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = CANCEL) -> None:
        if not self._answered and not self.ended and self.transport is not None and reason != "closed":
            self._answered = True
            abort = False
            facts = self.facts
            facts.request_id = facts.request_id or new_request_id()
            known = refusal.known_reason(reason) or DenyReason.UPSTREAM_UNREACHABLE
            told = Refusal(reason=known, request_id=facts.request_id, origin=facts.origin or self.own_id)
            self.transport.write(as_answer(refusal.http_response(told), close=True, head_only=False))
        super().end(reason, detail, abort=abort, code=code)


class ConnectRelay(Answering, OutboundOpaqueRelay):
    """CONNECT to an opaque port of the mesh."""

    def _connected(self) -> None:
        super()._connected()
        self.confirm()

    def stream_found(self, carrier: Carrier, stream: DirectEnd) -> None:
        if not self.ended:
            self.confirm()
        super().stream_found(carrier, stream)


class Outside(EgressRelay):
    """Leads out of the mesh, and not back to the proxy. ``forbidden``: addresses that would lead there."""

    forbidden: Callable[[tuple[str, int]], bool]

    def refuses(self, end: DirectEnd) -> str:
        if self.forbidden(end.remote):
            return "the name leads back to the proxy itself"
        return super().refuses(end)


class ConnectEgressRelay(Answering, Outside):
    """CONNECT to a destination outside the mesh."""

    def direct_ready(self, end: DirectEnd) -> None:
        if not self.refuses(end):
            self.confirm()
        super().direct_ready(end)


class OneDestination(HttpRelay):
    """Requests in absolute form, all for one destination. Stands before a relay of HTTP/1.x."""

    asked: Asked
    take_over: TakeOver
    _begun = b""  # of a request that does not tell its destination yet
    _begun_since: float | None = None  # monotonic seconds, seen by ``sweep``

    def data_received(self, data: bytes) -> None:
        if self.inspector.progress != "idle" or self.ended:
            super().data_received(data)
            return
        data, self._begun = self._begun + data, b""
        try:
            found = read_asked(data)
        except MalformedError:
            self._hand_back(data)  # where it is refused as it would be on a connection of its own
            return
        if found is None:
            self._begun = data
        elif found[0] != self.asked:
            self._hand_back(data)
        else:
            super().data_received(data)

    def _hand_back(self, data: bytes) -> None:
        transport, self.transport = self.transport, None
        self.end("closed")
        if transport is not None:
            self.take_over(transport, data)

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if not self._begun or self.ended:
            self._begun_since = None
        elif self._begun_since is None:
            self._begun_since = now
        elif now - self._begun_since > HEAD_SECONDS:
            self.end(DenyReason.CALLER_TIMEOUT, f"request line not complete after {now - self._begun_since:.0f} s")

    def request(self, exchange: Exchange) -> bytes | None:
        """Behind another one in the pipeline a request can no longer be taken over."""
        try:
            told = read_authority(exchange.fields.host)
        except MalformedError:
            told = None
        if told == self.asked:
            return super().request(exchange)
        exchange.started = self._monotonic()
        exchange.decision = Deny(DenyReason.PROTOCOL_ERROR)
        detail = "pipelined behind a request for another destination"
        answer = self._answer(DenyReason.PROTOCOL_ERROR, exchange, detail=detail, status=MISDIRECTED)
        self.inspector.refuse(exchange, answer, close=True)
        return None


class ForwardHttpRelay(OneDestination, OutboundHttpRelay):
    """To an upstream."""


class ForwardEgressRelay(OneDestination, EgressHttpRelay, Outside):
    """Out of the mesh."""


class ForwardHeads(Heads):
    """Heads of requests to a proxy: what is meant for it, or for this hop alone, is taken out (RFC 9110 section
    7.6.1)."""

    __slots__ = ()

    def _read_request(self, key: bytes) -> RequestFields:
        fields = super()._read_request(key)
        lines = fields.forward[:-4].split(b"\r\n") if len(fields.forward) > 2 else []
        options = tokens([line.partition(b":")[2] for line in lines if _name(line) == b"connection"])
        hop = ({b"keep-alive"} | set(options)) - (_OWN_OPTIONS - {b"keep-alive"})
        kept = [line for line in lines if _name(line) not in hop]
        if not _OWN_OPTIONS.issuperset(options):
            kept = [line for line in kept if _name(line) != b"connection"]
            own = [option for option in options if option in _OWN_OPTIONS]
            if own:
                kept.append(b"connection: " + b", ".join(own))
        if kept != lines:
            fields.forward = join_block(kept)
            fields.untouched = False
        return fields


def forward_heads(refusal_name: bytes | None) -> ForwardHeads:
    """``refusal_name``: as for `Heads`; None out of the mesh, where nobody tells refusals of ours."""
    return ForwardHeads(prefixes=(b"x-ringfence-", b"proxy-"), refusal_name=refusal_name)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()
