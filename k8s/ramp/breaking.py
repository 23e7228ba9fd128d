"""Who would break at strict: calls that pass only because a namespace is observed or permissive. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from k8s.objects.lenient import integer, text

UNAUTHENTICATED: Final = "unauthenticated"
_HEAD: Final = ("CALLER", "CALLED", "CALL", "CALLS", "LAST SEEN", "WHY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaking:
    """Calls of one kind. ``called``: service and port, or a destination outside."""

    caller: str
    called: str
    call: str
    why: str
    calls: int
    last_seen: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def from_flows(flows: Iterable[Mapping[str, Any]], namespace: str, permissive: Collection[str]) -> Iterator[Breaking]:
    """Of the flows that control planes keep (``policy flows --json``) those to services of ``namespace``.
    ``permissive``: its services that stay open to plaintext by an annotation of their own."""
    for flow in flows:
        service, verdict = text(flow, "service"), text(flow, "verdict")
        if service.partition("/")[0] != namespace:
            continue
        caller = _caller(flow)
        plaintext = not text(flow, "caller") and service.partition("/")[2] not in permissive
        if verdict == "would_deny" or (verdict == "permit" and plaintext):
            why = text(flow, "reason") if verdict == "would_deny" else "plaintext"
            yield Breaking(
                caller=caller,
                called=f"{service}:{integer(flow, 'port') or 0}",
                call=f"{text(flow, 'method')} {text(flow, 'path')}".strip() or text(flow, "protocol"),
                why=why if not plaintext or why == "plaintext" else f"plaintext, {why}",
                calls=integer(flow, "count") or 0,
                last_seen=text(flow, "last_seen"),
            )


def from_noted(calls: Iterable[Mapping[str, Any]]) -> Iterator[Breaking]:
    """Of what sidecars noted (``policy why --since --json``) the calls that passed only because they were observed.
    A service's callers are in the flows, too; calls to destinations outside are here alone."""
    for call in calls:
        if text(call, "outcome") == "would_deny":
            yield Breaking(
                caller=_caller(call),
                called=text(call, "destination") or f"{text(call, 'service')}:{integer(call, 'port') or 0}",
                call=f"{text(call, 'method')} {text(call, 'path')}".strip() or text(call, "protocol"),
                why=text(call, "reason"),
                calls=1,
                last_seen="",
            )


def _caller(told: Mapping[str, Any]) -> str:
    """In the words of ``policy flows``."""
    address = text(told, "address")
    return text(told, "caller") or (f"{UNAUTHENTICATED} at {address}" if address else UNAUTHENTICATED)


def united(found: Iterable[Breaking]) -> list[Breaking]:
    """Each kind of call once, most calls first."""
    held: dict[tuple[str, str, str, str], Breaking] = {}
    for one in found:
        key = (one.caller, one.called, one.call, one.why)
        known = held.get(key)
        held[key] = Breaking(
            caller=one.caller,
            called=one.called,
            call=one.call,
            why=one.why,
            calls=one.calls + (known.calls if known is not None else 0),
            last_seen=max(one.last_seen, known.last_seen if known is not None else ""),
        )
    return sorted(held.values(), key=lambda one: (-one.calls, one.caller, one.called, one.call))


def breaking_lines(found: Sequence[Breaking]) -> Iterator[str]:
    rows = [
        _HEAD,
        *((one.caller, one.called, one.call, str(one.calls), one.last_seen or "-", one.why) for one in found),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
