"""What a list of fields says: request head, response head, trailers (RFC 9113 section 8.3). Pure; no bytes here.

The target, methods, authorities and lengths are judged by the very rules of HTTP/1.x (`sidecar.http1`): what is judged
is what the application will see, whichever version carries it.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.fields import FieldNames, has_alike, is_plain, plain_name
from sidecar.http1.framing import request_length
from sidecar.http1.lines import METHODS, REQUEST_LINE_LIMIT_BYTES, TARGET_BYTES, is_authority
from sidecar.http1.reasons import MalformedError as Http1Error
from sidecar.http1.reasons import shown
from sidecar.http2.fields import FORBIDDEN_REQUEST_TRAILERS, FORBIDDEN_RESPONSE_TRAILERS, FieldRules, Named
from sidecar.http2.literal import encode
from sidecar.http2.reasons import Malformed, MalformedError
from sidecar.http2.table import Field
from sidecar.trace_context import SEVERAL, TRACEPARENT

UNANNOUNCED: Final = 1 << 62
"""In place of a length: none was announced."""
UNANNOUNCED_LEFT: Final = 1 << 61
"""What is left of an unannounced length is above this, whatever came of it; of an announced one, below."""

_REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority", b":protocol"})
_REQUEST_WANTED: Final = frozenset({b"host", b"content-length", b"content-type", b"te", b"expect", b"grpc-timeout"})
_RESPONSE_WANTED: Final = frozenset({b"content-length", b"grpc-status"})
_TRAILERS: Final = [b"trailers"]
_KNOWN_HOSTS: Final = 256
_GRPC: Final = b"application/grpc"
_GRPC_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_GRPC_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_STATUSES: Final = {b"%d" % status: status for status in range(100, 600) if status != 101}


class RequestHead:
    """What the header section of a request says. Shared by all requests with that section; never changed once made."""

    __slots__ = (
        "_literal",
        "_named",
        "_plain",
        "_traceparent",
        "bare",
        "expect_continue",
        "fields",
        "grpc",
        "grpc_timeout_seconds",
        "host",
        "kept",
        "length",
        "method",
        "protocol",
        "target",
    )

    def __init__(
        self,
        fields: list[Field],
        kept: list[Field] | None,
        method: bytes,
        target: bytes,
        host: bytes,
        length: int,
        grpc: bool,
        expect_continue: bool,
        protocol: bytes,
        grpc_timeout_seconds: float | None = None,
    ) -> None:
        self.fields = fields
        """As they came."""
        self.kept = kept
        """Without private fields; None if there was none to take out."""
        self.method = method
        self.target = target
        """Path and query in origin form, or ``*``."""
        self.host = host
        """:authority, or Host where that is missing; as sent."""
        self.length = length
        """Bytes of content announced, or `UNANNOUNCED`."""
        self.grpc = grpc
        self.grpc_timeout_seconds = grpc_timeout_seconds
        """In which the client wants its gRPC call to have ended; None if it does not say."""
        self.expect_continue = expect_continue
        self.protocol = protocol
        """Of an extended CONNECT (RFC 8441); else empty."""
        self.bare = not protocol and (length == 0 or length == UNANNOUNCED)
        """Nothing in it depends on what follows, or on what the server offers."""
        self._literal: bytes | None = None
        self._traceparent: bytes | None = None
        self._named: dict[bytes, tuple[bytes, ...]] | None = None
        self._plain: bool | None = None

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """Each value of field ``name`` in order, as it is forwarded: what the server is to see, and so what policy may
        judge by. ``host`` is the authority, by whichever field it came; the crumbs of a cookie are one (RFC 9113
        section 8.2.3)."""
        named = self._named
        if named is None:
            named = self._named = {}
            for key, value in self.fields if self.kept is None else self.kept:
                if key[:1] != b":":
                    named[key] = (*named.get(key, ()), value)
            named[b"host"] = (self.host,)
            if len(crumbs := named.get(b"cookie", ())) > 1:
                named[b"cookie"] = (b"; ".join(crumbs),)
        return named.get(name, ())

    def has_alike(self, name: bytes) -> bool:
        """Whether a field that is forwarded is named as ``name`` but in another spelling, like ``x_team`` for
        ``x-team``, so that applications may take it for that one."""
        self.values(name)
        named = self._named or {}
        if self._plain is None:
            self._plain = all(map(is_plain, named))
        return not (self._plain and is_plain(name)) and has_alike(name, named)

    def sent(self, name: bytes) -> list[bytes]:
        """The same as the client sent it, private or not."""
        return [value for key, value in self.fields if key == name]

    @property
    def traceparent(self) -> bytes:
        """The value of the one ``traceparent``; empty if there is none, `SEVERAL` if there are more."""
        if self._traceparent is None:
            found = [value for name, value in self.fields if name == TRACEPARENT]
            self._traceparent = b"" if not found else found[0] if len(found) == 1 else SEVERAL
        return self._traceparent

    @property
    def literal(self) -> bytes:
        """The section to forward, as a block that stands by itself."""
        if self._literal is None:
            self._literal = encode(self.fields if self.kept is None else self.kept)
        return self._literal

    def without(self, names: frozenset[bytes]) -> RequestHead:
        """The same, for one request, without what would be forwarded under these lower-case names."""
        before = self.fields if self.kept is None else self.kept
        kept = [field for field in before if field[0] not in names]
        if len(kept) == len(before):
            return self
        return RequestHead(
            self.fields,
            kept,
            self.method,
            self.target,
            self.host,
            self.length,
            self.grpc,
            self.expect_continue,
            self.protocol,
            self.grpc_timeout_seconds,
        )

    def without_any(self, plain: frozenset[bytes]) -> RequestHead:
        """As `without`, for names in whatever spelling (`plain_name`)."""
        fields = self.fields if self.kept is None else self.kept
        found = frozenset(name for name, _ in fields if name[:1] != b":" and plain_name(name) in plain)
        return self.without(found) if found else self

    def drops_any(self, plain: frozenset[bytes]) -> bool:
        """False: HTTP/2 has no connection options."""
        return False

    def first(self, name: bytes) -> bytes | None:
        """The first value of field ``name`` as the client sent it, private or not; None if absent."""
        return next((value for key, value in self.fields if key == name), None)


class ResponseHead:
    """What a header or trailer section of a response, or the trailers of a request, say."""

    __slots__ = ("_literal", "fields", "grpc_status", "kept", "length", "refusal", "status")

    def __init__(
        self,
        *,
        fields: list[Field],
        kept: list[Field] | None,
        status: int = 0,
        length: int = UNANNOUNCED,
        grpc_status: int | None = None,
        refusal: bytes | None = None,
    ) -> None:
        self.fields = fields
        self.kept = kept
        self.status = status
        """0 for trailers."""
        self.length = length
        """Bytes of content announced, or `UNANNOUNCED`; not meant for the answer to a HEAD."""
        self.grpc_status = grpc_status
        """None if absent; -1 if it is no number."""
        self.refusal = refusal
        """What the other sidecar says of its refusal; None if absent, or not listened to."""
        self._literal: bytes | None = None

    @property
    def literal(self) -> bytes:
        """The section to forward, as a block that stands by itself."""
        if self._literal is None:
            self._literal = encode(self.fields if self.kept is None else self.kept)
        return self._literal


class HeadReader:
    """Reads lists of fields by one set of names. See `Heads` for the parameters."""

    __slots__ = (
        "_hosts",
        "_protocols",
        "_refusal_name",
        "_request",
        "_request_trailers",
        "_response",
        "_response_trailers",
    )

    def __init__(self, names: FieldNames, refusal_name: bytes | None, protocols: frozenset[bytes]) -> None:
        told = frozenset({refusal_name} if refusal_name else ())
        self._refusal_name = refusal_name
        self._protocols = protocols
        self._hosts: set[bytes] = set()  # lawful ones, seen lately
        self._request = FieldRules(wanted=_REQUEST_WANTED, names=names)
        self._response = FieldRules(wanted=_RESPONSE_WANTED | told, names=names)
        self._request_trailers = FieldRules(
            wanted=frozenset(), names=names, forbidden=FORBIDDEN_REQUEST_TRAILERS, strict=True
        )
        self._response_trailers = FieldRules(
            wanted=frozenset({b"grpc-status"}) | told, names=names, forbidden=FORBIDDEN_RESPONSE_TRAILERS
        )

    def request(self, fields: list[Field]) -> RequestHead:
        """Raises `MalformedError`."""
        pseudo: dict[bytes, bytes] = {}
        for name, value in fields:
            if name[:1] != b":":
                break
            if name not in _REQUEST_PSEUDO or name in pseudo:
                raise MalformedError(Malformed.BAD_PSEUDO_FIELDS, f"{shown(name)} unknown or twice")
            pseudo[name] = value
        named, kept = self._request.sift(fields, len(pseudo))
        method, target, protocol = self._line(pseudo)
        host = pseudo.get(b":authority", b"")
        if host not in self._hosts or b"host" in named:
            host = self._host(pseudo, named)
        te = named.get(b"te", _TRAILERS)
        if te != _TRAILERS and (len(te) != 1 or te[0].lower() != b"trailers"):
            raise MalformedError(Malformed.CONNECTION_FIELD, f"te {shown(b','.join(te))}")
        expect = named.get(b"expect")
        if expect is not None and (len(expect) != 1 or expect[0].lower() != b"100-continue"):
            raise MalformedError(Malformed.BAD_EXPECTATION, f"expect {shown(b','.join(expect))}")
        length = _length(named) if b"content-length" in named else UNANNOUNCED
        if length and length != UNANNOUNCED and method == b"TRACE":
            raise MalformedError(Malformed.BODY_ON_TRACE, "TRACE with a body")
        grpc = b"content-type" in named and _is_grpc(named[b"content-type"])
        timeout = _grpc_timeout(named) if grpc and b"grpc-timeout" in named else None
        return RequestHead(fields, kept, method, target, host, length, grpc, expect is not None, protocol, timeout)

    def _line(self, pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
        """Method, target and protocol; what HTTP/1.x has in its request line."""
        try:
            method, scheme, target = pseudo[b":method"], pseudo[b":scheme"], pseudo[b":path"]
        except KeyError as error:
            if pseudo.get(b":method") == b"CONNECT":
                raise MalformedError(Malformed.BAD_METHOD, "CONNECT") from error
            raise MalformedError(Malformed.BAD_PSEUDO_FIELDS, f"no {error.args[0].decode()}") from error
        protocol = pseudo.get(b":protocol", b"")
        extended = method == b"CONNECT" and protocol in self._protocols
        if not extended and (method not in METHODS or b":protocol" in pseudo):
            raise MalformedError(Malformed.BAD_METHOD, f"method {shown(method)} {shown(protocol)}")
        if scheme not in (b"http", b"https"):
            raise MalformedError(Malformed.BAD_SCHEME, f"scheme {shown(scheme)}")
        foreign = target.translate(None, TARGET_BYTES)
        if foreign:
            reason = Malformed.BAD_TARGET if foreign.strip(b"#") else Malformed.FRAGMENT_IN_TARGET
            raise MalformedError(reason, f"target {shown(target)}")
        if not (target.startswith(b"/") or (target == b"*" and method == b"OPTIONS")):
            raise MalformedError(Malformed.BAD_TARGET, f"target {shown(target)} of {shown(method)}")
        if len(target) > REQUEST_LINE_LIMIT_BYTES:
            raise MalformedError(Malformed.HEAD_TOO_LARGE, f"target of {len(target)} bytes")
        return method, target, protocol

    def _host(self, pseudo: dict[bytes, bytes], named: Named) -> bytes:
        """The one authority that :authority and Host agree upon; raises `MalformedError`."""
        hosts = named.get(b"host", [])
        authority = pseudo.get(b":authority")
        if len(hosts) > 1:
            raise MalformedError(Malformed.HOST_DUPLICATE, f"hosts {shown(b','.join(hosts))}")
        if authority is None:
            if not hosts:
                raise MalformedError(Malformed.HOST_MISSING, "neither :authority nor host")
            authority = hosts[0]
        elif hosts and hosts[0] != authority and hosts[0].lower() != authority.lower():
            raise MalformedError(Malformed.HOST_MISMATCH, f":authority {shown(authority)}, host {shown(hosts[0])}")
        if not is_authority(authority):
            raise MalformedError(Malformed.HOST_INVALID, f"authority {shown(authority)}")
        if len(self._hosts) >= _KNOWN_HOSTS:
            self._hosts.clear()
        self._hosts.add(authority)
        return authority

    def response(self, fields: list[Field]) -> ResponseHead:
        """Raises `MalformedError`."""
        if not fields or fields[0][0] != b":status":
            raise MalformedError(Malformed.BAD_PSEUDO_FIELDS, "no :status")
        status = _STATUSES.get(fields[0][1])
        if status is None:
            raise MalformedError(Malformed.BAD_STATUS, f"status {shown(fields[0][1])}")
        named, kept = self._response.sift(fields, 1)
        length = _length(named) if b"content-length" in named else UNANNOUNCED
        if (status < 200 or status == 204) and length not in (0, UNANNOUNCED):
            raise MalformedError(Malformed.BODY_NOT_ALLOWED, f"status {status} announces a body")
        return ResponseHead(
            fields=fields,
            kept=kept,
            status=status,
            length=0 if status in (204, 304) else length,
            grpc_status=_grpc_status(named),
            refusal=self._refusal(named),
        )

    def request_trailers(self, fields: list[Field]) -> ResponseHead:
        """Raises `MalformedError`."""
        _, kept = self._request_trailers.sift(fields, 0)
        return ResponseHead(fields=fields, kept=kept)

    def response_trailers(self, fields: list[Field]) -> ResponseHead:
        """Raises `MalformedError`."""
        named, kept = self._response_trailers.sift(fields, 0)
        return ResponseHead(fields=fields, kept=kept, grpc_status=_grpc_status(named), refusal=self._refusal(named))

    def _refusal(self, named: Named) -> bytes | None:
        told = named.get(self._refusal_name) if self._refusal_name is not None else None
        return told[0] if told is not None and len(told) == 1 else None


def _grpc_timeout(named: Named) -> float | None:
    """In seconds, by gRPC's own form: at most eight digits and a unit. What is not of it is the server's to refuse."""
    values = named[b"grpc-timeout"]
    match = _GRPC_TIMEOUT(values[0]) if len(values) == 1 else None
    return int(match[1]) * _GRPC_UNITS[match[2]] if match is not None else None


def _length(named: Named) -> int:
    """The announced length; raises `MalformedError`."""
    try:
        return request_length(named, True)
    except Http1Error as error:
        raise MalformedError(Malformed(error.reason), error.detail) from error


def _is_grpc(types: list[bytes]) -> bool:
    """Whether the content is gRPC (and not gRPC-Web, which is read as HTTP)."""
    return types[0].startswith(_GRPC) and types[0][len(_GRPC) :][:1] in (b"", b"+", b";")


def _grpc_status(named: Named) -> int | None:
    values = named.get(b"grpc-status")
    if values is None:
        return None
    return int(values[0]) if values[0].isdigit() and len(values[0]) <= 3 else -1
