"""``x-forwarded-for``: from where a request comes, as the mesh knows it, told to the app behind a port. Pure.

What a caller claims of that is worth nothing: by default every field that claims it is taken out, in any spelling, like
a forged identity, and the address that the connection came from put in. Where a caller is a gateway that is trusted to
name those before it (``append``), its list is kept and the address added at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ringfence.snapshot import ForwardedFor
from sidecar import http1, http2
from sidecar.http1.head import DEFAULT_PRIVATE

FORWARDED_FOR: Final = b"x-forwarded-for"
CLAIMS: Final = frozenset({FORWARDED_FOR, b"forwarded", b"x-real-ip"})
"""The fields in which applications look for their client's address."""
_APPENDED: Final = DEFAULT_PRIVATE | {FORWARDED_FOR}
_REPLACED: Final = DEFAULT_PRIVATE | CLAIMS
_LISTS: Final = re.compile(rb"\r\nx-forwarded-for:([^\r\n]*)", re.IGNORECASE).findall  # blanks may be many


def http1_heads() -> dict[ForwardedFor, http1.Heads]:
    """The rules for request heads under each setting. A list that is appended to is taken out and written anew: there
    are applications that of several lines read the first alone, and others the last."""
    return {
        ForwardedFor.REPLACE: http1.Heads(private=_REPLACED),
        ForwardedFor.APPEND: http1.Heads(private=_APPENDED),
        ForwardedFor.OFF: http1.Heads(),
    }


def http2_heads() -> dict[ForwardedFor, http2.Heads]:
    """As ``http1_heads``."""
    return {
        ForwardedFor.REPLACE: http2.Heads(private=_REPLACED),
        ForwardedFor.APPEND: http2.Heads(private=_APPENDED),
        ForwardedFor.OFF: http2.Heads(),
    }


def line(addresses: bytes) -> bytes:
    """The field for HTTP/1.x."""
    return FORWARDED_FOR + b": " + addresses + b"\r\n"


def field(addresses: bytes) -> bytes:
    """The field for HTTP/2."""
    return http2.literal(FORWARDED_FOR, addresses)


def appended_line(block: bytes, address: bytes) -> bytes:
    """The line for HTTP/1.x with ``address`` behind the lists of ``block``, a judged field block as it came."""
    lists = (value.strip(b" \t") for value in _LISTS(block))
    return line(b", ".join((*filter(None, lists), address)))


def appended_field(fields: Iterable[tuple[bytes, bytes]], address: bytes) -> bytes:
    """The field for HTTP/2 with ``address`` behind the lists among ``fields``, as they came."""
    lists = (value for name, value in fields if name == FORWARDED_FOR and value)
    return field(b", ".join((*lists, address)))


def told(setting: ForwardedFor, lists: Iterable[bytes], address: bytes) -> tuple[bytes, ...]:
    """Each value of the field as the app is told it, of a caller at ``address`` that sent ``lists``."""
    if setting is ForwardedFor.OFF:
        return tuple(lists)
    if not address:
        return ()
    before = filter(None, lists) if setting is ForwardedFor.APPEND else ()
    return (b", ".join((*before, address)),)


def address_of(remote: tuple[str, int]) -> bytes:
    """A socket's address as the field has it: no port, and no zone, which means nothing elsewhere."""
    return remote[0].partition("%")[0].encode("ascii")
