"""Which workload a snapshot is for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class WorkloadKey:
    """An identity and which of its instances; ``instance`` is empty for the only, unnamed one.

    As text the instance stands behind a ``#``, which no SPIFFE ID contains.
    """

    spiffe_id: SpiffeId
    instance: str = ""

    def __str__(self) -> str:
        return f"{self.spiffe_id}#{self.instance}" if self.instance else str(self.spiffe_id)
