"""What a sidecar's parent process and its workers say to each other, as bytes and back. Pure.

A message is a head of 10 bytes (version, kind, the sizes of what follows, big-endian), a JSON object with its fields,
and raw bytes, its ``blob``, where it has one. Both ends are one program, started from the same files, and still nothing
is taken for granted: an unknown version or kind, a missing, strange or foreign field and a size above its limit are all
a ``MessageError``, after which the channel is of no more use.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, fields
from typing import Any, Final, get_type_hints

VERSION: Final = 1
FIELDS_LIMIT_BYTES: Final = 1 << 20
BLOB_LIMIT_BYTES: Final = 64 << 20
_HEAD: Final = struct.Struct(">BBII")


class MessageError(ValueError):
    """Bytes that are no message of this version; the text says in what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """Worker: I run, and this is the program that I am."""

    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Parent: who you are. ``worker`` counts from 1; ``log_lock`` and ``limits`` are inherited descriptors."""

    worker: int
    spiffe_id: str
    every_request: bool
    sample: float
    spans_endpoint: str
    """"" where requests have no spans; then the next two mean nothing."""
    spans_sample: float
    spans_headers_file: str
    log_level: str
    log_lock: int
    limits: int
    drain_seconds: float
    pod_addresses: tuple[str, ...]
    resolvers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Parent: a new SVID. ``chain`` and roots are DER in base64, ``blob`` is the private key (PKCS#8, DER)."""

    chain: tuple[str, ...]
    trust_domains: tuple[str, ...]
    roots: tuple[str, ...]
    roots_of: tuple[int, ...]
    """For each of ``roots``: of which of ``trust_domains`` it is."""
    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Parent: make everything ready for this snapshot (a wire message), and answer."""

    serial: int
    received: float
    """When the parent had it, in seconds of the machine's monotonic clock, which all its processes share."""
    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforce:
    """Parent: put what was prepared in force, and answer."""

    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Parent: forget what was prepared, as another worker refused it, and answer."""

    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Parent: end within so many seconds; 0: at once."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLevel:
    """Parent: log from this level on."""

    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Parent: tell what lives, at most ``limit`` of each kind, as an answer."""

    serial: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Parent: tell what you noted of the call with this request id, as an answer; an empty one if nothing."""

    serial: int
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedSince:
    """Parent: tell the latest ``limit`` calls noted since ``moment`` (Unix seconds), a JSON list, as an answer."""

    serial: int
    moment: float
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TapOpened:
    """Parent: tell what you judge, as far as the filter wants it, in ``Tapped`` with this number."""

    tap: int
    denied: bool
    would_deny: bool
    shadow: bool
    caller: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TapClosed:
    """Parent: nobody reads that any more."""

    tap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Worker: what became of the question with this serial; ``error`` is empty when it was done."""

    serial: int
    error: str
    blob: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Worker: all metric families as they stand."""

    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """Worker: JSON lines of a tap."""

    tap: int
    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRefused:
    """Worker: the app took no connection on this service port."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flowed:
    """Worker: what it judged since it told last, as a flow report of the wire."""

    blob: bytes = field(repr=False)


Message = (
    Attached
    | Start
    | Identity
    | Prepare
    | Enforce
    | Discard
    | Drain
    | LogLevel
    | Connections
    | TapOpened
    | TapClosed
    | Answer
    | Counted
    | Tapped
    | AppRefused
    | Noted
    | Flowed
    | NotedSince
)

# Numbers are never used for something else; the order is the numbering.
_KINDS: Final[tuple[type[Any], ...]] = (
    Attached,
    Start,
    Identity,
    Prepare,
    Enforce,
    Discard,
    Drain,
    LogLevel,
    Connections,
    TapOpened,
    TapClosed,
    Answer,
    Counted,
    Tapped,
    AppRefused,
    Noted,
    Flowed,
    NotedSince,
)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS, 1)}
_TYPES: Final = {kind: get_type_hints(kind) for kind in _KINDS}


def encode(message: Message) -> bytes:
    """The bytes of a message; MessageError when it is too large."""
    told = {one.name: getattr(message, one.name) for one in fields(message)}
    blob: bytes = told.pop("blob", b"")
    text = json.dumps(told, separators=(",", ":")).encode("ascii")
    if len(text) > FIELDS_LIMIT_BYTES or len(blob) > BLOB_LIMIT_BYTES:
        raise MessageError(f"{type(message).__name__} is too large: {len(text)} and {len(blob)} bytes")
    return _HEAD.pack(VERSION, _NUMBERS[type(message)], len(text), len(blob)) + text + blob


class Decoder:
    """Bytes in, in whatever pieces; messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. Raises MessageError, and is of no use then."""
        self._buffer += data
        found: list[Message] = []
        while len(self._buffer) >= _HEAD.size:
            version, number, text_size, blob_size = _HEAD.unpack_from(self._buffer)
            if version != VERSION or not 1 <= number <= len(_KINDS):
                raise MessageError(f"version {version}, kind {number}: not of this program")
            if text_size > FIELDS_LIMIT_BYTES or blob_size > BLOB_LIMIT_BYTES:
                raise MessageError(f"sizes {text_size} and {blob_size} are above their limits")
            end = _HEAD.size + text_size + blob_size
            if len(self._buffer) < end:
                break
            text = bytes(self._buffer[_HEAD.size : _HEAD.size + text_size])
            blob = bytes(self._buffer[_HEAD.size + text_size : end])
            del self._buffer[:end]
            found.append(_read(_KINDS[number - 1], text, blob))
        return found


def _read(kind: type[Any], text: bytes, blob: bytes) -> Message:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{kind.__name__} is no JSON") from error
    wanted = dict(_TYPES[kind])
    has_blob = wanted.pop("blob", None) is not None
    if not isinstance(told, dict) or told.keys() != wanted.keys() or (blob and not has_blob):
        raise MessageError(f"{kind.__name__} has other fields than it should")
    values = {name: _value(f"{kind.__name__}.{name}", told[name], wanted[name]) for name in wanted}
    message: Message = kind(**values, blob=blob) if has_blob else kind(**values)
    return message


def _value(where: str, value: object, wanted: Any) -> object:
    if wanted in (bool, int, str) and type(value) is wanted:
        return value
    if wanted is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, list):
        item = str if wanted == tuple[str, ...] else int if wanted == tuple[int, ...] else None
        if item is not None and all(type(one) is item for one in value):
            return tuple(value)
    raise MessageError(f"{where} is no {wanted}")
