"""Who calls, as the relays of the inbound side see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.policy.decide import CallerView, Decision
from ringfence.snapshot import ForwardedFor
from ringfence.spiffe import SpiffeId
from sidecar import forwarded
from sidecar.http2 import literal
from sidecar.judging import Judged, Judging
from sidecar.relay import RelayFacts
from sidecar.tokens.reader import Asking

IDENTITY_HEADER: Final = b"x-forwarded-client-cert"


@dataclass(slots=True, kw_only=True)
class Caller:
    """What is known of one link's peer; read by its relays at each request, replaced in place when it changes."""

    spiffe_id: SpiffeId | None  # None: it came in plaintext to a permissive port
    view: CallerView
    judging: Judging | None = None  # None: ``plain``
    plain: bool = True  # a look-up in ``view`` by port, method and path is all there is to judging its requests
    shadow: CallerView | None = None
    shadow_verdict: Decision | None = None  # on the call that was judged last; None without a shadow
    waits: Asking | None = None  # for what the request that was judged last must wait; whoever asked takes it
    claims: Sequence[tuple[bytes, bytes]] = ()  # what the app is told of the token of that request
    leaf_sha256: str = ""  # of the certificate that it showed
    identity_line: bytes = b""  # the header line that tells an HTTP/1 app its caller; b"" for one without identity
    identity_field: bytes = b""  # the same for HTTP/2, as HPACK that leaves the receiver's table as it is
    address: bytes = b""  # from where it calls: of its sidecar, or of a direct caller itself
    told_line: bytes = b""  # identity and address together
    told_field: bytes = b""

    def __post_init__(self) -> None:
        self._join()

    def meet(self, judging: Judging) -> None:
        """It is judged by this from now on."""
        self.judging = judging
        self.shadow_verdict = None
        self.claims = ()
        self.view, self.shadow, self.plain = judging.views(self.spiffe_id, self.address)

    def tell(self, value: str) -> None:
        """The app is told ``value``, in the form of ``x-forwarded-client-cert``."""
        text = value.encode("ascii")
        self.identity_line = IDENTITY_HEADER + b": " + text + b"\r\n"
        self.identity_field = literal(IDENTITY_HEADER, text)
        self._join()

    def connection(self, port: int) -> Decision:
        """The verdict on opaque bytes of its to a port."""
        if self.judging is None or self.plain:
            return self.view.connection(port)
        return self.judging.connection(self, port)

    def admitted(self, facts: RelayFacts, decision: Decision) -> None:
        """Opaque bytes of its have got the verdict that counts for their connection."""
        facts.decision = decision
        if self.judging is not None and not self.plain:
            self.judging.remark(facts, self, facts.port, decision)

    def request(self, facts: RelayFacts, request: Judged, told: ForwardedFor) -> Decision:
        """The verdict on a new request, where it is not ``plain``; ``told``: the setting of its port."""
        assert self.judging is not None
        return self.judging.request(facts, self, request, told)

    def again(self, port: int, request: Judged, told: ForwardedFor) -> Decision:
        """The verdict on a request that is under way."""
        if self.judging is None or self.plain:
            return self.view.request(port, request.method, request.target)
        return self.judging.again(self, port, request, told)

    def take_claims(self) -> Sequence[tuple[bytes, bytes]]:
        """What the app is told of the token of the request that was judged last: names and values of fields."""
        claims, self.claims = self.claims, ()
        return claims

    def take_waits(self) -> Asking | None:
        """For what the request that was judged last must wait; None if it has its verdict."""
        waits, self.waits = self.waits, None
        return waits

    def may_send(self, port: int) -> bool:
        """Whether policy permits it anything on a port: bytes that nobody reads, or some request."""
        return self.view.may_send(port)

    def _join(self) -> None:
        self.told_line = self.identity_line + (forwarded.line(self.address) if self.address else b"")
        self.told_field = self.identity_field + (forwarded.field(self.address) if self.address else b"")
