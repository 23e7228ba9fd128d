"""The issuing desk: all that the network's servicers may do with the authority. No key and no database comes here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from ca.issue import IssuedSvid
from ca.line import Petition
from ca.nonces import NonceMint
from ca.settings import IssuingLimits, LifetimeRules
from ca.tally import Tally
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingDesk:
    """Made by ``ca.authority`` for each servicer."""

    trust_domain: TrustDomain
    roots: tuple[bytes, ...]
    lifetimes: LifetimeRules
    limits: IssuingLimits
    clock: Clock
    random_bytes: Callable[[int], bytes]
    log: Logger
    tally: Tally
    nonces: NonceMint
    place: Callable[[Petition], Future[IssuedSvid]] = field(repr=False)
    """Puts a petition on the issuing line (``ca.line``)."""

    async def issue(self, petition: Petition, request_id: str) -> IssuedSvid:
        """Take the petition through the line; see ``IssuingLine.place``. Cancelled while queued, it is dropped."""
        svid = await asyncio.wrap_future(self.place(petition))
        self.log.info(
            "svid issued",
            spiffe_id=str(svid.spiffe_id),
            serial=svid.serial,
            not_after=svid.not_after,
            request_id=request_id,
        )
        return svid
