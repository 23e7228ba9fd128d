"""One stream to the control plane, from hello until it ends; what outlives a stream is in ``stream.py``.

Three tasks, and the first to finish ends all: one reads snapshots, one writes what is in the outbox (a call takes one
message at a time), one watches the SVID that the stream was opened with: when that has little left and there is a newer
one, the session ends in peace and the next one is opened with the newer, since the control plane need not serve a
stream beyond the SVID that opened it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from ringfence.kit.clock import Clock
from ringfence.spiffe import X509Svid
from ringfence.wire.gen import control_pb2 as pb
from sidecar.channels import told
from sidecar.control.enforcement import Outcome
from sidecar.control.errors import StreamEnded
from sidecar.rpc import Call, Connection, RpcError, method

_SUBSCRIBE: Final = method(pb.DESCRIPTOR, "Control", "Subscribe", pb.SidecarReport, pb.Snapshot)
_OUTBOX_LIMIT: Final = 32
_ERROR_LIMIT_CHARACTERS: Final = 1_000
_LEAST_LIFE_SHARE: Final = 0.25
_WATCH_SLICE_SECONDS: Final = 15.0


class Session:
    """A stream over ``channel``, which is opened for it; ``take`` enforces a snapshot and says how that went."""

    def __init__(
        self,
        channel: AbstractAsyncContextManager[Connection],
        *,
        address: str,
        svid: X509Svid,
        take: Callable[[pb.Snapshot], Awaitable[Outcome]],
        enforced_revision: Callable[[], int],
        readiness: Callable[[], pb.ReadinessReport],
        clock: Clock,
        answer_seconds: float,
    ) -> None:
        self._channel = channel
        self._address = address
        self._svid = self._newest = svid
        self._take = take
        self._enforced_revision = enforced_revision
        self._readiness = readiness
        self._readiness_told = False
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._outbox: asyncio.Queue[pb.SidecarReport] = asyncio.Queue(_OUTBOX_LIMIT)
        self._overflow = asyncio.Event()
        self._over = asyncio.Event()
        self.leaving = False
        self.takes_flows = False
        """Whether the other end has said that it understands flow reports."""

    def identity_changed(self, svid: X509Svid) -> None:
        """Report a newer SVID on this stream, and open the next one with it."""
        self._newest = svid
        self._report_identity(svid)

    def readiness_changed(self) -> None:
        """Report it on this stream, once anything was."""
        if self._readiness_told:
            self._post(pb.SidecarReport(readiness=self._readiness()))

    async def flush(self) -> None:
        """Returns when what was posted is written, or the stream is over."""
        written = asyncio.ensure_future(self._outbox.join())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((written, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (written, over):
                waiting.cancel()

    async def send_flows(self, report: pb.FlowReport) -> bool:
        """Send it when nothing else waits, so that it crowds out nothing; whether it is on its way. One at a time."""
        await self.flush()
        if not self._over.is_set():
            self._post(pb.SidecarReport(flows=report))
            await self.flush()
        return not self._over.is_set()

    async def leave(self) -> None:
        """Say the last word, and return when the other end has heard all that was said before, or the stream is over.

        Without it, what is on its way is lost: a stream that is cancelled is read no further.
        """
        await self.flush()
        if not self._over.is_set():
            self.leaving = True
            self._outbox.put_nowait(pb.SidecarReport(readiness=self._readiness()))
            await self._over.wait()

    async def run(self, hello: pb.Hello) -> None:
        """Serve the stream. Returns when the next one should be opened with a newer SVID, or ``leave`` has ended it;
        raises StreamEnded else."""
        self._post(pb.SidecarReport(hello=hello))
        self._report_identity(self._svid)
        try:
            async with self._channel as connection:
                call = connection.stream(_SUBSCRIBE)
                await _first_of(self._read(call), self._write(call), self._outlive(), self._overflown())
        except RpcError as error:
            raise StreamEnded(f"{self._address}: {told(error)}") from error
        except TimeoutError as error:
            raise StreamEnded(f"{self._address} was silent for {self._answer_seconds:g} s") from error
        finally:
            self._over.set()

    async def _read(self, call: Call[pb.SidecarReport, pb.Snapshot]) -> None:
        deadline: float | None = self._answer_seconds
        while True:
            async with asyncio.timeout(deadline):
                message = await call.read()
            deadline = None  # from now on silence is the rule; keepalive pings tell a dead peer from a quiet one
            if message is None and self.leaving:
                return
            if message is None:
                raise StreamEnded(f"{self._address} ended the stream")
            self.takes_flows = message.takes_flows
            outcome = await self._take(message)
            acknowledgement = pb.Acknowledgement(
                revision=outcome.revision,
                accepted=outcome.error is None,
                error=(outcome.error or "")[:_ERROR_LIMIT_CHARACTERS],
                enforced_revision=self._enforced_revision(),
            )
            self._post(pb.SidecarReport(ack=acknowledgement))
            if not self._readiness_told and acknowledgement.enforced_revision:
                # Not before: without a policy in force nothing is served.
                self._readiness_told = True
                self.readiness_changed()

    async def _write(self, call: Call[pb.SidecarReport, pb.Snapshot]) -> None:
        while True:
            report = await self._outbox.get()
            async with asyncio.timeout(self._answer_seconds):
                try:
                    await call.write(report, last=self.leaving)
                    self._outbox.task_done()
                except RpcError:
                    # The stream is over already, and the reader is about to learn why.
                    await asyncio.Event().wait()

    async def _outlive(self) -> None:
        """Returns when the SVID of this stream has little left and a newer one is there."""
        svid = self._svid
        late = svid.not_after - _LEAST_LIFE_SHARE * (svid.not_after - svid.not_before)
        while True:
            remaining = late - self._clock.now()
            if remaining <= 0.0 and self._newest is not svid:
                return
            await asyncio.sleep(min(_WATCH_SLICE_SECONDS, max(0.25, remaining)))

    async def _overflown(self) -> None:
        await self._overflow.wait()
        raise StreamEnded(f"{self._address} does not take reports")

    def _report_identity(self, svid: X509Svid) -> None:
        identity = pb.IdentityReport(not_before=int(svid.not_before), not_after=int(svid.not_after), serial=svid.serial)
        self._post(pb.SidecarReport(identity=identity))

    def _post(self, report: pb.SidecarReport) -> None:
        if self.leaving:
            return
        try:
            self._outbox.put_nowait(report)
        except asyncio.QueueFull:
            self._overflow.set()


async def _first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first finishes, end the others, and finish as it did."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:  # in the order given, so that the reader's reason goes before the writer's
        if task in done:
            task.result()
