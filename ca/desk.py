"""The issuing desk: all that the network's servicers may do with the authority. No key and no database comes here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TypeVar

from ca.errors import RefusalReason
from ca.issue import IssuedSvid
from ca.line import Order
from ca.nonces import NonceMint
from ca.settings import IssuingLimits, LifetimeRules
from ca.store.host_keys import EnrolledHostKey
from ca.tally import Tally
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import TrustDomain

T = TypeVar("T")


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
    look_up_token: Callable[[str, str | None], str | RefusalReason]
    """By the token's SHA-256 and the host key shown with it; blocking (``ca.store.tokens``)."""
    find_host_key: Callable[[str], EnrolledHostKey | None]
    """By key id; blocking (``ca.store.host_keys``)."""
    place: Callable[[Order], Future[IssuedSvid]] = field(repr=False)
    """Takes an order onto the issuing line (``ca.line``)."""
    readers: Executor = field(repr=False)

    async def issue(self, order: Order) -> IssuedSvid:
        """Take the order through the line; raises what ``IssuingLine.place`` says. Cancelled while queued: dropped."""
        return await asyncio.wrap_future(self.place(order))

    async def in_reader(self, work: Callable[[], T]) -> T:
        """Run blocking ``work`` in a reader thread."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, work)
