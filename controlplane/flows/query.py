"""What can be asked of the flows that are kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.learning.flow import Flow, Verdict

ANSWER_LIMIT: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowQuery:
    """``since``: Unix seconds; flows that were last seen before it are left out. ``caller``: a SPIFFE ID, empty for
    callers without an identity. None: any. ``limit``: of flows in the answer."""

    since: float = 0.0
    service: str | None = None
    caller: str | None = None
    verdict: Verdict | None = None
    limit: int = ANSWER_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowAnswer:
    """``unrecorded``: calls to each service that no flow counts. ``truncated``: there are more than the limit."""

    flows: tuple[Flow, ...]
    unrecorded: dict[str, int]
    truncated: bool = False
