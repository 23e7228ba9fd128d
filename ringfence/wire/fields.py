"""Single fields of a message, each checked before anybody sees its value. Pure; ``convert`` puts them together.

Every reader is given the path of its field first and raises WireError with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from cryptography import x509

from ringfence.kit.addresses import AddressError, check_port, parse_cidr, parse_ip
from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
from ringfence.kit.labels import is_instance
from ringfence.policy.callers import PatternError, parse_spiffe_id_pattern
from ringfence.policy.model import SpiffeIdPattern
from ringfence.policy.paths import TemplateError, parse_template
from ringfence.spiffe import SpiffeId, SpiffeIdError, TrustDomain
from ringfence.spiffe.leaf import UNREADABLE

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=StrEnum)
_Message = TypeVar("_Message")

_NAME_LIMIT_CHARACTERS: Final = 253
_WORD_LIMIT_CHARACTERS: Final = 2048
_RULE_NAME_LIMIT_CHARACTERS: Final = 320  # a document's name, a dot, a label; and a few to spare
_MOMENT_MAXIMUM: Final = 253_402_300_799  # the last second of the year 9999, which is the last that RFC 3339 can write
_ROOT_LIMIT_BYTES: Final = 16 * 1024
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WireError(ValueError):
    """A message that does not hold together: ``path: what``."""


def read_list(path: str, items: Sequence[_Message], limit: int, read: Callable[[str, _Message], _T]) -> tuple[_T, ...]:
    """At most ``limit`` items, each through ``read``."""
    if len(items) > limit:
        raise WireError(f"{path}: {len(items)} are more than {limit}")
    return tuple(read(f"{path}[{index}]", item) for index, item in enumerate(items))


def check_unique(path: str, keys: Iterable[Hashable]) -> None:
    """No key twice."""
    seen: set[Hashable] = set()
    for index, key in enumerate(keys):
        if key in seen:
            raise WireError(f"{path}[{index}]: a duplicate")
        seen.add(key)


def read_name(path: str, text: str) -> str:
    """Printable text of 1 to 253 characters."""
    return _bounded(path, text, _NAME_LIMIT_CHARACTERS)


def read_full_name(path: str, text: str) -> str:
    """A document's name behind its namespace and a slash."""
    return _bounded(path, text, 2 * _NAME_LIMIT_CHARACTERS + 1)


def read_instance(path: str, text: str) -> str:
    """The name of an instance: it also names files."""
    if not is_instance(text):
        raise WireError(f"{path}: {text[:64]!r} is not the name of an instance")
    return text


def read_ip(path: str, text: str) -> str:
    """A canonical IP address."""
    try:
        return parse_ip(text)
    except AddressError as error:
        raise WireError(f"{path}: {error}") from error


def read_cidr(path: str, text: str) -> str:
    """A canonical network, host bits zero."""
    try:
        return parse_cidr(text)
    except AddressError as error:
        raise WireError(f"{path}: {error}") from error


def read_host_pattern(path: str, text: str) -> str:
    """A lower-case DNS name, or one behind ``*.``."""
    try:
        return parse_host_pattern(text)
    except HostPatternError as error:
        raise WireError(f"{path}: {error}") from error


def read_port(path: str, port: int) -> int:
    """1 to 65535."""
    try:
        return check_port(port)
    except AddressError as error:
        raise WireError(f"{path}: {error}") from error


def read_word(path: str, text: str, words: type[_Word]) -> _Word:
    """One of a closed set. An unknown one is never taken for another: it may ask for what this version cannot judge."""
    try:
        return words(text)
    except ValueError:
        raise WireError(f"{path}: {text[:64]!r} is none of {', '.join(words)}, which this version knows") from None


def read_spiffe_id(path: str, text: str) -> SpiffeId:
    """A SPIFFE ID."""
    try:
        return SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise WireError(f"{path}: {error}") from error


def read_trust_domain(path: str, text: str) -> TrustDomain:
    """A trust domain's name."""
    try:
        return TrustDomain(text)
    except SpiffeIdError as error:
        raise WireError(f"{path}: {error}") from error


def read_spiffe_id_pattern(path: str, text: str) -> SpiffeIdPattern:
    """A SPIFFE ID, or one with whole path segments ``*``."""
    try:
        return parse_spiffe_id_pattern(_bounded(path, text, _WORD_LIMIT_CHARACTERS))
    except PatternError as error:
        raise WireError(f"{path}: {error}") from error


def read_method(path: str, text: str) -> str:
    """An HTTP method without lower-case letters."""
    if not text or not _only(text, _TOKEN):
        raise WireError(f"{path}: {text[:64]!r} is not an upper-case method")
    return _bounded(path, text, _NAME_LIMIT_CHARACTERS)


def read_path_template(path: str, text: str) -> str:
    """A path template in canonical form."""
    try:
        return str(parse_template(_bounded(path, text, _WORD_LIMIT_CHARACTERS)))
    except TemplateError as error:
        raise WireError(f"{path}: {error}") from error


def read_rule_name(path: str, text: str) -> str:
    """A rule's name, which in an expanded role is the role's, a dot and the permission's."""
    return _bounded(path, text, _RULE_NAME_LIMIT_CHARACTERS)


def read_text(path: str, text: str) -> str:
    """Printable text of 1 to 2,048 characters."""
    return _bounded(path, text, _WORD_LIMIT_CHARACTERS)


def read_checked(path: str, text: str, check: Callable[[str], bool]) -> str:
    """Text for which ``check`` holds, one of ``ringfence.policy.words``."""
    if not check(text):
        what = check.__name__.removeprefix("is_").replace("_", " ")
        raise WireError(f"{path}: {text[:64]!r} is no {what}")
    return text


def read_moment(path: str, seconds: float) -> float:
    """Unix seconds of a time that can be written."""
    if not 0 < seconds <= _MOMENT_MAXIMUM:  # false for a NaN, too
        raise WireError(f"{path}: {seconds} is no time")
    return seconds


def read_within(path: str, value: int, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    if not low <= value <= high:
        raise WireError(f"{path}: {value} is not from {low} to {high}")
    return value


def read_root(path: str, der: bytes) -> bytes:
    """A CA certificate in DER."""
    if len(der) > _ROOT_LIMIT_BYTES:
        raise WireError(f"{path}: {len(der)} bytes are more than {_ROOT_LIMIT_BYTES}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*UNREADABLE, x509.ExtensionNotFound) as error:
        raise WireError(f"{path}: not a CA certificate: {error}") from error
    if not constraints.ca:
        raise WireError(f"{path}: not a CA certificate")
    return der


def _bounded(path: str, text: str, limit: int) -> str:
    if not 1 <= len(text) <= limit or not text.isprintable():
        raise WireError(f"{path}: {text[:64]!r} is empty, too long or not printable")
    return text


def _only(text: str, characters: Collection[str]) -> bool:
    return all(character in characters for character in text)
