"""The admin socket's documents as text for people. Pure; nothing that a peer chose reaches the terminal raw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_GAP = "  "


def status_lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield "ready         yes" if document["ready"] else f"ready         no: {'; '.join(document['waiting_for'])}"
    yield f"revision      {document['revision'] or 'none yet'}"
    yield f"identity      {document['spiffe_id'] or 'none yet'}"
    if document["svid_left_seconds"] is not None:
        left = document["svid_left_seconds"]
        yield f"left          {duration(left) if left > 0 else 'none: it is over'}"
    yield f"version       {document['version']}"


def certs_lines(document: Mapping[str, Any]) -> Iterator[str]:
    svid = document["svid"]
    if svid is None:
        yield "SVID          none yet"
    else:
        yield f"SVID          {svid['spiffe_id']}"
        yield f"serial        {svid['serial']}"
        yield f"valid         {svid['not_before']} to {svid['not_after']}"
        left = svid["left_seconds"]
        yield f"left          {duration(left)}" if left > 0 else "left          none: it is over"
    for bundle in document["bundles"]:
        for root in bundle["roots"]:
            yield f"trust bundle  {bundle['trust_domain']}  root {root}"


def connections_lines(document: Mapping[str, Any]) -> Iterator[str]:
    rows = [("DIRECTION", "PEER", "SERVICE", "PROTOCOL", "AGE", "FROM APP", "TO APP", "REQUESTS", "DECISION")]
    for shown in document["connections"]:
        rows.append(
            (
                shown["direction"],
                shown["peer"] or shown.get("destination") or "-",
                f"{shown['service']}:{shown['port']}",
                shown["protocol"],
                duration(shown["age_seconds"]),
                size(shown["bytes_from_app"]),
                size(shown["bytes_to_app"]),
                str(shown["requests"]) if shown["protocol"] != "tcp" else "-",
                _decision(shown),
            )
        )
    yield from table(rows)
    yield from _left_out(document["connections_left_out"], "connections")
    yield ""
    rows2 = [("LINK", "PEER", "REMOTE", "STATE", "STREAMS", "PEER'S SVID ENDS")]
    for link in document["links"]:
        rows2.append(
            (
                link["direction"],
                link["peer"] or "-",
                link["remote"] or "-",
                link["state"],
                str(link["streams"]),
                link["peer_not_after"] or "-",
            )
        )
    yield from table(rows2)
    yield from _left_out(document["links_left_out"], "links")
    yield ""
    yield from table(list(_endpoint_rows(document["endpoints"])))
    yield from _left_out(document["endpoints_left_out"], "endpoints")


def _endpoint_rows(endpoints: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    yield "UPSTREAM", "ENDPOINT", "STATE", "CONNECTIONS", "CALLS", "LATENCY", "FAILURES"
    for shown in endpoints:
        left_out = shown["left_out_seconds"]
        yield (
            f"{shown['service']}:{shown['port']}",
            shown["endpoint"],
            f"left out for {duration(left_out)}" if left_out else shown["state"],
            str(shown["connections"]),
            str(shown["calls"]),
            f"{shown['latency_ms']:g} ms" if shown["latency_ms"] else "-",
            str(shown["failures"]),
        )


def _left_out(number: int, what: str) -> Iterator[str]:
    if number:
        yield f"and {number} more {what} (--limit shows more)"


def _decision(shown: Mapping[str, Any]) -> str:
    would_deny = shown.get("would_deny")
    if "decision" not in shown:
        if shown["protocol"] == "tcp" or shown["direction"] != "inbound":
            return "-"
        return f"per request, would deny {would_deny}" if would_deny else "per request"
    if shown["decision"] == "permit":
        if would_deny:
            return f"would deny {shown['reason']}"
        return f"permit {shown['policy']} {shown['rule']}"
    return f"deny {shown['reason']}"


def tap_line(event: Mapping[str, Any]) -> str:
    """One event, e.g. ``12:00:01.250 deny inbound spiffe://… -> shop/orders:8080 DELETE /orders/1 …``."""
    when = datetime.fromtimestamp(event["ts"], UTC).strftime("%H:%M:%S.%f")[:-3]
    word = {"would_deny": "would deny", "shadow": "shadow"}.get(event["event"], event.get("decision", "sent"))
    parts = [when, f"{word:6}", f"{event['direction']:8}"]
    parts.append(f"{event['from'] or 'unauthenticated'} -> {event['to']}:{event['port']}")
    if event["event"] == "request" or event.get("method"):
        parts.append(f"{event.get('method') or '?'} {event.get('target') or '?'}")
        if event.get("status"):
            parts.append(str(event["status"]))
    else:
        parts.append(str(event["protocol"]))
        if "bytes_from_app" in event:
            parts.append(f"from app {size(event['bytes_from_app'])}, to app {size(event['bytes_to_app'])}")
    if "duration_ms" in event:
        parts.append(f"{event['duration_ms']} ms")
    if event.get("decision") == "permit" and event["rule"]:
        parts.append(f"policy={event['policy']} rule={event['rule']}")
    for name in (
        "would_deny",
        "shadow",
        "shadow_reason",
        "shadow_rule",
        "reason",
        "nearest",
        "destination",
        "detail",
        "request_id",
    ):
        if event.get(name) and (name != "request_id" or word not in ("permit", "sent")):
            parts.append(f"{name}={event[name]}")
    if event.get("missed"):
        parts.append(f"(missed {event['missed']} before this)")
    return printable(" ".join(parts))


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def printable(text: str) -> str:
    """``text`` with what could steer a terminal escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """Two units at most: 59 s, 3 m 20 s, 2 h 5 m, 4 d 1 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: int) -> str:
    """Bytes with a binary unit."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
