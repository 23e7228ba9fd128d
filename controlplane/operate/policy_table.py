"""The policy status as a table for people. Pure; plain text, so that it can be piped and read anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from controlplane.operate.status_table import STATES, show_time, table_lines

_HEAD: Final = ("SERVICE", "SIDECAR", "REVISION", "POSTURE", "ENFORCES", "STATE")


def policy_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table; below it the files that were refused, and that there are warnings."""
    yield from table_lines([_HEAD, *_rows(document)])
    if document["warnings"]:
        yield ""
        yield f"{document['warnings']} warnings: see `ringfence policy check`, or configuration.warnings of /status"
    refused = document["refused"]
    if refused is not None:
        yield ""
        yield f"the files were changed at {show_time(refused['at'])} and refused; what is above stays in force:"
        for problem in refused["problems"]:
            yield f"  {problem['text']}"


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for workload in document["workloads"]:
        instance = workload["instance"]
        name = f"{workload['service']}/{instance}" if instance else workload["service"]
        if not workload["sidecars"]:
            yield (name, "-", f"- of {workload['revision']}", "-", "nothing: no sidecar ever came", "never seen")
        for sidecar in workload["sidecars"]:
            policy, state = sidecar["policy"], STATES.get(sidecar["standing"], sidecar["standing"])
            yield (
                name,
                sidecar["process"],
                f"{sidecar['enforced_revision'] or '-'} of {workload['revision']}",
                _posture(policy),
                _enforced(sidecar["enforced_revision"], policy),
                f"{state}: {sidecar['error']}" if sidecar["error"] else state,
            )


def _posture(policy: Mapping[str, Any] | None) -> str:
    if policy is None:
        return "?"
    until = policy["observe_until"]
    return f"observe until {show_time(until)}" if until is not None else "enforce"


def _enforced(revision: int, policy: Mapping[str, Any] | None) -> str:
    if not revision:
        return "nothing yet: it refuses everybody"
    if policy is None:
        return "a revision that is not known here any more"
    names = [
        f"{one['kind']} {one['name']}" + (" (shadow)" if one["mode"] == "shadow" else "") for one in policy["documents"]
    ]
    nobody = "it refuses everybody" if policy["observe_until"] is None else "it lets everybody in"
    return ", ".join(names) or f"no document: {nobody}"
