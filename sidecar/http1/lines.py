"""The first line of a message: request line and status line (RFC 9112 sections 3 and 4).

Pure. What the policy judges is what the application will see, so the target comes out in origin form (or ``*``), and
`inspector` forwards exactly that in place of an absolute form.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.reasons import Malformed, MalformedError, shown

REQUEST_LINE_LIMIT_BYTES: Final = 16 * 1024
"""Without its CR LF; RFC 9112 section 3 asks for 8,000 at least."""

METHODS: Final = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE QUERY "
    b"ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE PROPFIND PROPPATCH REBIND REPORT SEARCH "
    b"UNBIND UNLINK UNLOCK".split()
)
"""Registered methods that both parsers know. CONNECT is left out: it would make the application an open relay."""

TARGET_BYTES: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
"""What a target may hold. Wider than RFC 3986 by ``" < > \\ ^ ` { | }``, which clients send as they are and which frame
nothing; whether a path that holds them is ambiguous is the policy's to say."""

_AUTHORITY: Final = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?]*)(.*)", re.DOTALL)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")

VERSION_10: Final = b"HTTP/1.0"
VERSION_11: Final = b"HTTP/1.1"


def is_authority(value: bytes) -> bool:
    """Whether ``value`` is ``host`` or ``host:port``: a name, an IPv4 address or a bracketed IPv6 one; no user, no
    escape.

    Stricter than RFC 3986: sub-delims, percent-escapes and empty labels in a host serve only those who want two readers
    to differ.
    """
    match = _AUTHORITY.fullmatch(value)
    if match is None or b".." in value or value[:1] == b".":
        return False
    return match[1] is None or int(match[1]) <= 65535


def read_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, raw target and version of ``line`` (no CR LF), each lawful by itself; raises `MalformedError`."""
    if len(line) > REQUEST_LINE_LIMIT_BYTES:
        detail = f"request line of {len(line)} bytes, {REQUEST_LINE_LIMIT_BYTES} allowed"
        raise MalformedError(Malformed.LINE_TOO_LONG, detail)
    words = line.split(b" ")
    if len(words) == 2 and words[0] in METHODS and words[1]:
        raise MalformedError(Malformed.BAD_VERSION, f"no version in {shown(line)}")
    if len(words) != 3 or not all(words):
        raise MalformedError(Malformed.BAD_REQUEST_LINE, f"not three words parted by single spaces: {shown(line)}")
    method, target, version = words
    if method not in METHODS:
        raise MalformedError(Malformed.BAD_METHOD, f"method {shown(method)}")
    if version != VERSION_11 and version != VERSION_10:
        raise MalformedError(Malformed.BAD_VERSION, f"version {shown(version)}")
    foreign = target.translate(None, TARGET_BYTES)
    if foreign:
        reason = Malformed.BAD_TARGET if foreign.strip(b"#") else Malformed.FRAGMENT_IN_TARGET
        raise MalformedError(reason, f"target {shown(target)}")
    return method, target, version


def origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    """The path and query that ``target`` asks for, or ``*``.

    ``host`` is the Host value (empty if there was none); the authority of an absolute form must equal it but for case.
    Raises `MalformedError`.
    """
    if target.startswith(b"/"):
        return target
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not is_authority(match[1]):
        raise MalformedError(Malformed.BAD_TARGET, f"target {shown(target)} of {shown(method)}")
    authority, rest = match.groups()
    if authority.lower() != host.lower():
        raise MalformedError(Malformed.HOST_MISMATCH, f"target for {shown(authority)}, host {shown(host)}")
    if rest.startswith(b"/"):
        return rest
    if method == b"OPTIONS" and not rest:
        return b"*"
    return b"/" + rest


def read_status_line(line: bytes) -> tuple[bool, int]:
    """Whether the version is 1.1 (and not 1.0), and the status, 100 to 599; raises `MalformedError`."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise MalformedError(Malformed.BAD_STATUS_LINE, f"status line {shown(line)}")
    return match[1] == b"1", int(match[2])


def starts_like_method(byte: int) -> bool:
    """Whether a request may begin with ``byte``: told apart at once, a TLS hello waits for no line end."""
    return 0x41 <= byte <= 0x5A
