"""How far a message has come: header section, content, trailers, each held against what was announced (RFC 9113
section 8.1). Pure.

Common to the two directions of the inspector and to the splitter. Flaws are raised as `MalformedError`, or, where they
are met for each DATA frame, returned.
"""

from __future__ import annotations

from typing import Final

from sidecar.http1.fields import plain_name
from sidecar.http1.reasons import shown
from sidecar.http2 import frames as h2
from sidecar.http2.exchange import Exchange
from sidecar.http2.head import UNANNOUNCED_LEFT, RequestHead, ResponseHead
from sidecar.http2.heads import Entry, Heads
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError

INTERIM_LIMIT: Final = 32
"""1xx responses to one request."""


def request_head(heads: Heads, entry: Entry, end: bool, *, connect_offered: bool) -> RequestHead:
    """What the header section of a new request says; raises `MalformedError`."""
    head = entry.request or heads.request(entry)
    if end and 0 < head.length < UNANNOUNCED_LEFT:
        raise MalformedError(Malformed.LENGTH_MISMATCH, f"no content, {head.length} bytes announced")
    if head.protocol and not connect_offered:
        raise MalformedError(Malformed.BAD_METHOD, "extended CONNECT, which the server has not offered")
    return head


def request_trailers(heads: Heads, exchange: Exchange, entry: Entry, end: bool) -> ResponseHead:
    """The trailers of a request; raises `MalformedError`."""
    if not exchange.request_open:
        raise MalformedError(Malformed.STREAM_CLOSED, "HEADERS after the end of the request")
    if not end:
        raise MalformedError(Malformed.BAD_TRAILER, "trailers that do not end the stream")
    trailers = entry.request_trailers or heads.request_trailers(entry)
    if exchange.withheld:
        for name, _ in entry.fields:
            if plain_name(name) in exchange.withheld:
                raise MalformedError(Malformed.BAD_TRAILER, f"trailer field {shown(name)}")
    if 0 < exchange.request_left < UNANNOUNCED_LEFT:
        raise MalformedError(Malformed.LENGTH_MISMATCH, f"{exchange.request_left} bytes missing")
    return trailers


def count_request(exchange: Exchange, content_bytes: int, end: bool) -> Malformed | None:
    """Account for content of a request; what is wrong with it."""
    if not exchange.request_open:
        return Malformed.STREAM_CLOSED
    left = exchange.request_left - content_bytes
    if left < 0 or (end and 0 < left < UNANNOUNCED_LEFT):
        return Malformed.LENGTH_MISMATCH
    exchange.request_left = left
    exchange.request_bytes += content_bytes
    return None


def response_head(heads: Heads, exchange: Exchange, entry: Entry, end: bool) -> ResponseHead:
    """The header section of an interim or of the final response (`Exchange.status` tells); raises `MalformedError`."""
    head = entry.response or heads.response(entry)
    status = head.status
    if status < 200:
        exchange.interim += 1
        if end:
            raise MalformedError(Malformed.BAD_STATUS, f"status {status} ends the stream")
        if exchange.interim > INTERIM_LIMIT:
            raise MalformedError(Malformed.TOO_MANY_INTERIM, f"more than {INTERIM_LIMIT} interim responses")
        return head
    left = 0 if exchange.method == b"HEAD" else head.length
    if end and 0 < left < UNANNOUNCED_LEFT:
        raise MalformedError(Malformed.LENGTH_MISMATCH, f"no content, {left} bytes announced")
    exchange.response_left = left
    exchange.status = status
    exchange.grpc_status = head.grpc_status
    exchange.refusal = head.refusal
    return head


def response_trailers(heads: Heads, exchange: Exchange, entry: Entry, end: bool) -> ResponseHead:
    """The trailers of a response; raises `MalformedError`."""
    if not end:
        raise MalformedError(Malformed.BAD_TRAILER, "trailers that do not end the stream")
    trailers = entry.response_trailers or heads.response_trailers(entry)
    if 0 < exchange.response_left < UNANNOUNCED_LEFT:
        raise MalformedError(Malformed.LENGTH_MISMATCH, f"{exchange.response_left} bytes missing")
    if trailers.grpc_status is not None:
        exchange.grpc_status = trailers.grpc_status
    if trailers.refusal is not None:
        exchange.refusal = trailers.refusal
    return trailers


def count_response(exchange: Exchange, content_bytes: int, end: bool) -> Malformed | None:
    """Account for content of a response; what is wrong with it. BrokenError behind the response's end."""
    if not exchange.response_open:
        raise BrokenError(h2.STREAM_CLOSED, Broken.STREAM_CLOSED, "DATA after the end of the response")
    if not exchange.status:
        return Malformed.UNEXPECTED_RESPONSE
    left = exchange.response_left - content_bytes
    if left < 0 or (end and 0 < left < UNANNOUNCED_LEFT):
        return Malformed.LENGTH_MISMATCH
    exchange.response_left = left
    exchange.response_bytes += content_bytes
    return None
