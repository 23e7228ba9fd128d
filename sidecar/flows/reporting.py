"""Sends what was counted, every few seconds or when the table fills; while nobody takes it, the table counts on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.wire.gen import control_pb2 as pb
from sidecar.flows.reports import calls_of, take_reports
from sidecar.flows.table import FlowTable

REPORT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0


class FlowReporting:
    """The task that empties ``table`` into ``send``."""

    def __init__(
        self,
        table: FlowTable,
        *,
        takes: Callable[[], bool],
        send: Callable[[pb.FlowReport], Awaitable[bool]],
        clock: Clock,
        log: Logger,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``takes``: whether there is anybody to send to now; ``send``: whether it is on its way."""
        self._table = table
        self._takes = takes
        self._send = send
        self._clock = clock
        self._log = log
        self._wait = wait
        self.dropped = 0
        """Calls that no report told of, since this process began."""

    async def run(self) -> None:
        """For ever."""
        last = self._clock.monotonic()
        while True:
            await self._wait(_LOOK_SECONDS)
            now = self._clock.monotonic()
            if (now - last >= REPORT_SECONDS or self._table.crowded) and self._takes():
                last = now
                try:
                    await self.flush()
                except Exception as error:  # the border of this task: no evidence is worth the sidecar
                    self._log.error("flows not reported", error=f"{type(error).__name__}: {error}")

    async def flush(self) -> None:
        """Send what there is."""
        reports = take_reports(self._table)
        for report in reports:
            if report.unrecorded:
                self.dropped += report.unrecorded
                self._log.warning("calls not recorded as flows", calls=report.unrecorded)
            if not await self._send(report):
                # The next report tells how much is missing; nothing is kept for it to tell what.
                self._table.unrecorded += calls_of(report)
