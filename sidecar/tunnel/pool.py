"""Outbound links: one a destination workload, opened when first needed, shared by all app connections. Adapter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint
from sidecar.http2.frames import REFUSED_STREAM
from sidecar.tls import TlsIdentity
from sidecar.tunnel.link import Link
from sidecar.tunnel.link_context import LinkContext
from sidecar.tunnel.stream import Headers, Stream

CONNECT_SECONDS: Final = 5.0
LINKS_LIMIT: Final = 64  # to one endpoint; a second is made only when a server takes no more streams on the first
_WAITERS_LIMIT: Final = 4096


class LinkWaiter(Protocol):
    """A relay that waits for a link; called exactly once, with a ready link or with the reason why there is none."""

    def link_found(self, link: Link) -> None: ...

    def link_failed(self, reason: DenyReason, detail: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """Of the links to one endpoint. ``connect_seconds``: for the TCP connection, and again for the handshake;
    ``age_seconds``: after which a link takes no new streams; ``idle_seconds``: after which one without streams goes."""

    connect_seconds: float = CONNECT_SECONDS
    age_seconds: float | None = None
    idle_seconds: float | None = None


_DEFAULT_LIMITS: Final = LinkLimits()
_AGE_JITTER: Final = 0.1  # of the age, earlier: links that were made together do not all end together


class Pool:
    """Ready links by endpoint. Connecting is single-flight: many app connections may wait for one handshake."""

    def __init__(
        self,
        *,
        context: LinkContext,
        identity: Callable[[], TlsIdentity],
        established: Callable[[], None],
        draining: Callable[[Link], None] = lambda _: None,
    ) -> None:
        """``established`` is called for each link that is ready, ``draining`` for each that takes no more streams."""
        self._context = context
        self._identity = identity
        self._established = established
        self._draining = draining
        self._links: dict[Endpoint, list[Link]] = {}
        self._endpoints: dict[Link, Endpoint] = {}
        self._waiters: dict[Endpoint, list[LinkWaiter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._limits: Mapping[Endpoint, LinkLimits] = {}
        self._kept = False  # the endpoints are known
        self._timers: dict[Link, asyncio.TimerHandle] = {}
        self._closed = False

    def open(self, endpoint: Endpoint, headers: Headers) -> tuple[Link, Stream] | None:
        """A stream on a ready link, or None: then ``wait`` for one."""
        for link in self._links.get(endpoint, ()):
            # One that is just closing tells its streams before it is forgotten here.
            stream = link.machine.open(headers) if not link.closed else None
            if stream is not None:
                return link, stream
        return None

    def wait(self, endpoint: Endpoint, waiter: LinkWaiter) -> None:
        """Have ``waiter`` told of a link to ``endpoint`` that takes streams."""
        if self._closed:
            waiter.link_failed(DenyReason.DRAINING, "the sidecar stops")
            return
        waiters = self._waiters.get(endpoint)
        if waiters is not None:
            if len(waiters) >= _WAITERS_LIMIT:
                waiter.link_failed(
                    DenyReason.OVERLOADED, f"{_WAITERS_LIMIT} connections wait for this endpoint already"
                )
                return
            waiters.append(waiter)
            return
        if len(self._links.get(endpoint, ())) >= LINKS_LIMIT:
            waiter.link_failed(DenyReason.OVERLOADED, f"{LINKS_LIMIT} links to this endpoint take no more streams")
            return
        self._waiters[endpoint] = [waiter]
        task = asyncio.get_running_loop().create_task(
            self._connect(endpoint), name=f"link to {endpoint.mesh_host}:{endpoint.mesh_port}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, endpoint: Endpoint) -> None:
        """Open the TCP connection; the link's own deadline covers the handshake, and ``link_lost`` its failure."""
        loop = asyncio.get_running_loop()
        made: list[Link] = []
        seconds = self._limits.get(endpoint, _DEFAULT_LIMITS).connect_seconds

        def make() -> Link:
            engine = self._identity().client(frozenset((endpoint.spiffe_id,)))
            link = Link(engine, server=False, owner=self, context=self._context, handshake_seconds=seconds)
            self._endpoints[link] = endpoint
            made.append(link)
            return link

        def failed(reason: DenyReason, detail: str) -> None:
            for link in made:  # uvloop makes it before there is a connection
                link.close(reason, detail)
            self._fail(endpoint, reason, detail)

        where = f"{endpoint.mesh_host}:{endpoint.mesh_port}"
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(make, endpoint.mesh_host, endpoint.mesh_port)
        except TimeoutError:
            failed(DenyReason.UPSTREAM_TIMEOUT, f"{where}: no connection in {seconds:g} s")
        except OSError as error:
            failed(DenyReason.UPSTREAM_UNREACHABLE, f"{where}: {error.strerror or error}")
        except Exception as error:
            self._context.log.error("defect", detail=f"{type(error).__name__}: {error}", endpoint=where)
            failed(DenyReason.INTERNAL_ERROR, f"{where}: {type(error).__name__}")

    def _fail(self, endpoint: Endpoint, reason: DenyReason, detail: str) -> None:
        for waiter in self._waiters.pop(endpoint, ()):
            waiter.link_failed(reason, detail)

    def renew(self) -> None:
        """A new SVID: prove it on every link; those whose peer cannot check it drain."""
        for link in list(self._endpoints):
            link.renew()

    def reverify(self) -> None:
        for link in list(self._endpoints):
            link.reverify()

    def keep(self, endpoints: Mapping[Endpoint, LinkLimits]) -> None:
        """The endpoints of all upstreams, with what holds for new links to them; links to endpoints that are no longer
        anyone's upstream take no new streams."""
        self._limits, self._kept = endpoints, True
        for link, endpoint in list(self._endpoints.items()):
            if endpoint not in endpoints:
                self.link_draining(link)

    # -- age ----------------------------------------------------------------------------------------------------------

    def _watch(self, link: Link, limits: LinkLimits) -> None:
        """Have a link end for its age or for want of streams."""
        loop = asyncio.get_running_loop()
        if limits.age_seconds is not None:
            seconds = limits.age_seconds * (1 - _AGE_JITTER * random.random())
            self._timers[link] = loop.call_later(seconds, self._aged, link)
        elif limits.idle_seconds is not None:
            self._timers[link] = loop.call_later(limits.idle_seconds, self._idled, link, limits.idle_seconds, 0)

    def _aged(self, link: Link) -> None:
        if not link.closed and link in self._endpoints:
            self.link_draining(link)

    def _idled(self, link: Link, seconds: float, opened: int) -> None:
        if link.closed or link not in self._endpoints:
            return
        if not link.machine.streams and link.machine.opened == opened:
            self.link_draining(link)
            return
        self._timers[link] = asyncio.get_running_loop().call_later(
            seconds, self._idled, link, seconds, link.machine.opened
        )

    @property
    def waiting(self) -> int:
        """App connections that wait for a link."""
        return sum(map(len, self._waiters.values()))

    @property
    def links(self) -> frozenset[Link]:
        return frozenset(self._endpoints)

    def close(self, reason: DenyReason, detail: str) -> None:
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        for endpoint in list(self._waiters):
            self._fail(endpoint, reason, detail)
        for link in list(self._endpoints):
            link.close(reason, detail)

    # -- the links' owner ---------------------------------------------------------------------------------------------

    def link_ready(self, link: Link) -> None:
        endpoint = self._endpoints[link]
        self._links.setdefault(endpoint, []).append(link)
        self._established()
        limits = self._limits.get(endpoint, _DEFAULT_LIMITS)
        if limits is not _DEFAULT_LIMITS:
            self._watch(link, limits)
        for waiter in self._waiters.pop(endpoint, ()):
            try:
                waiter.link_found(link)
            except Exception as error:  # of one app connection; the others wait for their turn
                waiter.link_failed(DenyReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        if self._kept and endpoint not in self._limits:
            self.link_draining(link)  # the endpoint was taken away while the link was made

    def link_reproved(self, link: Link) -> None:
        """The peer is who it was; nothing hangs on its certificate here."""

    def link_connect(self, link: Link, stream: Stream, headers: Headers) -> None:
        stream.reset(REFUSED_STREAM)  # a server opens no streams; the machine refuses its even ids before this

    def link_draining(self, link: Link) -> None:
        links = self._links.get(self._endpoints[link], [])
        if link in links:
            links.remove(link)
        link.machine.going_away = True
        self._draining(link)
        if not link.machine.streams:
            link.close(None, "drained")

    def link_lost(self, link: Link) -> None:
        endpoint = self._endpoints.pop(link, None)
        if endpoint is None:
            return
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()
        links = self._links.get(endpoint, [])
        if link in links:
            links.remove(link)
        if not links:
            self._links.pop(endpoint, None)
        if not link.usable:
            self._fail(endpoint, link.end_reason or DenyReason.UPSTREAM_UNREACHABLE, link.end_detail)
