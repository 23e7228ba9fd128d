"""A copy of all objects of a kind, kept by list and watch.

Theory of operation. A list gives all objects and a version; a watch from that version gives each change after it. The
copy changes only by whole steps: what a new list says replaces it at once, when its last page has come, and until then
the old copy is served, so that no lost connection ever looks like objects that went away. A watch that ends goes on
from the last version that was seen; only where the server says that it no longer has that version (410), or sends what
cannot be read or is too large, is all listed anew. Bookmarks keep the version young where little changes. Waits between
attempts grow, with jitter, up to a cap.

That a kind is not served (404) never counts as "there are none": an API server that starts says so of every custom
kind for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from k8s.client.connection import Connection, Json, read_json
from k8s.client.errors import ApiError, ExpiredError, KubernetesError, TooLargeError, error_of
from k8s.client.resources import Resource
from ringfence.kit.backoff import Backoff
from ringfence.kit.log import Logger

Kept = TypeVar("Kept")
Key = tuple[str, str]
"""Namespace (empty for kinds of the cluster) and name."""

SILENCE_SECONDS: Final = 120.0
"""Without a byte for so long a watch counts as lost. The server sends bookmarks about once a minute."""
_WATCH_SECONDS: Final = 300.0
_PASSING: Final = frozenset((429, 503))
"""What a server answers that is busy, or on its way down or up: the version may still be good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted(Generic[Kept]):
    """What to keep. ``read``: what is kept of an object, None for nothing; it raises ValueError for one that cannot be
    read, which is then not kept. ``labels`` and ``fields``: selectors; ``namespace``: empty for all."""

    resource: Resource
    read: Callable[[Json], Kept | None]
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    @property
    def params(self) -> dict[str, str]:
        found = {"labelSelector": self.labels} if self.labels else {}
        return found | ({"fieldSelector": self.fields} if self.fields else {})


class Copy(Generic[Kept]):
    """The objects that ``wanted`` asks for. ``changed`` is called in the loop after each step that changed what is
    kept; many steps may follow each other, so it should do no more than take note."""

    def __init__(
        self,
        connection: Connection,
        wanted: Wanted[Kept],
        changed: Callable[[], None],
        *,
        log: Logger,
        random: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._changed = changed
        self._log = log.bind(kind=wanted.resource.kind)
        self._random = random
        self._backoff = backoff or Backoff(first_seconds=0.25, cap_seconds=5.0)
        self._objects: dict[Key, Kept] = {}
        self._version = ""
        self._complete = asyncio.Event()
        self._listed = 0
        self._lost = ""

    @property
    def objects(self) -> Mapping[Key, Kept]:
        """By namespace and name; not to be held across a wait."""
        return self._objects

    @property
    def kind(self) -> str:
        """Of the objects."""
        return self._wanted.resource.kind

    @property
    def complete(self) -> bool:
        """Whether all objects were seen once."""
        return self._complete.is_set()

    @property
    def listed(self) -> int:
        """How often all were listed."""
        return self._listed

    @property
    def lost(self) -> str:
        """Why the copy may be old; empty while it is kept."""
        return self._lost

    async def wait_complete(self) -> None:
        await self._complete.wait()

    async def run(self) -> None:
        """Keep the copy until cancelled."""
        attempt = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                if await self._watch():
                    attempt = 0
            except ExpiredError as error:
                self._version = ""
                self._log.info("version expired, all is listed anew", error=str(error))
            except KubernetesError as error:
                self._note_lost(error, attempt)
                # From the same version the same would come again.
                if isinstance(error, TooLargeError) or (isinstance(error, ApiError) and error.code not in _PASSING):
                    self._version = ""
            # The number of attempts falls back only when a watch has brought something: a server that answers 410 to
            # every watch is asked for lists ever more rarely.
            await asyncio.sleep(self._backoff.delay(attempt, self._random))
            attempt += 1

    async def _list(self) -> None:
        found: dict[Key, Kept] = {}
        version: object = ""
        wanted = self._wanted
        async for page in self._connection.pages(wanted.resource, wanted.params, wanted.namespace):
            for item in page.get("items") or ():
                key, kept = self._read(item)
                if kept is not None:
                    found[key] = kept
            version = (page.get("metadata") or {}).get("resourceVersion")
        if not isinstance(version, str) or not version:
            raise error_of({"message": f"a list of {self._wanted.resource.kind} has no version"})
        differs = found != self._objects or not self.complete
        self._objects = found
        self._version = version
        self._listed += 1
        self._found_again()
        self._complete.set()
        if differs:
            self._changed()

    async def _watch(self) -> bool:
        """Take changes until the watch ends; whether it brought anything."""
        seconds = _WATCH_SECONDS * (0.8 + 0.4 * self._random())
        params = {
            **self._wanted.params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(seconds)),
        }
        path = self._wanted.resource.path(self._wanted.namespace)
        taken = False
        async with self._connection.lines(path, params, silence_seconds=SILENCE_SECONDS) as lines:
            self._found_again()
            async for kind, item in _events(lines):
                taken = True
                self._take(kind, item)
        return taken

    def _take(self, kind: str, item: Json) -> None:
        if kind == "BOOKMARK":
            self._version = _version_of(item) or self._version
            return
        key, kept = self._read(item)
        if kind == "DELETED" or kept is None:
            differs = self._objects.pop(key, None) is not None
        else:
            differs = self._objects.get(key) != kept
            self._objects[key] = kept
        self._version = _version_of(item) or self._version
        if differs:
            self._changed()

    def _read(self, item: Any) -> tuple[Key, Kept | None]:
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise error_of({"message": f"the API server sent a {self._wanted.resource.kind} without a name"})
        key = (str(metadata.get("namespace") or ""), metadata["name"])
        try:
            return key, self._wanted.read(item)
        except ValueError as error:
            self._log.warning("object cannot be read and is left out", namespace=key[0], name=key[1], error=str(error))
            return key, None

    def _note_lost(self, error: KubernetesError, attempt: int) -> None:
        self._lost = str(error)
        if attempt == 0 and isinstance(error, ApiError) and error.code == 429:
            return  # a kind that was defined a moment ago
        if attempt in (0, 4) or attempt % 20 == 19:
            self._log.warning("watch lost, the old copy stands", error=str(error), attempt=attempt + 1)

    def _found_again(self) -> None:
        if self._lost:
            self._lost = ""
            self._log.info("watch found again")


async def _events(lines: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, Json]]:
    """The kind and the object of each event. Raises the error that the server sent as one."""
    async for line in lines:
        if not line.strip():
            continue
        try:
            event: object = await read_json(line)
        except ValueError as error:
            raise error_of({"message": f"an event of a watch is not JSON: {error}"}) from error
        kind = event.get("type") if isinstance(event, dict) else None
        item = event.get("object") if isinstance(event, dict) else None
        if not isinstance(item, dict):
            raise error_of({"message": "an event of a watch has no object"})
        if kind == "ERROR":
            raise error_of(item)
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            raise error_of({"message": f"an event of a watch is of an unknown type {str(kind)[:64]!a}"})
        yield kind, item


def _version_of(item: Json) -> str:
    version = (item.get("metadata") or {}).get("resourceVersion")
    return version if isinstance(version, str) else ""
