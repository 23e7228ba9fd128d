"""One block of field lines (a header or a trailer section) under the strict grammar of RFC 9112 section 5.

Pure: bytes in, the values of the few fields that matter out. Which of those values are lawful is `head`'s and
`body`'s to say. Every line must be ``token ":" value CRLF``; a fold, a space before the colon, a control byte, a lone
CR or LF refuses the whole block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from sidecar.http1.reasons import Malformed, MalformedError, shown

FIELDS_LIMIT: Final = 128
"""Field lines in one block."""
LINE_LIMIT_BYTES: Final = 32 * 1024
"""One field line, without its CR LF. Kerberos tokens and fat cookies need more than the usual 8 KiB."""

TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BLOCK_BYTES: Final = b"\t\r\n" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)
_PLAIN: Final = bytes(
    byte if chr(byte) in "abcdefghijklmnopqrstuvwxyz0123456789" else byte + 32 if 0x41 <= byte <= 0x5A else ord("-")
    for byte in range(256)
)
_BORING_LINES: Final = 1024
_BORING_LINE_BYTES: Final = 256

_BARE_CR: Final = re.compile(rb"\r(?!\n)")

Named: TypeAlias = dict[bytes, list[bytes]]
"""Lower-case field name → raw values, in order; only of the names that were asked for."""


class FieldNames:
    """Which fields a reader wants to see (``wanted``), and which it takes out (``private``, and any name with a
    prefix).

    Names are lower case. When a name is compared with the private ones, whatever is no letter and no digit counts as
    ``-``: gateways like CGI and WSGI show ``x_forwarded_client_cert`` (and some, ``x.forwarded.client.cert``) to an
    application under the name of the real one, so it would be as good a forgery.
    """

    __slots__ = ("boring", "prefixes", "private", "wanted")

    def __init__(
        self,
        *,
        wanted: frozenset[bytes],
        private: frozenset[bytes] = frozenset(),
        prefixes: tuple[bytes, ...] = (),
    ) -> None:
        self.wanted = wanted
        self.private = private
        self.prefixes = prefixes
        self.boring: set[bytes] = set()
        """Lines seen lately that are lawful, not wanted and not private; `read_block` bounds it."""

    def is_private(self, name: bytes) -> bool:
        """Whether ``name`` is one to take out, in whatever spelling."""
        plain = name.translate(_PLAIN)
        return plain in self.private or plain.startswith(self.prefixes)


def plain_name(name: bytes) -> bytes:
    """``name`` as it is compared where any spelling must be met: lower case, what is no letter and no digit ``-``."""
    return name.translate(_PLAIN)


def read_block(block: bytes, names: FieldNames) -> tuple[Named, list[bytes] | None]:
    """The wanted values of ``block``, and its lines without the private ones (None if there was none to take out).

    ``block`` ends with the empty line: ``b"\\r\\n"``, or lines and ``b"\\r\\n\\r\\n"``. Private fields are shown among
    the wanted values if they are wanted. Raises `MalformedError`.
    """
    named: Named = {}
    if len(block) == 2:
        return named, None
    if block.translate(None, _BLOCK_BYTES):
        raise _byte_flaw(block)
    lines = block[:-4].split(b"\r\n")
    count = len(lines)
    if count > FIELDS_LIMIT:
        raise MalformedError(Malformed.TOO_MANY_FIELDS, f"more than {FIELDS_LIMIT} field lines")
    if block.count(b"\r") != count + 1 or block.count(b"\n") != count + 1:
        lone = _BARE_CR.search(block)
        reason = Malformed.BARE_CR if lone else Malformed.BARE_LF
        raise MalformedError(reason, f"line break of one byte in {shown(block)}")
    boring = names.boring
    wanted = names.wanted
    private = names.private
    prefixes = names.prefixes
    taken: list[int] = []
    for index, line in enumerate(lines):
        if line in boring:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN_BYTES) or len(line) > LINE_LIMIT_BYTES:
            raise _line_flaw(line)
        plain = name.translate(_PLAIN)
        name = name.lower()
        if name in wanted:
            named.setdefault(name, []).append(value)
        elif plain in wanted and plain not in private:
            raise MalformedError(Malformed.BAD_FIELD_NAME, f"a framing field in another spelling: {shown(line)}")
        if plain in private or plain.startswith(prefixes):
            taken.append(index)
        elif name not in wanted and len(line) <= _BORING_LINE_BYTES:
            if len(boring) >= _BORING_LINES:
                boring.clear()
            boring.add(line)
    if not taken:
        return named, None
    for index in reversed(taken):
        del lines[index]
    return named, lines


def is_plain(name: bytes) -> bool:
    """Whether a name in lower case has one spelling only (see `FieldNames`)."""
    return name.translate(_PLAIN) == name


def has_alike(name: bytes, names: Iterable[bytes]) -> bool:
    """Whether one of ``names`` is ``name`` in another spelling, so that some applications take it for that one."""
    plain = name.translate(_PLAIN)
    return any(other != name and other.translate(_PLAIN) == plain for other in names)


def join_block(lines: list[bytes]) -> bytes:
    """The block that `read_block` would read as ``lines``."""
    return b"\r\n".join(lines) + b"\r\n\r\n" if lines else b"\r\n"


def tokens(values: list[bytes]) -> list[bytes]:
    """The lower-case members of comma-separated lists of tokens (RFC 9110 section 5.6.1).

    Empty members are skipped, as a recipient must. Raises `MalformedError` for a member that is no token; a slash is
    let through, since upgrade tokens carry versions.
    """
    found = []
    for value in values:
        for member in value.split(b","):
            member = member.strip(b" \t").lower()
            if not member:
                continue
            if member.translate(None, TOKEN_BYTES + b"/"):
                raise MalformedError(Malformed.BAD_CONNECTION, f"no list of tokens: {shown(value)}")
            found.append(member)
    return found


def _byte_flaw(block: bytes) -> MalformedError:
    """Which line holds the control byte, and whether in its name or in its value."""
    for line in block.split(b"\r\n"):
        if line.translate(None, _BLOCK_BYTES):
            name, colon, _ = line.partition(b":")
            in_name = not colon or bool(name.translate(None, _BLOCK_BYTES))
            reason = Malformed.BAD_FIELD_NAME if in_name else Malformed.BAD_FIELD_VALUE
            return MalformedError(reason, f"control byte in {shown(line)}")
    return MalformedError(Malformed.BAD_FIELD_VALUE, f"control byte in {shown(block)}")


def _line_flaw(line: bytes) -> MalformedError:
    """What is wrong with a line that is not ``token ":" value``."""
    name, colon, _ = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        return MalformedError(Malformed.OBS_FOLD, f"folded line {shown(line)}")
    if len(line) > LINE_LIMIT_BYTES:
        return MalformedError(Malformed.LINE_TOO_LONG, f"field line of {len(line)} bytes, {LINE_LIMIT_BYTES} allowed")
    if colon and name.rstrip(b" \t") != name and not name.rstrip(b" \t").translate(None, TOKEN_BYTES):
        return MalformedError(Malformed.SPACE_BEFORE_COLON, f"space before the colon in {shown(line)}")
    return MalformedError(Malformed.BAD_FIELD_NAME, f"no field name in {shown(line)}")
