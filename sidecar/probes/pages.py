"""The pages at which a pod's probes are answered: 200, 503, or for a hook that got no answer, none. Adapter.

Whoever asks while the same question is under way gets its answer: so many askers open one connection to the app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from ringfence.kit.log import Logger
from sidecar.local_http import Asked, HangUpError, Page, Verbs
from sidecar.probes.asking import Answered, NoAnswerError
from sidecar.probes.model import Probe

Ask = Callable[[Probe], Awaitable[Answered]]

_SUCCESS = Page(200, "text/plain; charset=utf-8", b"")
_FAILURE = Page(503, "text/plain; charset=utf-8", b"")


class ProbePages:
    """Of all probes of a pod; ``close`` ends what is under way."""

    def __init__(self, probes: Iterable[Probe], ask: Ask, log: Logger) -> None:
        self._probes = tuple(probes)
        self._ask = ask
        self._log = log
        self._under_way: dict[str, asyncio.Task[Page | None]] = {}
        self._failing: set[str] = set()

    def routes(self) -> dict[str, Verbs]:
        """By path."""
        return {probe.path: self._verbs(probe) for probe in self._probes}

    def close(self) -> None:
        for task in self._under_way.values():
            task.cancel()

    def _verbs(self, probe: Probe) -> Verbs:
        async def get(_: Asked) -> Page:
            task = self._under_way.get(probe.path)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._answer(probe), name=f"probe {probe.path}")
                self._under_way[probe.path] = task
                task.add_done_callback(lambda _: self._under_way.pop(probe.path, None))
            page = await asyncio.shield(task)
            if page is None:
                raise HangUpError
            return page

        return Verbs(get=get, seconds=probe.timeout_seconds)

    async def _answer(self, probe: Probe) -> Page | None:
        """None: there is nothing to tell."""
        try:
            answered = await self._ask(probe)
        except NoAnswerError as error:
            self._noted(probe, str(error))
            return None if probe.is_hook else _FAILURE
        self._noted(probe, answered.detail)
        return _SUCCESS if answered.success or probe.is_hook else _FAILURE

    def _noted(self, probe: Probe, detail: str) -> None:
        """Log what changed: the kubelet asks every second, and tells its events no more than a status."""
        name = f"{probe.container}/{probe.kind}"
        if detail and name not in self._failing:
            self._failing.add(name)
            self._log.warning("probe fails", probe=name, detail=detail)
        elif not detail and name in self._failing:
            self._failing.discard(name)
            self._log.info("probe succeeds again", probe=name)
