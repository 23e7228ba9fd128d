"""Outbound links: one a destination workload, opened when first needed, shared by all app connections. Adapter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
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
        self._closed = False

    def choose(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """The less loaded of two endpoints drawn at random (by open streams), ready ones where there are any."""
        if len(endpoints) == 1:
            return endpoints[0]
        first, second = random.sample(endpoints, 2)
        if not (first.ready and second.ready):
            able = [endpoint for endpoint in endpoints if endpoint.ready] or endpoints
            if len(able) == 1:
                return able[0]
            first, second = random.sample(able, 2)
        return first if self._load(first) <= self._load(second) else second

    def _load(self, endpoint: Endpoint) -> int:
        return sum(len(link.machine.streams) for link in self._links.get(endpoint, ()))

    def open(self, endpoint: Endpoint, headers: Headers) -> tuple[Link, Stream] | None:
        """A stream on a ready link, or None: then ``wait`` for one."""
        for link in self._links.get(endpoint, ()):
            stream = link.machine.open(headers)
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

        def make() -> Link:
            engine = self._identity().client(frozenset((endpoint.spiffe_id,)))
            link = Link(engine, server=False, owner=self, context=self._context)
            self._endpoints[link] = endpoint
            made.append(link)
            return link

        def failed(reason: DenyReason, detail: str) -> None:
            for link in made:  # uvloop makes it before there is a connection
                link.close(reason, detail)
            self._fail(endpoint, reason, detail)

        where = f"{endpoint.mesh_host}:{endpoint.mesh_port}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(make, endpoint.mesh_host, endpoint.mesh_port)
        except TimeoutError:
            failed(DenyReason.UPSTREAM_TIMEOUT, f"{where}: no connection in {CONNECT_SECONDS:.0f} s")
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

    def keep(self, endpoints: frozenset[Endpoint]) -> None:
        """Links to endpoints that are no longer anyone's upstream take no new streams."""
        for link, endpoint in list(self._endpoints.items()):
            if endpoint not in endpoints:
                self.link_draining(link)

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
        for waiter in self._waiters.pop(endpoint, ()):
            try:
                waiter.link_found(link)
            except Exception as error:  # of one app connection; the others wait for their turn
                waiter.link_failed(DenyReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

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
        links = self._links.get(endpoint, [])
        if link in links:
            links.remove(link)
        if not links:
            self._links.pop(endpoint, None)
        if not link.usable:
            self._fail(endpoint, link.end_reason or DenyReason.UPSTREAM_UNREACHABLE, link.end_detail)
