"""What owners of services should know of how they are told, with the mend. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.push.pruning import LeftOut
from controlplane.push.snapshots import SNAPSHOT_LIMIT_BYTES
from controlplane.push.workload_key import WorkloadKey
from ringfence.platform import Notice
from ringfence.snapshot import Snapshot
from ringfence.wire.convert import UPSTREAM_LIMIT

LEFT_OUT: Final = "LeftOut"
CLOSED: Final = "Closed"
NOTICE_LIMIT: Final = 100
"""At once; more are like these."""
_CLOSED_MEND: Final = "until then it refuses everybody and calls nobody: give it fewer labels, ports, rules or callers"


def notices_of(
    left_out: Mapping[str, LeftOut], unsendable: Mapping[WorkloadKey, str], contents: Mapping[WorkloadKey, Snapshot]
) -> tuple[Notice, ...]:
    """``unsendable``: why workloads of ``contents`` are closed; ``left_out``: by full name of the service."""
    closed = [
        Notice(
            service=contents[key].workload.full_name,
            instance=key.instance,
            reason=CLOSED,
            message=f"{why}; {_CLOSED_MEND}",
        )
        for key, why in sorted(unsendable.items(), key=lambda one: str(one[0]))[:NOTICE_LIMIT]
    ]
    left = [
        Notice(service=name, reason=LEFT_OUT, message=_left_out(name, one))
        for name, one in sorted(left_out.items())[:NOTICE_LIMIT]
    ]
    return tuple((*closed, *left)[:NOTICE_LIMIT])


def _left_out(name: str, one: LeftOut) -> str:
    limit = SNAPSHOT_LIMIT_BYTES >> 20
    return (
        f"{one.callers} workloads that may call {name} are not told of it, and cannot call it: its {one.ports} ports at"
        f" all its pods are {one.told_bytes / (1 << 20):.1f} MiB to tell each, beside what else these may call, and a"
        f" sidecar takes {UPSTREAM_LIMIT} ports and {limit} MiB in all; give it fewer ports or pods, or permit fewer"
        " callers"
    )
