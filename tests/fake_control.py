"""The control plane's side of the control stream, for tests of the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ringfence.wire.gen import control_pb2 as pb
from ringfence.wire.gen.control_pb2_grpc import ControlServicer


class FakeControl(ControlServicer):
    """A control plane that says what the test tells it to, and remembers what it heard."""

    def __init__(self) -> None:
        self.hellos: list[pb.Hello] = []
        self.acks: list[pb.Acknowledgement] = []
        self.identities: list[pb.IdentityReport] = []
        self.readiness: list[pb.ReadinessReport] = []
        self.flows: list[pb.FlowReport] = []
        self.peers: list[bytes] = []
        self.current: pb.Snapshot | None = None
        self.failure: tuple[grpc.StatusCode, str] | None = None
        self._streams: set[asyncio.Queue[pb.Snapshot | None]] = set()

    def push(self, snapshot: pb.Snapshot) -> None:
        self.current = snapshot
        for stream in self._streams:
            stream.put_nowait(snapshot)

    def end_streams(self) -> None:
        for stream in self._streams:
            stream.put_nowait(None)

    @property
    def streams(self) -> int:
        return len(self._streams)

    async def Subscribe(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Snapshot]:  # type: ignore[override]
        if self.failure is not None:
            await context.abort(*self.failure)
        self.peers.extend(context.auth_context()["x509_pem_cert"])
        queue: asyncio.Queue[pb.Snapshot | None] = asyncio.Queue()
        self._streams.add(queue)
        listening = asyncio.ensure_future(self._listen(request_iterator))
        try:
            if self.current is not None:
                yield self.current
            while (snapshot := await queue.get()) is not None:
                yield snapshot
        finally:
            self._streams.discard(queue)
            listening.cancel()

    async def _listen(self, reports: Any) -> None:
        async for report in reports:
            kind = report.WhichOneof("report")
            heard: dict[str, list[Any]] = {
                "hello": self.hellos,
                "ack": self.acks,
                "identity": self.identities,
                "readiness": self.readiness,
                "flows": self.flows,
            }
            heard[kind].append(getattr(report, kind))
