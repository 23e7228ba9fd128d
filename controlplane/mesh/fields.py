"""Fields as the mesh file has them: names, ports, addresses, lifetimes; None stands in for what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from ringfence.kit.addresses import PORT_MAXIMUM, AddressError, SocketAddress, parse_ip
from ringfence.kit.labels import LABEL_MEND, is_label
from ringfence.policy.labels import Labels, read_labels
from ringfence.policy.problems import Problem, shown
from ringfence.policy.yamlnodes import MappingReader, ValueReader

_T = TypeVar("_T")

LOOPBACK: Final = "127.0.0.1"
SHORTEST_LIFETIME_SECONDS: Final = 2
LONGEST_LIFETIME_SECONDS: Final = 30 * 86400
_IP_MEND: Final = f"write one such as {LOOPBACK}"


def bounded(reader: MappingReader, key: str, limit: int) -> list[ValueReader]:
    """The items of the optional list at ``key``; more than ``limit`` are a problem, and none but the first are read."""
    found = reader.sequence(key, default=None)
    if len(found) > limit:
        reader.problem(f"{len(found)} {key} are more than {limit}", "split the service", key=key)
    return found[:limit]


class Fields:
    """Reads fields through a MappingReader and knows whether reading one told a problem."""

    __slots__ = ("_problems",)

    def __init__(self, problems: list[Problem]) -> None:
        """``problems`` is the list that the readers tell theirs to."""
        self._problems = problems

    def clean(self, read: Callable[[], _T]) -> _T | None:
        """What ``read`` answers, or None if it told a problem: a stand-in must not draw problems of its own."""
        before = len(self._problems)
        value = read()
        return value if len(self._problems) == before else None

    def label(self, reader: MappingReader, key: str, *, default: str | None = None) -> tuple[str, bool]:
        """A name as written, and whether it is one: what refers to a bad name should still find it."""
        text = reader.text(key) if default is None else reader.text(key, default=default)
        if not text or key not in reader:
            return text, is_label(text)
        valid = is_label(text)
        if not valid:
            reader.problem(f"{key} {shown(text)} is not a valid name", LABEL_MEND, key=key)
        return text, valid

    def labels(self, reader: MappingReader) -> Labels:
        """The labels of a service, by which documents choose it; none where there are none, or they are wrong."""
        return read_labels(reader, "labels", self._problems)

    def port(self, reader: MappingReader, key: str, *, default: int | None = None) -> int | None:
        """A port number, required if there is no ``default``."""
        if default is not None and key not in reader:
            reader.known(key)
            return default
        return self.clean(lambda: reader.integer(key, 1, PORT_MAXIMUM))

    def ip(self, reader: MappingReader, key: str, *, default: str) -> str | None:
        """A canonical IP address."""
        text = self.clean(lambda: reader.text(key, default=default))
        return None if text is None else self._parse_ip(reader, key, text)

    def ip_item(self, item: ValueReader) -> str | None:
        """A canonical IP address in a list."""
        text = item.text()
        try:
            return parse_ip(text) if text else None
        except AddressError:
            item.problem(f"{item.what} {shown(text)} is not an IP address", _IP_MEND)
            return None

    def socket_address(
        self, reader: MappingReader, key: str, *, required: bool = False, default_host: str | None = None
    ) -> SocketAddress | None:
        """An address whose host is an IP literal: a name would make the mesh depend on a resolver."""
        if not required and key not in reader:
            reader.known(key)
            return None
        found = self.clean(lambda: reader.address(key, default_host=default_host))
        if found is None:
            return None
        host = self._parse_ip(reader, key, found.host)
        return None if host is None else SocketAddress(host, found.port)

    def distinct(
        self, reader: MappingReader, key: str, limit: int, read: Callable[[ValueReader], _T | None], empty_mend: str
    ) -> tuple[_T, ...]:
        """The items of an optional list, each through ``read``; one that is there twice is a problem, and so is an
        empty list, which one reader takes for nothing and another for anything."""
        found: dict[_T, int] = {}
        before = len(self._problems)
        items = bounded(reader, key, limit)
        if key in reader and not items and len(self._problems) == before:
            reader.problem(f"{key} is empty", empty_mend, key=key)
        for item in items:
            value = self.clean(partial(read, item))
            if value is None:
                continue
            line = item.place.line
            if value in found:
                item.problem(f"{item.what} is there twice", f"first on line {found[value]}: remove one")
            found.setdefault(value, line)
        return tuple(found)

    def seconds(self, reader: MappingReader, key: str) -> int | None:
        """A lifetime in whole seconds; None also if it is absent."""
        found = self.clean(lambda: reader.duration(key, default=None))
        if found is None:
            return None
        if found != int(found):
            reader.problem(f"{key} of {found:g}s is no whole number of seconds", "leave out the milliseconds", key=key)
            return None
        if not SHORTEST_LIFETIME_SECONDS <= found <= LONGEST_LIFETIME_SECONDS:
            mend = f"from {SHORTEST_LIFETIME_SECONDS}s to {LONGEST_LIFETIME_SECONDS // 86400}d"
            reader.problem(f"{key} of {int(found)}s is out of range", mend, key=key)
            return None
        return int(found)

    def _parse_ip(self, reader: MappingReader, key: str, text: str) -> str | None:
        try:
            return parse_ip(text)
        except AddressError:
            reader.problem(f"{key} {shown(text)} is not an IP address", _IP_MEND, key=key)
            return None
