"""What only observing lets through, a service: for ``ringfence policy status``. Adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from controlplane.operate.admin_client import AdminUnreachableError, get_document
from controlplane.operate.status_table import show_time
from ringfence.policy.learning.flow import Verdict

_AGE_SECONDS: Final = 86_400.0


def observed(admin_socket: Path, document: Mapping[str, Any]) -> list[dict[str, object]]:
    """For each service that ``document`` (``GET /policy``) shows as observed: until when, and how many callers and
    calls of the last day default deny would have refused; None where that is not known."""
    ends = {
        workload["service"]: workload["policy"]["observe_until"]
        for workload in document["workloads"]
        if workload["policy"] is not None and workload["policy"]["posture"] == "observe"
    }
    found: list[dict[str, object]] = []
    for service, until in sorted(ends.items()):
        asked = {"since": document["now"] - _AGE_SECONDS, "service": service, "verdict": Verdict.WOULD_DENY.value}
        callers: int | None = None
        calls: int | None = None
        try:
            flows = get_document(admin_socket, "/flows?" + urlencode(asked))["flows"]
            callers = len({flow["caller"] for flow in flows})
            calls = sum(flow["count"] for flow in flows)
        except (AdminUnreachableError, KeyError, TypeError):
            pass  # no flows are kept, which the control plane's log explains
        found.append({"service": service, "until": until, "would_deny_callers": callers, "would_deny_calls": calls})
    return found


def observed_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    if document["observed"]:
        yield ""
    for one in document["observed"]:
        until = f"{one['service']} is only observed, until {show_time(one['until'])}"
        callers = one["would_deny_callers"]
        if callers is None:
            yield f"{until}; whom default deny would refuse is not known: no flows are kept"
        elif not callers:
            yield f"{until}; in the last day default deny would have refused nobody"
        else:
            calls = "1 call" if one["would_deny_calls"] == 1 else f"{one['would_deny_calls']} calls"
            who = "1 caller" if callers == 1 else f"{callers} callers"
            yield f"{until}; in the last day default deny would have refused {calls} of {who}"
            yield f"  list them by: ringfence policy flows --would-deny --to {one['service']}"
