"""What a client of an HTTP proxy asks for: a request in absolute form, or CONNECT (RFC 9112 sections 3.2.2 and 3.2.3).

Pure. Only the destination is read here; framing and all else of a request in absolute form is ``sidecar.http1``'s,
which also makes its target agree with its Host. A host is given in one spelling, so that it can be compared with what
is permitted: names in lower case, addresses in their canonical form, an IPv4 address in IPv6's clothes as what it is.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from sidecar.http1.ending import head_end
from sidecar.http1.fields import FieldNames, read_block
from sidecar.http1.lines import (
    REQUEST_LINE_LIMIT_BYTES,
    VERSION_10,
    VERSION_11,
    is_authority,
    read_request_line,
    starts_like_method,
)
from sidecar.http1.reasons import Malformed, MalformedError, shown

_CONNECT: Final = b"CONNECT "
_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)")
# What resolvers take for an IPv4 address although it is not written as one: 127.1, 2130706433, 0x7f.0.0.1
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_CONNECT_FIELDS: Final = FieldNames(wanted=frozenset({b"host", b"content-length", b"transfer-encoding"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom a client asks for; ``port`` is None where it named none."""

    host: str
    port: int | None
    tunnel: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def read_asked(data: bytes) -> tuple[Asked, int] | None:
    """Whom the request that begins ``data`` is for, and how much of ``data`` is the head of a CONNECT (else 0).

    None while that cannot be told; raises `MalformedError`, also for what is asked of a server and not of a proxy.
    """
    start = 2 if data.startswith(b"\r\n") else 0  # one empty line before a request is dropped
    if len(data) > start and not (start == 0 and data == b"\r") and not starts_like_method(data[start]):
        raise MalformedError(Malformed.BAD_REQUEST_LINE, f"a request does not begin with {shown(data[:1])}")
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        if len(data) > REQUEST_LINE_LIMIT_BYTES + 2:
            raise MalformedError(Malformed.LINE_TOO_LONG, f"request line above {REQUEST_LINE_LIMIT_BYTES} bytes")
        if b"\n" in data[start:]:
            raise MalformedError(Malformed.BARE_LF, "line ends in a lone line feed")
        return None
    line = data[start:line_end]
    if not line.startswith(_CONNECT):
        return _absolute(line), 0
    end = head_end(data, start, start)
    if end < 0:
        return None
    return _connect(line, data[line_end + 2 : end]), end


def read_authority(value: bytes, *, tunnel: bool = False) -> Asked:
    """``host`` or ``host:port``; raises `MalformedError`, as for a user's name in it."""
    if not is_authority(value):
        raise MalformedError(Malformed.BAD_TARGET, f"authority {shown(value)}")
    host, colon, port = value.decode("ascii").rpartition(":")
    if not colon or port.endswith("]"):
        host, port = value.decode("ascii"), ""
    number = int(port) if port else None
    if number == 0:
        raise MalformedError(Malformed.BAD_TARGET, f"port 0 in {shown(value)}")
    return Asked(host=_one_spelling(host), port=number, tunnel=tunnel)


def _one_spelling(host: str) -> str:
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.lower()
        if host.startswith("[") or _NUMBER.fullmatch(name.rpartition(".")[2]):
            raise MalformedError(Malformed.BAD_TARGET, f"host {shown(host.encode())} is no address") from None
        return name
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def _absolute(line: bytes) -> Asked:
    _, target, _ = read_request_line(line)
    match = _SCHEME.match(target)
    if match is None:
        raise MalformedError(Malformed.BAD_TARGET, f"a proxy is asked in absolute form or by CONNECT: {shown(target)}")
    if match[1].lower() != b"http":
        raise MalformedError(Malformed.BAD_TARGET, f"scheme {shown(match[1])}; TLS goes through CONNECT")
    return read_authority(match[2])


def _connect(line: bytes, block: bytes) -> Asked:
    words = line.split(b" ")
    if len(line) > REQUEST_LINE_LIMIT_BYTES:
        raise MalformedError(Malformed.LINE_TOO_LONG, f"request line above {REQUEST_LINE_LIMIT_BYTES} bytes")
    if len(words) != 3 or words[2] not in (VERSION_10, VERSION_11):
        raise MalformedError(Malformed.BAD_REQUEST_LINE, f"no CONNECT of HTTP/1.x: {shown(line)}")
    asked = read_authority(words[1], tunnel=True)
    if asked.port is None:
        raise MalformedError(Malformed.BAD_TARGET, f"CONNECT names no port: {shown(words[1])}")
    named, _ = read_block(block, _CONNECT_FIELDS)
    if b"content-length" in named or b"transfer-encoding" in named:
        raise MalformedError(Malformed.BODY_NOT_ALLOWED, "CONNECT with a body")  # RFC 9110 section 9.3.6
    hosts = named.get(b"host", [])
    if len(hosts) > 1:
        raise MalformedError(Malformed.HOST_DUPLICATE, f"hosts {shown(b','.join(hosts))}")
    if hosts:  # some clients leave the port out there
        told = read_authority(hosts[0].strip(b" "))
        if told.host != asked.host or told.port not in (None, asked.port):
            raise MalformedError(Malformed.HOST_MISMATCH, f"CONNECT to {shown(words[1])}, host {shown(hosts[0])}")
    return asked
