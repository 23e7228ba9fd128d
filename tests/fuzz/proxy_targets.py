"""Requests to the forward proxy: whom they are for."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from sidecar.http1.reasons import MalformedError
from sidecar.proxied_relay import forward_heads
from sidecar.proxy_request import Asked, read_asked
from tests.fuzz.target import TALK_LIMIT_BYTES, Target, expect

_NAME: Final = re.compile(r"[a-z0-9._-]{1,255}")
_HOPS: Final = (b"proxy-", b"proxy_", b"keep-alive:")


def _asked(data: bytes) -> tuple[Asked, int] | str | None:
    try:
        return read_asked(data)
    except MalformedError as error:
        return str(error.reason)


def asked(data: bytes) -> None:
    """Byte by byte as in one piece; a host in its one spelling; and all of a CONNECT's head is its own."""
    whole = _asked(data)
    for size in range(1, len(data) + 1):
        found = _asked(data[:size])
        if found is None:
            continue
        if isinstance(found, str):
            expect(isinstance(whole, str), f"{data[:size]!r} is {found}, and with more it is {whole}")
        else:
            expect(found == whole, f"{data[:size]!r} is {found}, and with more it is {whole}")
        break
    if whole is None or isinstance(whole, str):
        return
    told, head_bytes = whole
    expect(told.port is None or 1 <= told.port <= 65535, told)
    try:
        expect(str(ipaddress.ip_address(told.host)) == told.host, told)
    except ValueError:
        expect(_NAME.fullmatch(told.host) is not None, told)
        expect(not told.host.rpartition(".")[2].isdigit(), told)
    if told.tunnel:
        expect(told.port is not None and data[:head_bytes].endswith(b"\r\n\r\n"), told)
    else:
        expect(head_bytes == 0, told)


def hops(data: bytes) -> None:
    """What is meant for the proxy or for one hop does not go on, and what goes on is lawful and final."""
    heads = forward_heads(None)
    prefix = b" HTTP/1.1\r\n"
    try:
        fields = heads.judge_request(prefix + data + b"\r\n\r\n")
    except MalformedError:
        return
    for line in fields.forward.lower().split(b"\r\n"):
        expect(not line.startswith(_HOPS), f"passed on: {line!r}")
    again = heads.judge_request(prefix + fields.forward)
    expect(again.forward == fields.forward, "forwarding is not final")
    expect((again.length, again.host) == (fields.length, fields.host), "forwarding changed the message")


TARGETS: Final = (
    Target(name="proxy", run=asked, limit_bytes=TALK_LIMIT_BYTES),
    Target(name="proxy_head", run=hops),
)
