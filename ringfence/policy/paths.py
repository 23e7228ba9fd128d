"""What a request path means to the judge, and the templates it is matched against. Pure.

The judge must see what the app will see. Servers and frameworks differ in how they read dot segments, empty segments,
backslashes, path parameters and escaped slashes (RFC 3986 section 6.2.2, RFC 9110 section 4.2.3), so a path with any
of these is refused as ambiguous and never repaired. What all of them read alike is judged as one spelling:

- a needless escape of an unreserved character is that character, so ``%2e%2e`` is a dot segment and ``/%61`` is ``/a``;
- hexadecimal digits of the other escapes are upper case;
- a printable ASCII character that RFC 3986 wants escaped counts as escaped, so ``|`` is ``%7C``.

Every other escape stays as it is. The query is never judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LIMIT_TEMPLATE_CHARACTERS: Final = 1024
LIMIT_TEMPLATE_SEGMENTS: Final = 32

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Characters of a path that need no thought: RFC 3986 pchar and "/", without "%" and ";".
_PLAIN: Final = bytes(sorted(_UNRESERVED)) + b"/!$&'()*+,=:@"
_REFUSED: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%2[Ff]|%5[Cc]|%00|[\x00-\x20\x7f-\xff\\#]|//")
_RESPELLED: Final = re.compile(rb'%([0-9A-Fa-f]{2})|["<>\[\]^`{|}]')
_NAMELESS: Final = re.compile(rb"\.{0,2}(?:;|%3B)")
_PARAMETERS: Final = re.compile(rb"(?:;|%3B)")
_VARIABLE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")


def judged_path(target: bytes) -> bytes | None:
    """The path of a request target as it is judged, without query; None if it is ambiguous.

    ``target`` is in origin form (``/path?query``) or the asterisk form ``*`` (RFC 9112 section 3.2), which is answered
    as it is and matches no template; absolute and authority form are None. Two answers are equal exactly when every
    server that follows RFC 3986 takes the paths for the same.
    """
    path = target.partition(b"?")[0]
    if path.translate(None, _PLAIN) or b"//" in path or b"/." in path or path[:1] != b"/":
        return _judged_slowly(path, target)
    return path


def _judged_slowly(path: bytes, target: bytes) -> bytes | None:
    if path[:1] != b"/":
        return path if target == b"*" else None
    if _REFUSED.search(path):
        return None
    spelled = _RESPELLED.sub(_respell, path)
    if b"/." in spelled and any(segment in (b".", b"..") for segment in spelled.split(b"/")):
        return None
    # Parameters before a slash are cut by some servers and kept by others; those of the last one permit nothing more,
    # unless what is left without them is a dot segment or nothing (of refusals see ``other_reading``).
    last = spelled.rfind(b"/") + 1
    if 0 <= spelled.find(b";") < last or _NAMELESS.match(spelled, last):
        return None
    return spelled


def _respell(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if digits is None:
        return b"%%%02X" % ord(match[0])
    value = int(digits, 16)
    return bytes((value,)) if value in _UNRESERVED else b"%" + digits.upper()


def other_reading(path: bytes) -> bytes | None:
    """What some servers take a judged path for, those that cut the parameters off its last segment (``/admin;v=1`` is
    ``/admin`` to them); None if all read it as it is. What refuses a path must refuse this one, too."""
    found = _PARAMETERS.search(path)
    return path[: found.start()] if found is not None else None


class TemplateError(ValueError):
    """A path template that cannot be enforced as written; ``mend`` says what to write instead."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Variable:
    """One segment of any text but none: ``{name}``, or ``*`` when it has no name."""

    name: str | None = None

    def __str__(self) -> str:
        return "*" if self.name is None else "{" + self.name + "}"


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A parsed template: literal segments as judged, variables, and ``rest`` when it ends in ``**``.

    ``**`` stands for zero or more segments, so ``/orders/**`` takes ``/orders``, ``/orders/`` and ``/orders/7/lines``.
    A trailing slash is a segment of its own: ``/orders`` is not ``/orders/``. ``str`` gives the canonical text.
    """

    segments: tuple[bytes | Variable, ...]
    rest: bool = False

    def __str__(self) -> str:
        words = [part.decode("ascii") if isinstance(part, bytes) else str(part) for part in self.segments]
        return "/" + "/".join([*words, "**"] if self.rest else words)


def parse_template(text: str) -> PathTemplate:
    """Read a path template; TemplateError for what could never match, or matches otherwise than it looks."""
    if not text.startswith("/"):
        raise TemplateError("path template does not start with '/'", f"write /{text.lstrip('/')}"[:80])
    if len(text) > LIMIT_TEMPLATE_CHARACTERS:
        raise TemplateError(f"path template of more than {LIMIT_TEMPLATE_CHARACTERS} characters", "shorten it")
    if "?" in text:
        raise TemplateError("path template has a query", "the query is not judged: cut the template before '?'")
    words = text[1:].split("/")
    if len(words) > LIMIT_TEMPLATE_SEGMENTS:
        raise TemplateError(f"path template of more than {LIMIT_TEMPLATE_SEGMENTS} segments", "shorten it")
    rest = words[-1] == "**"
    segments = tuple(_segment(word) for word in (words[:-1] if rest else words))
    # Judged as a whole, so that what no request can be (``//``, dot segments) is no template either.
    joined = b"/" + b"/".join([part if isinstance(part, bytes) else b"x" for part in segments] + [b"x"] * rest)
    judged = judged_path(joined)
    if judged is None:
        raise TemplateError(
            "path template that no request can match",
            "no spaces, '#', empty or dot segments, ';' before '/', escapes of / \\ NUL",
        )
    named = [part.name for part in segments if isinstance(part, Variable) and part.name is not None]
    if len(named) > 1 and len(set(named)) < len(named):
        raise TemplateError("path template uses a name twice", "give each {name} its own name")
    if judged == joined:
        return PathTemplate(segments, rest)
    literals = judged[1:].split(b"/")
    segments = tuple(part if isinstance(part, Variable) else literals[at] for at, part in enumerate(segments))
    template = PathTemplate(segments, rest)
    if len(str(template)) > LIMIT_TEMPLATE_CHARACTERS:
        # Escapes make it longer, and whoever reads what was written here refuses it.
        raise TemplateError(f"path template of more than {LIMIT_TEMPLATE_CHARACTERS} characters, escaped", "shorten it")
    return template


def _segment(word: str) -> bytes | Variable:
    if word.isalnum() and word.isascii():
        return word.encode("ascii")
    if word == "*":
        return Variable()
    if word == "**":
        raise TemplateError("'**' before the end of a path template", "use '*' for one segment; '**' only as the last")
    variable = _VARIABLE.fullmatch(word)
    if variable:
        return Variable(variable[1])
    if any(character in word for character in "*{}"):
        raise TemplateError(
            "wildcard inside a segment of a path template",
            "'*' and '{name}' stand for whole segments; escape a star as %2A",
        )
    if not word.isascii():
        escaped = "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in word)
        raise TemplateError("path template has a character outside ASCII", f"requests carry it as {escaped}"[:120])
    return word.encode("ascii")
