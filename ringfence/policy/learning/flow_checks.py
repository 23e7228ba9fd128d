"""Whether a flow that came from elsewhere, over the wire or in a file, says something that can be. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from ringfence.kit.addresses import PORT_MAXIMUM
from ringfence.policy.learning.flow import OTHER_METHOD, Flow, Verdict
from ringfence.policy.learning.shapes import REST
from ringfence.policy.paths import judged_path
from ringfence.policy.reasons import DenyReason

PROTOCOLS: Final = ("http", "http2", "grpc", "tcp")
COUNT_MAXIMUM: Final = 2**53
"""What every reader of JSON still takes for the whole number that it is."""
TIME_MAXIMUM: Final = 2**40
PATH_LIMIT_CHARACTERS: Final = 512
RULE_LIMIT_CHARACTERS: Final = 512

_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_PATH: Final = re.compile(r"/[!-~]*")
_RULE: Final = re.compile(r"[a-z0-9._/-]*")
_REASON: Final = re.compile(r"[a-z_]{0,40}")
_SERVICE: Final = re.compile(r"[a-z0-9-]{1,63}/[a-z0-9-]{1,63}")


def fault_of(flow: Flow) -> tuple[str, str] | None:
    """What in it cannot be, as (field, what is wrong and the mend); None if nothing."""
    if not _SERVICE.fullmatch(flow.service):
        return "service", "is not <namespace>/<name>"
    if flow.caller is not None and not flow.caller.path:
        return "caller", "is a trust domain and no workload"
    if flow.address and (flow.caller is not None or not _is_address(flow.address)):
        return "address", "is no address of a caller without an identity (written as 10.0.0.7 or fd00::7)"
    if not 1 <= flow.port <= PORT_MAXIMUM:
        return "port", f"is not from 1 to {PORT_MAXIMUM}"
    if flow.protocol not in PROTOCOLS:
        return "protocol", f"is not one of {', '.join(PROTOCOLS)}"
    return _call_fault(flow) or _verdict_fault(flow) or _evidence_fault(flow)


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def _call_fault(flow: Flow) -> tuple[str, str] | None:
    if flow.is_opaque:
        if flow.method:
            return "method", "is there, and a tcp connection has none"
        return ("path", "is there, and a tcp connection has none") if flow.path else None
    if not _METHOD.fullmatch(flow.method) and flow.method != OTHER_METHOD:
        return "method", f"is no upper-case word (or {OTHER_METHOD})"
    if not flow.path:
        ambiguous = flow.reason == DenyReason.PATH_AMBIGUOUS
        return None if ambiguous else ("path", f"is empty, which only {DenyReason.PATH_AMBIGUOUS} explains")
    if flow.path == "*":
        return None
    if len(flow.path) > PATH_LIMIT_CHARACTERS or not _PATH.fullmatch(flow.path):
        return "path", f"is no path of printable ASCII within {PATH_LIMIT_CHARACTERS} characters"
    if REST in flow.path.split("/")[:-1]:
        return "path", f"has {REST} before its end"
    # Braces that are no whole word of ours stay, and no judged path has any.
    target = flow.example_target().encode("ascii")
    if judged_path(target) != target:
        return "path", "is not as the judge spells it, and without query"
    return None


def _verdict_fault(flow: Flow) -> tuple[str, str] | None:
    if len(flow.rule) > RULE_LIMIT_CHARACTERS or not _RULE.fullmatch(flow.rule):
        return "rule", "is no <namespace>/<policy>/<rule>"
    if not _REASON.fullmatch(flow.reason):
        return "reason", "is no reason's word"
    if (flow.verdict is Verdict.PERMIT) is bool(flow.reason):
        return "reason", "is there for what is permitted" if flow.reason else "is missing"
    if flow.verdict is Verdict.PERMIT and not flow.rule:
        return "rule", "is missing for what a rule permitted"
    if not _REASON.fullmatch(flow.shadow):
        return "shadow", "is neither permit nor a reason's word"
    return None


def _evidence_fault(flow: Flow) -> tuple[str, str] | None:
    if not 1 <= flow.count <= COUNT_MAXIMUM:
        return "count", f"is not from 1 to {COUNT_MAXIMUM}"
    if not 0 <= flow.missed <= flow.count:
        return "missed", "is not from 0 to count"
    if not 0 < flow.first_seen <= flow.last_seen < TIME_MAXIMUM:  # also what is no number
        return "last_seen", "is before first_seen, or no time"
    return None
