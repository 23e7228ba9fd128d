"""Counted flows as messages, small enough for the control stream, and messages of workers back into a table."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from ringfence.policy.learning.flow import Verdict
from ringfence.wire.gen import control_pb2 as pb
from sidecar.flows.rows import RowKey
from sidecar.flows.table import FlowTable

# The control plane takes reports of up to 64 KiB.
LIMIT_REPORT_BYTES: Final = 48 << 10


def take_reports(table: FlowTable) -> list[pb.FlowReport]:
    """All that was counted since the last time; no report where nothing was."""
    now = table.now()
    callers, unrecorded = table.take()
    report = pb.FlowReport(unrecorded=unrecorded)
    reports = [report]
    size = 0
    for flows, rows in callers:
        for row in rows:
            key = row.key
            flow = pb.Flow(
                caller=flows.caller,
                # Who is refused is not listed by address: it would cost the evidence of those who pass.
                address=flows.address if key.passed else "",
                port=flows.port,
                protocol=flows.protocol,
                method=key.method,
                path=key.path,
                verdict=key.verdict,
                rule=key.rule,
                reason=key.reason,
                shadow=key.shadow,
                count=row.count,
                missed=row.missed,
                first_seen=row.first_seen,
                last_seen=max(now, row.first_seen),
            )
            size += flow.ByteSize() + 8
            if size > LIMIT_REPORT_BYTES:
                report = pb.FlowReport()
                reports.append(report)
                size = flow.ByteSize() + 8
            report.flows.append(flow)
    return reports if reports[0].flows or unrecorded else []


def calls_of(report: pb.FlowReport) -> int:
    """How many calls a report tells of."""
    return report.unrecorded + sum(flow.count for flow in report.flows)


def absorb(table: FlowTable, message: bytes) -> None:
    """Count in ``table`` what another of this sidecar's processes has counted, in a report of its own. Raises
    ValueError for what none says."""
    try:
        report = pb.FlowReport.FromString(message)
    except DecodeError as error:
        raise ValueError("it is no flow report") from error
    for flow in report.flows:
        segments: tuple[str, ...] | None = tuple(flow.path[1:].split("/")) if flow.path else None
        if flow.path == "*":
            segments = ("*",)
        key = RowKey(flow.method, segments, Verdict(flow.verdict), flow.rule, flow.reason, flow.shadow)
        told = table.of(flow.caller, flow.port, flow.protocol, flow.address)
        told.told(key, count=flow.count, missed=flow.missed, first_seen=flow.first_seen)
    table.unrecorded += report.unrecorded
