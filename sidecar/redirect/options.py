"""From the texts of the command line to settings, every problem told at once under the option that it came by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from sidecar.redirect.errors import RedirectSettingsError
from sidecar.redirect.settings import Inbound, Outbound, OwnTraffic, RedirectSettings
from sidecar.redirect.words import parse_gid, parse_mark, parse_network, parse_port, parse_uid

__all__ = ["read_settings"]

T = TypeVar("T")

_INBOUND_LISTS: Final = ("only-inbound-port", "exclude-inbound-port")
_OUTBOUND_LISTS: Final = ("exclude-outbound-port", "exclude-cidr", "exclude-uid", "exclude-gid", "exclude-mark")


def read_settings(options: Mapping[str, Any]) -> RedirectSettings:
    """``options``: click's, by parameter name (``exclude_cidr``). Raises RedirectSettingsError."""
    reading = _Reading(options)
    problems = [*_contradictions(options)]
    listeners = {name: reading.port(name) for name in ("inbound-listener", "outbound-listener", "mesh-port")}
    inbound = Inbound(
        listener=listeners["inbound-listener"],
        only_ports=reading.listed("only-inbound-port", parse_port),
        exclude_ports=reading.listed("exclude-inbound-port", parse_port) | reading.listed("signals-port", parse_port),
    )
    outbound = Outbound(
        own=OwnTraffic(
            uid=reading.one("sidecar-uid", parse_uid),
            gid=reading.one("sidecar-gid", parse_gid),
            mark=reading.one("sidecar-mark", parse_mark),
        ),
        listener=listeners["outbound-listener"],
        exclude_ports=reading.listed("exclude-outbound-port", parse_port),
        exclude_networks=reading.listed("exclude-cidr", parse_network),
        exclude_uids=reading.listed("exclude-uid", parse_uid),
        exclude_gids=reading.listed("exclude-gid", parse_gid),
        exclude_marks=reading.listed("exclude-mark", parse_mark),
    )
    problems += reading.problems
    if problems:
        raise RedirectSettingsError(problems)
    return RedirectSettings(
        inbound=None if options["no_inbound"] else inbound,
        outbound=None if options["no_outbound"] else outbound,
        mesh_port=listeners["mesh-port"],
        ipv6=not options["no_ipv6"],
    )


def _contradictions(options: Mapping[str, Any]) -> Iterator[str]:
    """An exclusion that would exclude nothing is a mistake; who the sidecar is may always be said."""
    for direction, lists in (("inbound", _INBOUND_LISTS), ("outbound", _OUTBOUND_LISTS)):
        for name in lists:
            if options[f"no_{direction}"] and options[_parameter(name)]:
                yield f"--{name}: {direction} is left alone by --no-{direction} (leave one of the two out)"


def _parameter(name: str) -> str:
    return name.replace("-", "_")


class _Reading:
    """Turns texts into values and keeps every problem."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self.problems: list[str] = []

    def one(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self._options[_parameter(name)]
        values = self._all(name, () if text is None else (text,), parse)
        return values[0] if values else None

    def port(self, name: str) -> int:
        """0, and a problem noted, if the text is no port."""
        return self.one(name, parse_port) or 0

    def listed(self, name: str, parse: Callable[[str], T]) -> frozenset[T]:
        texts: Sequence[str] = self._options[_parameter(name)]
        return frozenset(self._all(name, [part for text in texts for part in text.split(",")], parse))

    def _all(self, name: str, texts: Sequence[str], parse: Callable[[str], T]) -> list[T]:
        values = []
        for text in texts:
            try:
                values.append(parse(text.strip()))
            except ValueError as error:
                self.problems.append(f"--{name}: {error}")
        return values
