"""``docs/reasons.md`` as the reasons have it; ``python -m tests.reasons_document`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ringfence.policy.reasons import DenyReason, ReasonKind
from sidecar.refusal import status_of

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "reasons.md"
_HEAD: Final = """# Why a call was refused

One closed set of words: they stand in answers (`x-ringfence-refusal`, with the request's id), in logs, and as the label
`reason` of metrics. A word never comes to mean something else. Written from `ringfence/policy/reasons.py` by `python -m
tests.reasons_document`; a test holds the two together.

The caller is told the reason alone. The log of the sidecar that refused names the rule that came nearest, under the
same id: `ringfence policy why REQUEST-ID` finds it. On HTTP/1 and HTTP/2 the answer has the status below; a gRPC call
ends with a status of its own, an opaque connection is closed where policy refuses it and reset where something failed.
"""
_KINDS: Final = {
    ReasonKind.POLICY: """
## Policy: for its author, or for the caller

In this order of precedence, as far as the allowlists and denylists of the service tell them: the first reason that
holds for the rules that came nearest. A service that is only observed (`posture: observe`) passes what would have been
refused by one of them, and counts it under the same word as `would_deny`; but `path_ambiguous` and `denylisted` hold
all the same.
""",
    ReasonKind.IDENTITY: """
## Identity: who the two ends are
""",
    ReasonKind.FAILURE: """
## Failure: nothing was judged
""",
}
_TABLE: Final = """
| reason | status | what it means | what to do |
|---|---|---|---|
"""


def document() -> str:
    """The whole file."""
    text = _HEAD
    for kind, head in _KINDS.items():
        rows = [
            f"| `{reason.value}` | {status_of(reason)} | {reason.summary} | {reason.mend} |\n"
            for reason in DenyReason
            if reason.kind is kind
        ]
        text += head + _TABLE + "".join(rows)
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(document())
