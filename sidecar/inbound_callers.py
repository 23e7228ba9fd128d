"""Who calls this workload just now, and by what policy they are judged. Adapter.

The callers of links are kept here, those without a tunnel by ``sidecar.inbound_direct``; both are made here, and each
holds its own view of the policy in force.
"""

from __future__ import annotations

from collections.abc import Callable

from ringfence.policy.decide import DecisionTable
from ringfence.spiffe import SpiffeId, VerifiedPeer
from sidecar import forwarded
from sidecar.caller import Caller
from sidecar.judging import Judging
from sidecar.remarks import Remarks
from sidecar.tokens.reader import TokenReader
from sidecar.tunnel.link import Link


class Callers:
    """Of one workload; ``now``: Unix seconds."""

    def __init__(self, own_id: SpiffeId, remarks: Remarks, now: Callable[[], float]) -> None:
        self._own_id = own_id
        self._remarks = remarks
        self._now = now
        self.judging: Judging | None = None
        """None: there is no policy yet."""
        self.of_links: dict[Link, Caller] = {}

    def enforce(self, table: DecisionTable, shadow: DecisionTable | None, tokens: TokenReader) -> None:
        """This policy holds for whoever is made or ``meet``\\s it from now on."""
        self.judging = Judging(table, remarks=self._remarks, now=self._now, shadow=shadow, tokens=tokens)

    def meet(self, *others: Caller) -> None:
        """Have the policy as it is now hold for the callers of links and for these."""
        assert self.judging is not None
        for caller in (*self.of_links.values(), *others):
            caller.meet(self.judging)

    def made(self, peer: VerifiedPeer | None, remote: tuple[str, int]) -> Caller:
        """A caller that comes from ``remote``; None: in plaintext."""
        assert self.judging is not None
        spiffe_id, address = (peer.spiffe_id if peer is not None else None), forwarded.address_of(remote)
        view, shadow, plain = self.judging.views(spiffe_id, address)
        caller = Caller(
            spiffe_id=spiffe_id, view=view, shadow=shadow, plain=plain, judging=self.judging, address=address
        )
        if peer is not None:
            self.proved(caller, peer)
        return caller

    def proved(self, caller: Caller, peer: VerifiedPeer) -> None:
        """It has shown who it is: the app is told, in the form of Envoy's SANITIZE_SET (one element, ours, whatever the
        client sent)."""
        caller.leaf_sha256 = peer.leaf_sha256
        caller.tell(f"By={self._own_id};Hash={peer.leaf_sha256};URI={peer.spiffe_id}")
