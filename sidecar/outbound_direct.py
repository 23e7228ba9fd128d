"""Upstreams without a sidecar, which take mutual TLS themselves: a connection for each of the app's. Adapter.

A sibling of the pool: a relay asks either for its stream. Here it gets a ``DirectEnd``, once the server has proved to
be whom the endpoint names; no byte of the app's goes out before. By TLS 1.3 the server judges our SVID only after that,
so its refusal comes as the connection's first and last words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint
from sidecar.direct import DirectEnd
from sidecar.http2.frames import CANCEL
from sidecar.openers import StreamWaiter
from sidecar.tenure import Tenure
from sidecar.tls import TlsFailed, TlsIdentity
from sidecar.tunnel.link_context import LinkContext
from sidecar.tunnel.pool import LinkLimits
from sidecar.tunnel.stream import Headers

DIRECT_LIMIT: Final = 16_384  # connections, until the last of each is gone


class DirectDialler:
    """The direct connections of one sidecar to its upstreams, from the dialling of each until it is closed."""

    def __init__(self, *, context: LinkContext, identity: Callable[[], TlsIdentity]) -> None:
        self._context = context
        self._identity = identity
        self._connections: set[_Direct] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._limits: Mapping[Endpoint, LinkLimits] | None = None  # by the endpoints of all upstreams, once known
        self._closed = False

    @property
    def open_count(self) -> int:
        return len(self._connections)

    def open(self, endpoint: Endpoint, headers: Headers) -> None:
        """There never is one at once."""

    def wait(self, endpoint: Endpoint, waiter: StreamWaiter) -> None:
        """Dial ``endpoint`` for ``waiter``."""
        if self._closed:
            waiter.link_failed(DenyReason.DRAINING, "the sidecar stops")
            return
        if len(self._connections) >= DIRECT_LIMIT:
            waiter.link_failed(DenyReason.OVERLOADED, f"{DIRECT_LIMIT} connections to upstreams without a sidecar")
            return
        connection = _Direct(self, endpoint, waiter, self._identity(), self._context.clock.monotonic())
        if self._limits is not None and endpoint in self._limits:
            connection.connect_seconds = self._limits[endpoint].connect_seconds
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._connect(connection), name=f"direct to {connection.where}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: _Direct) -> None:
        """Open the TCP connection; the end's own deadline, as long again, covers the handshake."""
        loop = asyncio.get_running_loop()
        endpoint, where, seconds = connection.endpoint, connection.where, connection.connect_seconds
        reason, detail = DenyReason.DRAINING, "the sidecar stops"
        connected = False
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(connection.dial, endpoint.mesh_host, endpoint.mesh_port)
            connected = True
        except TimeoutError:
            reason, detail = DenyReason.UPSTREAM_TIMEOUT, f"{where}: no connection in {seconds:g} s"
        except OSError as error:
            reason, detail = DenyReason.UPSTREAM_UNREACHABLE, f"{where}: {error.strerror or error}"
        except Exception as error:
            self._context.log.error("defect", detail=f"{type(error).__name__}: {error}", endpoint=where)
            reason, detail = DenyReason.INTERNAL_ERROR, f"{where}: {type(error).__name__}"
        finally:
            if not connected:
                self._connections.discard(connection)
                connection.waiter.link_failed(reason, detail)

    def keep(self, endpoints: Mapping[Endpoint, LinkLimits]) -> None:
        """The endpoints of all upstreams, with how long each is waited for; connections to those that are no longer
        anyone's upstream drain."""
        self._limits = endpoints
        for connection in list(self._connections):
            if connection.endpoint not in endpoints:
                connection.drain(True)

    def reverify(self) -> None:
        for connection in list(self._connections):
            if connection.tenure is not None:
                connection.tenure.reverify()

    def close(self) -> None:
        """Dial nothing any more; the connections that stand belong to their relays, which have ended."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        for connection in self._connections:
            if connection.tenure is None:
                connection.abandon()

    # -- the connections' owner ---------------------------------------------------------------------------------------

    def stands(self, connection: _Direct, end: DirectEnd) -> None:
        """The server is whom the endpoint names; what changed during the handshake is looked at again."""
        assert end.engine is not None
        assert end.engine.peer is not None
        context = self._context
        context.time_handshake("outbound", context.clock.monotonic() - connection.began)
        tenure = connection.tenure = Tenure(
            context, end.engine.peer, connection.identity.svid, drain=connection.drain, cut=connection.cut, early=2
        )
        if connection.identity is not self._identity() and not tenure.reverify():
            return
        connection.found = True
        connection.waiter.stream_found(connection, end)
        if self._limits is not None and connection.endpoint not in self._limits:
            connection.drain(True)

    def refused(self, end: DirectEnd, code: str, detail: str) -> None:
        """Log and count a handshake that failed: only the side that refused knows the reason."""
        self._context.count_failure("outbound", code)
        remote = str(SocketAddress(*end.remote)) if end.remote[0] else ""
        self._context.log.warning("handshake refused", direction="outbound", reason=code, detail=detail, remote=remote)

    def broken(self, end: DirectEnd, code: str, detail: str) -> None:
        self._context.count_broken("outbound", code)
        remote = str(SocketAddress(*end.remote)) if end.remote[0] else ""
        peer = str(end.engine.peer.spiffe_id) if end.engine is not None and end.engine.peer is not None else ""
        self._context.log.warning(
            "direct connection broken", direction="outbound", peer=peer, reason=code, detail=detail, remote=remote
        )

    def gone(self, connection: _Direct) -> None:
        self._connections.discard(connection)


class _Direct:
    """The owner of one direct connection, and what its relay is told of its end."""

    __slots__ = (
        "_dialler",
        "_end",
        "began",
        "connect_seconds",
        "end_detail",
        "end_reason",
        "endpoint",
        "found",
        "identity",
        "tenure",
        "waiter",
    )

    def __init__(
        self, dialler: DirectDialler, endpoint: Endpoint, waiter: StreamWaiter, identity: TlsIdentity, began: float
    ) -> None:
        self._dialler = dialler
        self.began = began  # monotonic seconds
        self.connect_seconds = LinkLimits().connect_seconds
        self._end: DirectEnd | None = None
        self.endpoint = endpoint
        self.waiter = waiter
        self.identity = identity
        self.tenure: Tenure | None = None  # once the handshake is done
        self.found = False  # the waiter was told of it
        self.end_reason: DenyReason | None = None
        self.end_detail = ""

    @property
    def where(self) -> str:
        return str(SocketAddress(self.endpoint.mesh_host, self.endpoint.mesh_port))

    @property
    def closed(self) -> bool:
        """Whether it ended for a reason of its own; else a reset is just that."""
        return self.end_reason is not None

    def dial(self) -> DirectEnd:
        engine = self.identity.direct_client(self.waiter.alpn, frozenset((self.endpoint.spiffe_id,)))
        self._end = DirectEnd(self, engine, handshake_seconds=self.connect_seconds)
        return self._end

    def drain(self, idle_too: bool) -> None:
        """HTTP moves to a new connection, and so to a newer SVID, between two requests; the app's stays."""
        if self.tenure is not None and self._in_use:
            self.waiter.move_from(self)

    def cut(self, reason: DenyReason, detail: str) -> None:
        """It may not go on."""
        self.end_reason, self.end_detail = reason, detail
        if not self.found:
            self.waiter.link_failed(reason, detail)
        elif self._in_use:
            self.waiter.refused(reason, detail)
        self.abandon()

    @property
    def _in_use(self) -> bool:
        """Whether the relay that found it still has it: one that has left leads to another, while this one ends."""
        return self._end is not None and self._end.endpoint is not None

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self._end is not None:
            self._end.reset(CANCEL)

    def direct_ready(self, end: DirectEnd) -> None:
        self._dialler.stands(self, end)

    def direct_refused(self, end: DirectEnd, reason: DenyReason, code: str, detail: str) -> None:
        if code == "timeout":
            reason = DenyReason.UPSTREAM_TIMEOUT
        self._dialler.refused(end, code, detail)
        self.waiter.link_failed(reason, f"{code}: {detail}")

    def direct_broken(self, end: DirectEnd, failed: TlsFailed | None) -> None:
        if failed is None:
            if not end.heard:
                self.end_reason = DenyReason.UPSTREAM_UNREACHABLE
                self.end_detail = f"{self.where}: reset before its first word; it may have refused our SVID"
            return
        if end.heard:
            code = f"tls_{failed.fault}"
            self.end_reason = DenyReason.PROTOCOL_ERROR
            self._dialler.broken(end, code, failed.reason)
        else:
            code = str(failed.fault)
            self.end_reason = DenyReason.PEER_REFUSED
            self._dialler.refused(end, code, failed.reason)
        self.end_detail = f"{code}: {failed.reason}"

    def direct_closed(self, end: DirectEnd) -> None:
        if self.tenure is not None:
            self.tenure.over()
        self._dialler.gone(self)
