"""An app's connection to a destination outside the mesh, permitted by an egress rule: bytes as they are. Adapter."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ringfence.policy.reasons import DenyReason
from sidecar.direct import DirectEnd
from sidecar.egress import stands_for_near
from sidecar.http2.frames import CANCEL
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.tls import TlsFailed

CONNECT_SECONDS = 5.0


class EgressOwner(RelayOwner, Protocol):
    """The outbound side."""

    def leads_to_mesh(self, destination: tuple[str, int]) -> bool:
        """Whether a mesh service is reached by ``destination``: then it is reached by the mesh or not at all."""


class EgressRelay(Relay):
    """Dials ``address`` (an IP address, or a host name that an egress rule permits) and joins the two connections.

    A host name is looked up here, not taken from the app's own look-up: an app that claims a permitted name and dials
    another address would otherwise reach that address.
    """

    owner: EgressOwner
    # The app dialled this very address, and it was outside when it did: that a service of the mesh has it since, as
    # while a namespace is brought in, ends nothing that lives, and this no more.
    dialled = False

    def __init__(self, owner: EgressOwner, facts: RelayFacts, address: str, port: int, first: bytes = b"") -> None:
        super().__init__(owner, facts)
        self._address = address
        self._dial_port = port
        self._unsent = [first] if first else []
        facts.bytes_from_app += len(first)
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None and not self.ended:
            self.transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(
                self._dial(), name=f"egress to {self._address}:{self._dial_port}"
            )

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        where = f"{self._address}:{self._dial_port}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: DirectEnd(self, None), self._address, self._dial_port)
        except TimeoutError:
            self.end(DenyReason.UPSTREAM_TIMEOUT, f"{where}: no connection in {CONNECT_SECONDS:.0f} s", abort=True)
        except OSError as error:
            self.end(DenyReason.UPSTREAM_UNREACHABLE, f"{where}: {error.strerror or error}", abort=True)
        except UnicodeError:  # what a wildcard permits need not be a name that can be looked up
            self.end(DenyReason.UPSTREAM_UNREACHABLE, f"{where}: a label of the name is empty or too long", abort=True)
        except Exception as error:
            self.owner.relay_failed(self, error)
            self.end(DenyReason.INTERNAL_ERROR, f"{where}: {type(error).__name__}", abort=True)

    def refuses(self, end: DirectEnd) -> str:
        """Why no byte may go to where the connection was made to; empty if it may. A name may stand for anything."""
        address = end.remote[0]
        if stands_for_near(self._address, address, own=end.local[0]):
            return f"the name stands for {address}, which only a rule by address permits"
        if not self.dialled and self.owner.leads_to_mesh((address, self._dial_port)):
            return f"the name stands for {address}, a service of the mesh, which is not reached around it"
        return ""

    def direct_ready(self, end: DirectEnd) -> None:
        if self.ended:
            end.reset(CANCEL)
            return
        detail = self.refuses(end)
        if detail:
            end.reset(CANCEL)
            self.end(DenyReason.EGRESS_NOT_ALLOWED, detail, abort=True)
            return
        self.stream = end
        end.endpoint = self
        unsent, self._unsent = self._unsent, []
        if unsent:
            end.send(b"".join(unsent))
        if self._app_ended:
            end.end()
        if self.transport is not None:
            self.transport.resume_reading()

    def direct_refused(self, end: DirectEnd, reason: DenyReason, code: str, detail: str) -> None:
        """Only a TLS end is refused; this one is plain."""
        self.end(reason, f"{code}: {detail}", abort=True)

    def direct_broken(self, end: DirectEnd, failed: TlsFailed | None) -> None:
        """As above."""

    def direct_closed(self, end: DirectEnd) -> None:
        """The relay was told of the end already."""

    def to_mesh(self, data: bytes) -> None:
        if self.stream is None:  # uvloop may hand over one read after ``pause_reading``
            self._unsent.append(data)
            if self.transport is not None:
                self.transport.pause_reading()
        else:
            super().to_mesh(data)

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = 0) -> None:
        super().end(reason, detail, abort=abort, code=code)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
