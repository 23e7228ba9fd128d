"""What the calls of a while say of a policy that was judged in shadow beside the one in force. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ringfence.policy.learning.flow import Flow, Verdict, caller_words

EXAMPLES: Final = 20
_PERMIT: Final = "permit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Counts of calls. ``denied``: those that pass today and the candidate refuses; ``permitted``: the other way round.

    ``examples``: the kinds of call whose verdict would change, those that would be refused first, the most frequent
    first.
    """

    judged: int = 0
    denied: int = 0
    permitted: int = 0
    examples: tuple[str, ...] = ()


NO_EVIDENCE: Final = Evidence()


def evidence_of(flows: Iterable[Flow], since: float) -> Evidence:
    """What calls judged after ``since`` (Unix seconds) say; flows without a shadow verdict say nothing."""
    judged = denied = permitted = 0
    changed: list[tuple[bool, int, str]] = []
    for flow in flows:
        if not flow.shadow or flow.last_seen < since:
            continue
        judged += flow.count
        passes = flow.verdict is not Verdict.DENY
        would_pass = flow.shadow == _PERMIT
        if passes == would_pass:
            continue
        if passes:
            denied += flow.count
        else:
            permitted += flow.count
        changed.append((not passes, -flow.count, _words(flow)))
    return Evidence(
        judged=judged,
        denied=denied,
        permitted=permitted,
        examples=tuple(text for _, _, text in sorted(changed)[:EXAMPLES]),
    )


def _words(flow: Flow) -> str:
    what = f"{flow.method} {flow.path}" if flow.method else "connection"
    would = "would pass" if flow.shadow == _PERMIT else f"would be refused: {flow.shadow}"
    return f"{caller_words(flow.caller)} -> {flow.service}:{flow.port} {what}: {flow.count} times, {would}"
