"""Who calls, as the relays of the inbound side see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.decide import CallerView, Deny
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId
from sidecar import forwarded
from sidecar.http2 import literal

IDENTITY_HEADER: Final = b"x-forwarded-client-cert"


@dataclass(slots=True, kw_only=True)
class Caller:
    """What is known of one link's peer; read by its relays at each request, replaced in place when it changes."""

    spiffe_id: SpiffeId | None  # None: it came in plaintext to a permissive port
    view: CallerView
    identity_line: bytes = b""  # the header line that tells an HTTP/1 app its caller; b"" for one without identity
    identity_field: bytes = b""  # the same for HTTP/2, as HPACK that leaves the receiver's table as it is
    address: bytes = b""  # from where it calls: of its sidecar, or of a direct caller itself
    told_line: bytes = b""  # identity and address together
    told_field: bytes = b""

    def __post_init__(self) -> None:
        self._join()

    def tell(self, value: str) -> None:
        """The app is told ``value``, in the form of ``x-forwarded-client-cert``."""
        text = value.encode("ascii")
        self.identity_line = IDENTITY_HEADER + b": " + text + b"\r\n"
        self.identity_field = literal(IDENTITY_HEADER, text)
        self._join()

    def may_send(self, port: int) -> bool:
        """Whether policy permits it anything on a port: bytes that nobody reads, or some request."""
        decision = self.view.connection(port)
        return not isinstance(decision, Deny) or decision.reason is DenyReason.NOT_HTTP

    def _join(self) -> None:
        self.told_line = self.identity_line + (forwarded.line(self.address) if self.address else b"")
        self.told_field = self.identity_field + (forwarded.field(self.address) if self.address else b"")
