"""Request and response heads: what their field blocks mean, judged once per distinct block and then remembered.

A client sends nearly the same header block with every request, and a server nearly the same head with every response
of a second. So the verdict on a block is kept under its exact bytes, with everything that the verdict depends on in
the key: the version stands in front of a request's block, the whole status line in front of a response's. The request
line is not part of it and is judged every time. A block is accepted only if this engine and llhttp (by httptools)
both take it, and both end the head, and the message if it has no body, at the same byte.

`inspector` looks keys up in `Heads.requests` and `Heads.responses` itself, since that is the hot path, and calls
`Heads.judge_request` and `Heads.judge_response` for what is not there.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Final

import httptools

from sidecar.http1.fields import FieldNames, Named, join_block, read_block, tokens
from sidecar.http1.framing import CODING_NAME, HOST, LENGTH_NAME, host_of, request_length, response_length
from sidecar.http1.lines import read_status_line
from sidecar.http1.reasons import Malformed, MalformedError, shown
from sidecar.http1.verdicts import VERSION_PREFIX, RequestFields, ResponseFields

HEAD_LIMIT_BYTES: Final = 64 * 1024
"""First line, fields and the empty line together."""
REMEMBERED_BLOCKS: Final = 1024
REMEMBERED_BLOCK_BYTES: Final = 4096
REMEMBERED_BYTES: Final = 1024 * 1024
"""Bounds of one memory; it is emptied when it would pass one of them, so hostile blocks cost their judging, no more."""

DEFAULT_PRIVATE: Final = frozenset({b"x-forwarded-client-cert"})
DEFAULT_PREFIXES: Final = (b"x-ringfence-",)
DEFAULT_UPGRADES: Final = frozenset({b"websocket"})

_REQUEST_NAMES: Final = frozenset({HOST, LENGTH_NAME, CODING_NAME, b"connection", b"upgrade", b"expect"})
_RESPONSE_NAMES: Final = frozenset({LENGTH_NAME, CODING_NAME, b"connection", b"upgrade"})
_PROTECTED: Final = frozenset(
    {HOST, LENGTH_NAME, CODING_NAME, b"content-type", b"content-encoding", b"authorization", b"cookie", b"forwarded"}
)
_OFFER_NAMES: Final = frozenset({b"upgrade", b"http2-settings", b"connection"})
_USUAL_OPTIONS: Final = {
    b" close": [b"close"],
    b" keep-alive": [b"keep-alive"],
    b" Keep-Alive": [b"keep-alive"],
}


class _Witness:
    """Callbacks for httptools: how far one head took it."""

    __slots__ = ("heads", "messages")

    def __init__(self) -> None:
        self.heads = 0
        self.messages = 0

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_message_complete(self) -> None:
        self.messages += 1


class Heads:
    """Judges heads by one set of rules and remembers the verdicts. One per direction of a sidecar, shared by
    connections.

    private, prefixes   lower-case names, and beginnings of names, of the fields that only a sidecar may set; they are
                        taken out of requests and responses alike (``_`` in a name counts as ``-``)
    refusal_name        the private response field whose value becomes `ResponseFields.refusal`; None on the inbound
                        side, where such a field comes from the application and is a forgery
    upgrades            lower-case tokens of protocols that a connection may be upgraded to. Other offers are
                        withdrawn from the request: after ``h2c`` requests would flow that nobody judges
    """

    __slots__ = (
        "_request_names",
        "_response_names",
        "_seen_bytes",
        "refusal_name",
        "requests",
        "responses",
        "upgrades",
    )

    def __init__(
        self,
        *,
        private: Collection[bytes] = DEFAULT_PRIVATE,
        prefixes: Collection[bytes] = DEFAULT_PREFIXES,
        refusal_name: bytes | None = None,
        upgrades: Collection[bytes] = DEFAULT_UPGRADES,
    ) -> None:
        taken = frozenset(private) | ({refusal_name} if refusal_name else set())
        response_wanted = _RESPONSE_NAMES | ({refusal_name} if refusal_name else set())
        self._request_names = FieldNames(wanted=_REQUEST_NAMES, private=taken, prefixes=tuple(prefixes))
        self._response_names = FieldNames(wanted=response_wanted, private=taken, prefixes=tuple(prefixes))
        self._seen_bytes = [0, 0]
        self.refusal_name = refusal_name
        self.upgrades = frozenset(upgrades)
        self.requests: dict[bytes, RequestFields] = {}
        """``b" HTTP/1.x\\r\\n"`` + field block → verdict."""
        self.responses: dict[bytes, ResponseFields] = {}
        """Whole head → verdict."""

    def is_private(self, name: bytes) -> bool:
        """Whether only a sidecar may send the field ``name`` (lower case)."""
        return self._request_names.is_private(name)

    def judge_request(self, key: bytes) -> RequestFields:
        """The verdict on ``b" HTTP/1.x\\r\\n"`` + field block, remembered or made anew; raises `MalformedError`."""
        fields = self.requests.get(key)
        if fields is None:
            fields = self._read_request(key)
            if self._makes_room(key, self.requests, 0):
                self.requests[key] = fields
        return fields

    def judge_response(self, head: bytes) -> ResponseFields:
        """The verdict on a whole response head, remembered or made anew; raises `MalformedError`."""
        fields = self.responses.get(head)
        if fields is None:
            fields = self._read_response(head)
            if self._makes_room(head, self.responses, 1):
                self.responses[head] = fields
        return fields

    def lawful_request(self, key: bytes) -> RequestFields | None:
        """As `judge_request`; None if it is refused, for the long way to say why."""
        try:
            return self.judge_request(key)
        except MalformedError:
            return None

    def lawful_response(self, head: bytes) -> ResponseFields | None:
        """As `judge_response`; None if it is refused, for the long way to say why."""
        try:
            return self.judge_response(head)
        except MalformedError:
            return None

    def _makes_room(
        self, key: bytes, memory: dict[bytes, RequestFields] | dict[bytes, ResponseFields], at: int
    ) -> bool:
        """Empty ``memory`` if ``key`` would overfill it; False if ``key`` itself is too long to keep."""
        size = len(key)
        if size > REMEMBERED_BLOCK_BYTES:
            return False
        if len(memory) >= REMEMBERED_BLOCKS or self._seen_bytes[at] + size > REMEMBERED_BYTES:
            memory.clear()
            self._seen_bytes[at] = 0
        self._seen_bytes[at] += size
        return True

    def _read_request(self, key: bytes) -> RequestFields:
        http11 = key.startswith(b" HTTP/1.1")
        block = key[VERSION_PREFIX:]
        named, kept = read_block(block, self._request_names)
        length = request_length(named, http11)
        host = host_of(named, http11)
        options = self._connection(named)
        expect = b"".join(named.get(b"expect", ())).strip(b" \t")
        if b"expect" in named and expect.lower() != b"100-continue":
            raise MalformedError(Malformed.BAD_EXPECTATION, f"expect {shown(expect)}")
        offer = tokens(named[b"upgrade"]) if b"upgrade" in named else []
        close = b"close" in options
        lawful = http11 and not close and b"upgrade" in options and self.upgrades.issuperset(offer)
        withdrawn = bool(offer) and not lawful
        if b"http2-settings" in options:
            withdrawn = True
        forward = block if kept is None else join_block(kept)
        if withdrawn:
            offer = []
            forward = _without_offer(forward, options)
        self._witness_request(key, length)
        return RequestFields(
            block=key,
            forward=forward,
            http11=http11,
            host=host,
            length=length,
            keep_alive=not close if http11 else b"keep-alive" in options and not close,
            expect_continue=http11 and b"expect" in named,
            upgrade=tuple(offer),
        )

    def _read_response(self, head: bytes) -> ResponseFields:
        line_end = head.index(b"\r\n")
        http11, status = read_status_line(head[:line_end])
        block = head[line_end + 2 :]
        named, kept = read_block(block, self._response_names)
        length = response_length(named, http11, status)
        options = self._connection(named)
        close = b"close" in options
        refusals = named.get(self.refusal_name, []) if self.refusal_name else []
        self._witness_response(head, length)
        return ResponseFields(
            forward=head if kept is None else head[: line_end + 2] + join_block(kept),
            untouched=kept is None,
            status=status,
            length=length,
            keep_alive=not close if http11 else b"keep-alive" in options and not close,
            upgrade=tuple(tokens(named[b"upgrade"])) if b"upgrade" in named else (),
            refusal=refusals[0].strip(b" \t") if len(refusals) == 1 else None,
        )

    def _connection(self, named: Named) -> list[bytes]:
        """The connection options; refused if one names a field that some later hop would then take out."""
        if b"connection" not in named:
            return []
        values = named[b"connection"]
        if len(values) == 1 and values[0] in _USUAL_OPTIONS:
            return _USUAL_OPTIONS[values[0]]
        options = tokens(values)
        for option in options:
            if option in _PROTECTED or option.startswith(b"x-forwarded-") or self.is_private(option):
                detail = f"connection option {shown(option)}"
                raise MalformedError(Malformed.CONNECTION_NAMES_PROTECTED_FIELD, detail)
        return options

    def _witness_request(self, key: bytes, length: int) -> None:
        witness = _Witness()
        parser = httptools.HttpRequestParser(witness)
        _agree(parser, witness, b"GET /" + key, length)

    def _witness_response(self, head: bytes, length: int) -> None:
        witness = _Witness()
        parser = httptools.HttpResponseParser(witness)
        _agree(parser, witness, head, length)


def _agree(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser, witness: _Witness, head: bytes, length: int
) -> None:
    """llhttp must take ``head``, end it at its last byte and not before, and end the message there iff it has no
    body."""
    try:
        parser.feed_data(head[:-1])
        early = witness.heads
        with suppress(httptools.HttpParserUpgrade):
            parser.feed_data(head[-1:])
    except httptools.HttpParserError as error:
        raise MalformedError(Malformed.PARSERS_DISAGREE, f"llhttp: {error}") from error
    if early or witness.heads != 1 or (witness.messages == 1) != (length == 0):
        raise MalformedError(Malformed.PARSERS_DISAGREE, f"llhttp frames otherwise: {shown(head)}")


def _without_offer(block: bytes, options: list[bytes]) -> bytes:
    """``block`` without its upgrade offer (RFC 9110 section 7.8: the offer is between two hops, and we decline it)."""
    kept = []
    for line in block[:-4].split(b"\r\n"):
        if line.partition(b":")[0].lower() not in _OFFER_NAMES:
            kept.append(line)
    rest = [option for option in options if option not in (b"upgrade", b"http2-settings")]
    if rest:
        kept.append(b"connection: " + b", ".join(rest))
    return join_block(kept)
