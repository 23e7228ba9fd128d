"""The rules for one list of fields, a header or a trailer section (RFC 9113 section 8.2). Pure.

Pseudo-header fields are `head`'s. Values are judged as HTTP/1.x would read them, for an application behind us may be a
gateway that writes them into HTTP/1.x: no control byte, no white space at the ends, no framing field in disguise.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from sidecar.http1.fields import TOKEN_BYTES, FieldNames
from sidecar.http1.reasons import shown
from sidecar.http2.reasons import Malformed, MalformedError
from sidecar.http2.table import Field

FIELDS_LIMIT: Final = 256
"""Fields in one list, pseudo-header fields included; a cookie may come in many crumbs."""

_NAME_BYTES: Final = TOKEN_BYTES.translate(None, bytes(range(0x41, 0x5B)))
_VALUE_BYTES: Final = b"\t" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)
_CONNECTION_NAMES: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_FRAMING_NAMES: Final = _CONNECTION_NAMES | {b"host", b"content-length", b"te", b"trailer", b"expect"}
_DISGUISES: Final = FieldNames(wanted=frozenset(), private=_FRAMING_NAMES)
FORBIDDEN_REQUEST_TRAILERS: Final = frozenset(
    b"content-length host te trailer expect max-forwards cache-control pragma range if-match if-none-match "
    b"if-modified-since if-unmodified-since if-range authorization proxy-authorization proxy-authenticate "
    b"www-authenticate cookie set-cookie content-type content-encoding content-range content-location location age "
    b"date expires vary retry-after forwarded x-real-ip http2-settings".split()
)
"""RFC 9110 section 6.5.1: framing, routing, authentication, modifiers and what tells how to read the content."""
FORBIDDEN_RESPONSE_TRAILERS: Final = frozenset({b"content-length", b"host", b"te", b"trailer", b"set-cookie"})
"""Fewer than of requests: the trailing metadata of a gRPC server may have any name, and its client knows it."""

_BORING_FIELDS: Final = 1024
_BORING_FIELD_BYTES: Final = 256
_KNOWN_NAMES: Final = 1024
_KNOWN_NAME_BYTES: Final = 64

_PLAIN: Final = 0
_WANTED: Final = 1
_PRIVATE: Final = 2

Named: TypeAlias = dict[bytes, list[bytes]]
"""Field name → values, in order; only of the names that were asked for."""


class FieldRules:
    """What one kind of field list may hold, and what of it a reader wants to see.

    wanted      names whose values `sift` gives back
    names       which fields only a sidecar may set (`FieldNames.is_private`); they are taken out
    forbidden   names that refuse the list as BAD_TRAILER
    strict      private fields refuse the list, too
    """

    __slots__ = ("_boring", "_forbidden", "_kinds", "_names", "_strict", "_wanted")

    def __init__(
        self,
        *,
        wanted: frozenset[bytes],
        names: FieldNames,
        forbidden: frozenset[bytes] = frozenset(),
        strict: bool = False,
    ) -> None:
        self._wanted = wanted
        self._names = names
        self._forbidden = forbidden
        self._strict = strict
        self._boring: set[Field] = set()
        self._kinds: dict[bytes, int] = {}

    def sift(self, fields: list[Field], start: int) -> tuple[Named, list[Field] | None]:
        """The wanted values of ``fields[start:]``, and ``fields`` without the private ones (None if there was none).

        Private fields are shown among the wanted values if they are wanted. Raises `MalformedError`.
        """
        if len(fields) > FIELDS_LIMIT:
            raise MalformedError(Malformed.TOO_MANY_FIELDS, f"{len(fields)} fields, {FIELDS_LIMIT} allowed")
        named: Named = {}
        private: list[int] = []
        boring = self._boring
        kinds = self._kinds
        for at in range(start, len(fields)):
            field = fields[at]
            if field in boring:
                continue
            name, value = field
            kind = kinds.get(name)
            if kind is None:
                kind = self._classify(name)
            if value and (value.translate(None, _VALUE_BYTES) or value[0] <= 0x20 or value[-1] <= 0x20):
                raise MalformedError(Malformed.BAD_FIELD_VALUE, f"{shown(name)}: {shown(value)}")
            if kind:
                if kind & _WANTED:
                    named.setdefault(name, []).append(value)
                if kind & _PRIVATE:
                    private.append(at)
            elif len(name) + len(value) <= _BORING_FIELD_BYTES:
                if len(boring) >= _BORING_FIELDS:
                    boring.clear()
                boring.add(field)
        if not private:
            return named, None
        kept = list(fields)
        for at in reversed(private):
            del kept[at]
        return named, kept

    def _classify(self, name: bytes) -> int:
        """What is to be done with fields of ``name``; remembered."""
        if not name or name.translate(None, _NAME_BYTES):
            reason = Malformed.BAD_PSEUDO_FIELDS if name.startswith(b":") else Malformed.BAD_FIELD_NAME
            raise MalformedError(reason, f"field name {shown(name)}")
        if name in _CONNECTION_NAMES:
            raise MalformedError(Malformed.CONNECTION_FIELD, f"field {shown(name)}")
        if name in self._forbidden:
            raise MalformedError(Malformed.BAD_TRAILER, f"trailer field {shown(name)}")
        if name not in _FRAMING_NAMES and _DISGUISES.is_private(name):
            raise MalformedError(Malformed.BAD_FIELD_NAME, f"a framing field in another spelling: {shown(name)}")
        kind = _WANTED if name in self._wanted else _PLAIN
        if self._names.is_private(name):
            if self._strict:
                raise MalformedError(Malformed.BAD_TRAILER, f"trailer field {shown(name)}")
            kind |= _PRIVATE
        if len(name) <= _KNOWN_NAME_BYTES:
            if len(self._kinds) >= _KNOWN_NAMES:
                self._kinds.clear()
            self._kinds[name] = kind
        return kind
