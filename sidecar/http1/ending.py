"""Where a head ends in a growing buffer, and the finishing touch on a response made on this side."""

from __future__ import annotations

from sidecar.http1.head import HEAD_LIMIT_BYTES
from sidecar.http1.reasons import Malformed, MalformedError


def head_end(data: bytes | bytearray, start: int, scanned: int) -> int:
    """The offset after the empty line that ends the head at ``data[start:]``, or -1 if it is incomplete.

    ``scanned`` is where an earlier call stopped looking, so a head that drips in byte by byte costs no more than one
    that comes whole. A lone LF or a head above `HEAD_LIMIT_BYTES` raises `MalformedError` as soon as it can be seen.
    """
    limit = start + HEAD_LIMIT_BYTES
    end = data.find(b"\r\n\r\n", max(start, scanned - 3), limit)
    stop = limit if end < 0 else end + 4
    if data.count(b"\n", scanned, stop) != data.count(b"\r\n", max(start, scanned - 1), stop):
        raise MalformedError(Malformed.BARE_LF, "line ends in a lone line feed")
    if end >= 0:
        return end + 4
    if len(data) >= limit:
        raise MalformedError(Malformed.HEAD_TOO_LARGE, f"head above {HEAD_LIMIT_BYTES} bytes")
    return -1


def with_close(head: bytes) -> bytes:
    """``head`` (or a whole response) with ``connection: close`` as its first field."""
    line, _, rest = head.partition(b"\r\n")
    return line + b"\r\nconnection: close\r\n" + rest


def as_answer(response: bytes, *, close: bool, head_only: bool) -> bytes:
    """``response``, made by the judge, as it goes to the client: told to close if so, without its body after HEAD."""
    if close:
        response = with_close(response)
    return response[: response.index(b"\r\n\r\n") + 4] if head_only else response
