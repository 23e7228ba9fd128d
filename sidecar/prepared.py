"""A snapshot on its way into force. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.policy.decide import DecisionTable
from ringfence.snapshot import Snapshot
from ringfence.spiffe import TrustBundle
from sidecar.tokens.reader import TokenReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A snapshot of which nothing can fail any more."""

    snapshot: Snapshot
    table: DecisionTable
    shadow: DecisionTable | None
    tokens: TokenReader
    bundles: tuple[TrustBundle, ...]
    received: float
    """When it arrived, monotonic seconds, in whichever process that was."""


def judges_alike(one: Snapshot, other: Snapshot) -> bool:
    """Whether what is compiled of both is the same, but for the shadow."""
    return (one.workload, one.policy, one.token_issuers) == (other.workload, other.policy, other.token_issuers)
