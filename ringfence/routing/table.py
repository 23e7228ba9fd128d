"""What holds for one request: compiled once a route, remembered a request's method and target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.policy.paths import PathTemplate, judged_path, parse_template
from ringfence.routing.matching import takes_path
from ringfence.routing.model import Retries, Route, RouteMatch
from ringfence.routing.specificity import precedence

_MEMORY_LIMIT: Final = 1024
_MEMORY_TARGET_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """Of one request. ``name``: of the match, "" where none matched."""

    name: str
    response_head_seconds: float | None
    request_seconds: float | None
    retries: Retries


class RouteTable:
    """Answers which settings hold for a request; the most specific match decides, whatever the order."""

    __slots__ = ("_default", "_entries", "_memory")

    def __init__(self, route: Route) -> None:
        timeouts = route.timeouts
        self._default = RequestSettings(
            name="",
            response_head_seconds=timeouts.response_head_seconds,
            request_seconds=timeouts.request_seconds,
            retries=route.retries,
        )
        entries = [entry for match in route.matches for entry in self._entries_of(match)]
        self._entries = sorted(entries, key=lambda entry: entry.order)
        self._memory: dict[tuple[bytes, bytes], RequestSettings] = {}

    @property
    def default(self) -> RequestSettings:
        """What holds where no match names the request."""
        return self._default

    @property
    def uniform(self) -> bool:
        """Whether every request has the default settings."""
        return not self._entries

    def settings(self, method: bytes, target: bytes) -> RequestSettings:
        """The settings of a request; the default ones where the path is ambiguous: it is refused elsewhere."""
        if not self._entries:
            return self._default
        key = (method, target)
        found = self._memory.get(key)
        if found is None:
            found = self._find(method, target)
            if len(target) <= _MEMORY_TARGET_BYTES:
                if len(self._memory) >= _MEMORY_LIMIT:
                    self._memory.clear()
                self._memory[key] = found
        return found

    def _find(self, method: bytes, target: bytes) -> RequestSettings:
        path = judged_path(target)
        if path is None:
            return self._default
        segments = path[1:].split(b"/")
        word = method.decode("latin-1")
        for entry in self._entries:
            if entry.takes(word, segments):
                return entry.settings
        return self._default

    def _entries_of(self, match: RouteMatch) -> list[_Entry]:
        own, timeouts = self._default, match.timeouts
        head = timeouts.response_head_seconds if timeouts is not None else None
        whole = timeouts.request_seconds if timeouts is not None else None
        settings = RequestSettings(
            name=match.name,
            response_head_seconds=head if head is not None else own.response_head_seconds,
            request_seconds=whole if whole is not None else own.request_seconds,
            retries=match.retries if match.retries is not None else own.retries,
        )
        methods = frozenset(match.methods)
        paths: list[PathTemplate | None] = [parse_template(text) for text in match.paths]
        return [_Entry(methods, path, settings) for path in paths or [None]]


class _Entry:
    """One path template of one match."""

    __slots__ = ("methods", "order", "path", "settings")

    def __init__(self, methods: frozenset[str], path: PathTemplate | None, settings: RequestSettings) -> None:
        self.methods = methods
        self.path = path
        self.settings = settings
        self.order = precedence(path, methods=bool(methods))

    def takes(self, method: str, segments: Sequence[bytes]) -> bool:
        if self.methods and method not in self.methods:
            return False
        return self.path is None or takes_path(self.path, segments)
