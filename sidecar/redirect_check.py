"""Whether the kernel leads the app's connections to this sidecar: tried, not believed. Adapter.

A CNI plugin may come too late for a pod, or another one may flush its rules; then the app's calls would leave in the
clear past the mesh, and nobody would see it. The rules lead one address that is nobody's (``CANARIES``, reserved for
documentation) to the sidecar, whoever dials it, the sidecar's own user included. So the sidecar dials it: what arrives
at its outbound port with that destination has come by the rules, which are in force as a whole or not at all. What
arrives nowhere, or anywhere else, shows that they are not.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Final

from ringfence.kit.log import Logger
from sidecar.redirect.canary import CANARIES, Canary

TRY_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 30.0
_KEPT: Final = 256  # of those who dialled it: the app may, too


class RedirectCheck:
    """``waiting_for``: None once the rules were found in force, and as long as they are."""

    def __init__(self, log: Logger, *, canaries: tuple[Canary, ...] = CANARIES) -> None:
        self._log = log
        self._listening = asyncio.Event()
        self._canaries = canaries
        self._arrived: deque[tuple[str, int]] = deque(maxlen=_KEPT)
        self._arrival = asyncio.Event()
        self._in_doubt = False
        self._stopped = False
        self.waiting_for: str | None = "its redirect, which is not tried before the outbound port is open"

    def arrived(self, remote: tuple[str, int]) -> None:
        """A connection to a canary came to the outbound port from there."""
        self._arrived.append(remote)
        self._arrival.set()

    async def keep(self) -> None:
        """Look, for ever, from when there is a port to which anything could be led."""
        await self._listening.wait()
        while not self._stopped:
            await self.look()
            certain = self.waiting_for is None and not self._in_doubt
            await asyncio.sleep(AGAIN_SECONDS if certain else RETRY_SECONDS)

    def listening(self) -> None:
        """The outbound port is open."""
        self._listening.set()

    def stop(self) -> None:
        """The outbound port is about to be closed: what is led there from now on arrives nowhere."""
        self._stopped = True

    async def look(self) -> None:
        """Once."""
        missed: list[str] = []
        led = 0
        for canary in self._canaries:
            found = await self._led(canary)
            led += found is True
            if found is False:
                missed.append(canary.version)
        if self._stopped:
            return
        # Once it was seen, one miss may be a moment without a place for one more connection, or a slow machine.
        if (missed or not led) and self.waiting_for is None and not self._in_doubt:
            self._in_doubt = True
            return
        self._in_doubt = False
        if missed:
            self._say(
                f"its redirect: connections of the app are not led here by {' and '.join(missed)} "
                "(see that the CNI plugin, or `ringfence redirect install`, is done here, and of this version)"
            )
        elif not led:
            self._say("its redirect: there is no route by which it could be tried (give the pod a default route)")
        else:
            self._say(None)

    def _say(self, waiting_for: str | None) -> None:
        if waiting_for == self.waiting_for:
            return
        if waiting_for is None:
            self._log.info("redirect in force")
        else:
            self._log.error("no redirect", detail=waiting_for)
        self.waiting_for = waiting_for

    async def _led(self, canary: Canary) -> bool | None:
        """None: nothing of this version of IP leaves here."""
        if not _has_route(canary):
            return None
        self._arrived.clear()
        self._arrival.clear()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TRY_SECONDS):
                transport, _ = await loop.create_connection(asyncio.Protocol, canary.address, canary.port)
                try:
                    own = transport.get_extra_info("sockname")[:2]
                    while own not in self._arrived:
                        self._arrival.clear()
                        await self._arrival.wait()
                    return True
                finally:
                    transport.abort()
        except OSError:  # TimeoutError is one
            return False


def _has_route(canary: Canary) -> bool:
    """Whether a packet to it would leave; none does. A router's word that it knows no way further is no answer to
    that: where the rules are in force, it is never asked."""
    family = socket.AF_INET6 if ":" in canary.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((canary.address, canary.port))
    except OSError:
        return False
    return True
