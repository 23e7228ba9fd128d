"""Takes flow reports off the control stream's hands, and writes them down one after another. Adapter.

The stream carries policy, so it never waits for a disk: what does not fit in the queue, or cannot be written, is
counted as unrecorded and told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Final

from controlplane.flows.query import FlowAnswer, FlowQuery
from controlplane.flows.reading import flows_of
from controlplane.flows.store import FlowStore, FlowStoreError
from controlplane.metrics import ControlPlaneMetrics
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.wire.gen import control_pb2

QUEUE_LIMIT: Final = 512  # reports, of at most 64 KiB as messages
RECENT_LIMIT: Final = 10_000
_EXPIRE_SECONDS: Final = 600.0
_LOG_SECONDS: Final = 60.0


class FlowKeeper:
    """Between the streams and the store."""

    def __init__(self, store: FlowStore, *, metrics: ControlPlaneMetrics, clock: Clock, log: Logger) -> None:
        self._metrics = metrics
        self._store = store
        self._clock = clock
        self._log = log
        self._queue: deque[tuple[str, list[Flow], int]] = deque()
        self._some = asyncio.Event()
        self._lost: dict[str, int] = {}
        self._told_at = -_LOG_SECONDS
        self._shadowed = (deque[Flow](maxlen=RECENT_LIMIT), deque[Flow](maxlen=RECENT_LIMIT))
        """Flows that a shadow policy has judged, too: those where it agrees, those where it does not."""

    def take(self, service: str, report: control_pb2.FlowReport) -> None:
        """A report on calls to ``service``; returns at once."""
        try:
            flows, unrecorded = flows_of(report, service=service, now=self._clock.now())
        except Exception as error:  # the stream that brought it carries policy, and is not to end for evidence
            self._metrics.task_failures.labels("flows").inc()
            self._log.error("flow report not read", service=service, error=repr(error))
            return
        for flow in flows:
            if flow.shadow:
                self._shadowed[(flow.shadow == "permit") is (flow.verdict is Verdict.DENY)].append(flow)
        if len(self._queue) >= QUEUE_LIMIT:
            self._lose(service, flows, unrecorded, "they come faster than they are written")
            return
        self._queue.append((service, flows, unrecorded + self._lost.pop(service, 0)))
        self._some.set()

    async def run(self) -> None:
        """Write, and let go of what is old, for ever; what is queued is written before the end."""
        expired_at = -_EXPIRE_SECONDS
        try:
            while True:
                try:
                    async with asyncio.timeout(_EXPIRE_SECONDS):
                        await self._some.wait()
                except TimeoutError:
                    pass
                if self._clock.monotonic() - expired_at >= _EXPIRE_SECONDS:
                    expired_at = self._clock.monotonic()
                    await self._expire()
                self._some.clear()
                await self._write()
        finally:
            await asyncio.shield(self._write())

    def close(self) -> None:
        self._store.close()

    def shadowed(self, since: float) -> tuple[Flow, ...]:
        """Recent flows with a shadow verdict that were first seen at ``since`` (Unix seconds) or later, as reported:
        what an earlier shadow policy said in the same hour is not among them. Of very many the oldest are forgotten,
        those that agree apart from those that do not."""
        return tuple(flow for flows in self._shadowed for flow in flows if flow.first_seen >= since)

    async def ask(self, query: FlowQuery) -> FlowAnswer:
        """What is kept. Raises FlowStoreError."""
        return await asyncio.to_thread(self._store.ask, query)

    async def _write(self) -> None:
        while self._queue:
            service, flows, unrecorded = self._queue.popleft()
            try:
                await asyncio.to_thread(self._store.add, service, flows, unrecorded, self._clock.now())
            except FlowStoreError as error:
                self._lose(service, flows, unrecorded, str(error))

    async def _expire(self) -> None:
        try:
            await asyncio.to_thread(self._store.expire, self._clock.now())
        except FlowStoreError as error:
            self._log.error("old flows not removed", reason=str(error))

    def _lose(self, service: str, flows: list[Flow], unrecorded: int, reason: str) -> None:
        calls = unrecorded + sum(flow.count for flow in flows)
        self._lost[service] = self._lost.get(service, 0) + calls
        self._metrics.flow_calls_lost.inc(calls)
        if self._clock.monotonic() - self._told_at >= _LOG_SECONDS:
            self._told_at = self._clock.monotonic()
            self._log.error("flows not kept", service=service, calls=calls, reason=reason)


def open_keeper(path: Path, *, metrics: ControlPlaneMetrics, clock: Clock, log: Logger) -> FlowKeeper | None:
    """A keeper of the flows in ``path``; None where they cannot be kept, which the log tells: no evidence is no reason
    to leave sidecars without policy."""
    try:
        return FlowKeeper(FlowStore(path), metrics=metrics, clock=clock, log=log)
    except FlowStoreError as error:
        log.error("no flows are kept", reason=str(error))
        return None
