"""What the head of a message says, once it was read: values that are shared by all messages with that head. Pure.

`head` makes and remembers them.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.fields import has_alike, is_plain, join_block, plain_name, tokens
from sidecar.trace_context import SEVERAL

VERSION_PREFIX: Final = len(b" HTTP/1.1\r\n")
_OF_CONNECTION: Final = frozenset({b"upgrade", b"te", b"keep-alive", b"http2-settings"})
_TRACEPARENT: Final = re.compile(rb"\r\ntraceparent:([^\r\n]*)", re.IGNORECASE).findall  # blanks may be many


class RequestFields:
    """What the field block of a request says. Shared by all requests with that block; never changed once made."""

    __slots__ = (
        "_named",
        "_plain",
        "_traceparent",
        "block",
        "expect_continue",
        "forward",
        "host",
        "http11",
        "keep_alive",
        "length",
        "plain",
        "untouched",
        "upgrade",
    )

    def __init__(
        self,
        *,
        block: bytes,
        forward: bytes,
        http11: bool,
        host: bytes,
        length: int,
        keep_alive: bool,
        expect_continue: bool,
        upgrade: tuple[bytes, ...],
    ) -> None:
        self.block = block
        """As it came, from the version of the request line on."""
        self.forward = forward
        """The field block to forward, to the empty line: without private fields and withdrawn upgrade offers."""
        self.http11 = http11
        self.host = host
        """As sent; empty if an HTTP/1.0 request had none."""
        self.length = length
        """Bytes of the body, or `CHUNKED`."""
        self.keep_alive = keep_alive
        self.expect_continue = expect_continue
        self.upgrade = upgrade
        """Lower-case tokens of an upgrade offer that is passed on."""
        self.untouched = block[VERSION_PREFIX:] == forward
        self.plain = keep_alive and length >= 0 and not upgrade and not expect_continue and http11
        self._traceparent: bytes | None = None
        self._named: dict[bytes, tuple[bytes, ...]] | None = None
        self._plain: bool | None = None

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """Each value of field ``name`` (lower case) in order, as it is forwarded: what the server is to see, and so
        what policy may judge by."""
        named = self._named
        if named is None:
            named = self._named = {}
            for line in self.forward[:-4].split(b"\r\n") if len(self.forward) > 2 else ():
                key, _, value = line.partition(b":")
                key = key.lower()
                named[key] = (*named.get(key, ()), value.strip(b" \t"))
        return named.get(name, ())

    def has_alike(self, name: bytes) -> bool:
        """Whether a field that is forwarded is named as ``name`` but in another spelling, like ``x_team`` for
        ``x-team``, so that applications may take it for that one; or whether one in any spelling is named by a
        connection option, so that some do not see it at all."""
        self.values(name)
        named = self._named or {}
        if b"connection" in named and name not in _OF_CONNECTION and self.drops_any(frozenset((plain_name(name),))):
            return True
        if self._plain is None:
            self._plain = all(map(is_plain, named))
        return not (self._plain and is_plain(name)) and has_alike(name, named)

    def sent(self, name: bytes) -> list[bytes]:
        """The same as the client sent it, private or not. Not for the hot path."""
        lines = (line.partition(b":") for line in self.block.split(b"\r\n")[1:])
        return [value.strip(b" \t") for key, _, value in lines if key.lower() == name]

    @property
    def traceparent(self) -> bytes:
        """The value of the one ``traceparent``; empty if there is none, `SEVERAL` if there are more."""
        if self._traceparent is None:
            found: list[bytes] = _TRACEPARENT(self.block)
            self._traceparent = b"" if not found else found[0].strip(b" \t") if len(found) == 1 else SEVERAL
        return self._traceparent

    def without(self, names: frozenset[bytes]) -> RequestFields:
        """The same, for one request, without what would be forwarded under these lower-case names."""
        lines = self.forward[:-4].split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in names]
        if len(kept) == len(lines):
            return self
        return RequestFields(
            block=self.block,
            forward=join_block(kept),
            http11=self.http11,
            host=self.host,
            length=self.length,
            keep_alive=self.keep_alive,
            expect_continue=self.expect_continue,
            upgrade=self.upgrade,
        )

    def without_any(self, plain: frozenset[bytes]) -> RequestFields:
        """As `without`, for names in whatever spelling (`plain_name`)."""
        lines = self.forward[:-4].split(b"\r\n") if len(self.forward) > 2 else []
        names = (line.partition(b":")[0].lower() for line in lines)
        found = frozenset(name for name in names if plain_name(name) in plain)
        return self.without(found) if found else self

    def drops_any(self, plain: frozenset[bytes]) -> bool:
        """Whether a connection option names one of these fields (`plain_name`), so that a hop behind us takes it out
        (RFC 9110 section 7.6.1)."""
        values = self.values(b"connection")
        return bool(values) and any(plain_name(option) in plain for option in tokens(list(values)))

    def first(self, name: bytes) -> bytes | None:
        """The first value of field ``name`` as the client sent it, private or not; None if absent. Not for the hot
        path."""
        return _first(self.block, name)


class ResponseFields:
    """What a response head says, its status line included. Shared by all responses with that head."""

    __slots__ = ("forward", "keep_alive", "length", "plain", "refusal", "status", "untouched", "upgrade")

    def __init__(
        self,
        *,
        forward: bytes,
        untouched: bool,
        status: int,
        length: int,
        keep_alive: bool,
        upgrade: tuple[bytes, ...],
        refusal: bytes | None,
    ) -> None:
        self.forward = forward
        """The whole head to forward: without private fields."""
        self.untouched = untouched
        self.status = status
        self.length = length
        """Bytes of the body, `CHUNKED` or `UNTIL_CLOSE`, unless the request was HEAD."""
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.refusal = refusal
        """Value of the field by which the other sidecar tells a refusal of its own; None if absent, or not listened
        to."""
        self.plain = keep_alive and length >= 0 and status >= 200 and refusal is None


def _first(block: bytes, name: bytes) -> bytes | None:
    """The first value of field ``name`` (lower case) in a judged block; the line before it is skipped."""
    for line in block.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip(b" \t")
    return None
