"""The status document as a table for people. Pure; plain text, so that it can be piped and read anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

_HEAD: Final = ("SERVICE", "SPIFFE ID", "SIDECAR", "SVID ENDS IN", "REVISION", "STATE")
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
STATES: Final = {
    "current": "up to date",
    "pending": "being told",
    "overdue": "does not answer",
    "refused": "refused",
    "disconnected": "disconnected",
}


def status_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, the mesh first and what is wrong last."""
    configuration = document["configuration"]
    yield (
        f"mesh {document['mesh']} ({document['trust_domain']}), revision {document['revision']}, "
        f"{configuration['allowlists']} allowlists, in force since {show_time(configuration['in_force_since'])}"
    )
    yield ""
    yield from table_lines([_HEAD, *_rows(document)])
    yield from _issuer_lines(document.get("token_issuers", ()))
    refused = configuration["refused"]
    if refused is not None:
        yield ""
        yield f"the files were changed at {show_time(refused['at'])} and refused; the revision above stays in force:"
        for problem in refused["problems"]:
            yield f"  {problem['text']}"


def _issuer_lines(issuers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Those of token issuers whose keys are fetched that have none, or give none any more."""
    troubled = [issuer for issuer in issuers if issuer["problem"] or issuer["age_seconds"] is None]
    if troubled:
        yield ""
    for issuer in troubled:
        age = issuer["age_seconds"]
        kept = "no keys, its tokens are refused" if age is None else f"keys of {show_duration(age)} ago stay"
        yield f"token issuer {issuer['url']}: {kept}" + (f" ({issuer['problem']})" if issuer["problem"] else "")


def table_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns aligned left, two spaces apart, nothing at the ends of lines."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def show_duration(seconds: float) -> str:
    """The two largest units, such as ``1h 5m`` or ``42s``; whole seconds, ``0s`` for less than one."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    now = document["now"]
    for workload in document["workloads"]:
        instance, not_ready = workload["instance"], workload["not_ready"]
        names = (f"{workload['service']}/{instance}" if instance else workload["service"], workload["spiffe_id"])
        unready = "" if not_ready is None else f", not ready: {not_ready['reason']}"
        if not workload["sidecars"]:
            yield (*names, "-", "-", f"- of {workload['revision']}", f"never seen{unready}")
        for sidecar in workload["sidecars"]:
            left = sidecar["identity"]["not_after"] - now
            enforced = sidecar["enforced_revision"] or "-"
            state = STATES.get(sidecar["standing"], sidecar["standing"])
            yield (
                *names,
                sidecar["process"],
                show_duration(left) if left > 0 else f"expired {show_duration(-left)} ago",
                f"{enforced} of {workload['revision']}",
                (f"{state}: {sidecar['error']}" if sidecar["error"] else state) + unready,
            )


def show_time(seconds: float) -> str:
    """A moment in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
