"""What serves by an identity and a snapshot, as the composition root sees it: one data path in this process, or workers
that have one each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from ringfence.snapshot import Snapshot, Workload
from ringfence.spiffe import TrustBundle, X509Svid
from sidecar.exposition import Family
from sidecar.tap import Taps


class CannotEnforceError(Exception):
    """A snapshot that cannot be put in force; what was in force still is. The text says why, and names the setting."""


class Serving(Protocol):
    """``sidecar.data_path.DataPath`` or ``sidecar.workers.Workers``."""

    @property
    def bundles(self) -> tuple[TrustBundle, ...]:
        """In force; empty before the first snapshot."""

    @property
    def taps(self) -> Taps:
        """Who watches what is judged."""

    def waiting_for(self) -> list[str]:
        """What keeps it from serving, beside an identity and a snapshot."""

    def renewed(self, svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        """A new SVID, and the bundles that the CA gave with it."""

    async def apply(self, snapshot: Snapshot, received: float) -> None:
        """Put a snapshot in force, whole or not at all; CannotEnforceError says why not. ``received``: when it arrived,
        monotonic seconds."""

    async def keep(self) -> None:
        """Do what is to be done from time to time, for ever."""

    async def drain(self, seconds: float, at_once: asyncio.Event) -> None:
        """Take nothing new; what lives may end within ``seconds``, or until ``at_once`` is set."""

    async def connections(self, limit: int) -> dict[str, object]:
        """What lives, at most ``limit`` connections and as many links."""

    async def noted(self, request_id: str) -> dict[str, Any] | None:
        """What is noted of the call with this request id (``sidecar.noted_calls``); None if nothing is, or no more."""

    async def noted_since(self, moment: float, limit: int) -> list[dict[str, Any]]:
        """What is noted of calls since ``moment`` (Unix seconds), the latest ``limit`` of them, the latest first."""

    def listed(self) -> list[dict[str, object]]:
        """The workers, to be shown; none where there are none."""

    def together(self, own: Iterable[Family]) -> Iterable[Family]:
        """The metrics of this process (``own``) and of all that serve for it, as those of one."""

    def log_from(self, level: str) -> None:
        """The level of this process's log has changed."""


def mesh_port_words(workload: Workload) -> str:
    """The mesh port of a workload, as an error names it."""
    where = f"{workload.mesh_host}:{workload.mesh_port}"
    return f"service {workload.namespace}/{workload.service}, mesh port {where}"


def proxy_of(workload: Workload) -> tuple[str, int] | None:
    """Where the forward proxy of a workload listens, if there is one."""
    proxy = workload.forward_proxy
    return (proxy.host, proxy.port) if proxy is not None else None


def proxy_words(workload: Workload) -> str:
    """The forward proxy of a workload, as an error names it."""
    where = proxy_of(workload)
    return f"service {workload.namespace}/{workload.service}, forwardProxy {where[0]}:{where[1]}" if where else ""
