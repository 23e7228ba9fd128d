"""Who calls, as the relays of the inbound side see it."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.policy.decide import CallerView
from ringfence.spiffe import SpiffeId


@dataclass(slots=True, kw_only=True)
class Caller:
    """What is known of one link's peer; read by its relays at each request, replaced in place when it changes."""

    spiffe_id: SpiffeId | None  # None: it came in plaintext to a permissive port
    view: CallerView
    identity_line: bytes  # the header line that tells the app its caller; b"" for one without identity
