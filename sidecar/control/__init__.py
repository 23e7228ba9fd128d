"""What a sidecar is told to enforce, and how it keeps being told. ``ControlStream`` is what the app sees.

Below it: ``enforcement`` (what is in force; no network, no files), ``snapshot_file`` (disk), ``session`` (one gRPC
stream), ``stream`` (all of it together, for as long as the process lives).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.wire.gen import control_pb2
from sidecar.control.enforcement import OnSnapshot
from sidecar.control.errors import ControlError, SnapshotRefused, StoredSnapshotUnfit, StreamEnded
from sidecar.control.snapshot_file import SnapshotFile
from sidecar.control.stream import ControlStream, IdentitySource
from sidecar.settings import ControlSettings
from sidecar.state_folder import StateFolder

__all__ = [
    "ControlError",
    "ControlStream",
    "IdentitySource",
    "OnSnapshot",
    "SnapshotRefused",
    "StoredSnapshotUnfit",
    "StreamEnded",
    "open_control",
]


def open_control(
    settings: ControlSettings,
    *,
    holder: IdentitySource,
    on_snapshot: OnSnapshot,
    readiness: Callable[[], control_pb2.ReadinessReport],
    clock: Clock,
    random: Callable[[], float],
    log: Logger,
    version: str,
) -> ControlStream:
    """The stream for one process; ``readiness`` answers what the control plane is told of the workload.

    Touches neither files nor network before ``run``."""
    return ControlStream(
        address=settings.address,
        holder=holder,
        file=SnapshotFile(StateFolder(settings.state_dir)),
        instance=settings.instance,
        on_snapshot=on_snapshot,
        readiness=readiness,
        clock=clock,
        random=random,
        log=log,
        version=version,
        process=secrets.token_hex(8),
    )
