"""Connections to the app that are being made for what inbound let in, all under one deadline and one timer. Adapter.

A deadline by ``asyncio.timeout`` was a timer each, most of which never fire: an app on the same host answers in
microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Port
from sidecar.inbound_detection import AnyInbound
from sidecar.inbound_refusals import InboundRefusals
from sidecar.relay import Relay

APP_CONNECT_SECONDS: Final = 5.0


class AppConnects:
    """Of one sidecar; a relay is in here from ``begin`` until it is connected, refused or stopped."""

    def __init__(
        self,
        refusals: InboundRefusals,
        app_refused: Callable[[Port], None],
        failed: Callable[[Relay, Exception], None],
        seconds: float = APP_CONNECT_SECONDS,
    ) -> None:
        """``app_refused``: the app listens there no more. ``failed``: a defect of ours."""
        self._refusals = refusals
        self._app_refused = app_refused
        self._failed = failed
        self._seconds = seconds
        # By deadline, as all have as long. The relay again: as what it is.
        self._waiting: dict[Relay, tuple[AnyInbound, asyncio.Task[None], float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, relay: AnyInbound) -> None:
        """Connect it to its app, or have it end for the reason why that cannot be."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._connect(loop, relay, relay.app_port), name="connect to app")
        deadline = loop.time() + self._seconds
        self._waiting[relay] = relay, task, deadline
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._look)

    def over(self, relay: Relay) -> None:
        """It is connected."""
        self._waiting.pop(relay, None)

    def stop(self, relay: Relay) -> None:
        """It has ended meanwhile."""
        found = self._waiting.pop(relay, None)
        if found is not None and found[1] is not asyncio.current_task():
            found[1].cancel()

    def stop_all(self) -> None:
        """None is wanted any more."""
        for relay in list(self._waiting):
            self.stop(relay)

    def _look(self) -> None:
        """Refuse those that take too long, and look again when the next may."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for relay, _, deadline in list(self._waiting.values()):
            if deadline > now:
                self._timer = loop.call_at(deadline, self._look)
                return
            self.stop(relay)
            try:
                detail = f"the app took no connection in {self._seconds:.0f} s"
                self._refusals.unavailable(relay, DenyReason.APP_TIMEOUT, detail)
            except Exception as error:  # of one, for which the others must not wait for ever
                self._failed(relay, error)

    async def _connect(self, loop: asyncio.AbstractEventLoop, relay: AnyInbound, port: Port) -> None:
        try:
            await loop.create_connection(lambda: relay, port.app_host, port.app_port)
        except OSError as error:
            where = f"{port.app_host}:{port.app_port}"
            self._app_refused(port)
            self._refusals.unavailable(relay, DenyReason.APP_UNREACHABLE, f"{where}: {error.strerror or error}")
        except Exception as error:
            self._failed(relay, error)
            self._refusals.unavailable(relay, DenyReason.INTERNAL_ERROR, type(error).__name__)
        finally:
            self._waiting.pop(relay, None)
