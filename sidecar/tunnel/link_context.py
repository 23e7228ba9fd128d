"""What a link needs from its surroundings: the owner that it tells of its life, and what all links share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import ChainVerifier, X509Svid
from sidecar.tls import RecordBuffers
from sidecar.tunnel.stream import Headers, Stream

if TYPE_CHECKING:
    from sidecar.tunnel.link import Link


class LinkOwner(Protocol):
    """Who made the link: the inbound listener or the outbound pool."""

    def link_ready(self, link: Link) -> None:
        """The peer is verified and, for a client, has let us in: its settings arrived.

        In TLS 1.3 a client's handshake ends before the server has judged its certificate; only the server's first bytes
        tell that it did.
        """

    def link_connect(self, link: Link, stream: Stream, headers: Headers) -> None:
        """A CONNECT arrived (inbound only)."""

    def link_reproved(self, link: Link) -> None:
        """The peer proved a newer SVID of the same SPIFFE ID."""

    def link_draining(self, link: Link) -> None:
        """The link takes no new streams."""

    def link_lost(self, link: Link) -> None:
        """The link is gone; ``link.end_reason`` and ``link.end_detail`` say why."""


@dataclass(slots=True, kw_only=True)
class LinkContext:
    """What all links of a sidecar share; ``svid`` and ``verifier`` are replaced at renewal and on new bundles."""

    clock: Clock
    log: Logger
    svid: X509Svid
    verifier: ChainVerifier
    count_failure: Callable[[str, str], None]  # direction, reason: handshakes that failed
    count_broken: Callable[[str, str], None] = field(default=lambda _direction, _reason: None)  # links that broke
    count_proof: Callable[[str], None] = field(default=lambda _outcome: None)
    time_handshake: Callable[[str, float], None] = field(default=lambda _direction, _seconds: None)
    buffers: RecordBuffers = field(default_factory=RecordBuffers)
