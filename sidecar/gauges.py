"""The metrics that are read when somebody scrapes: what lives, what waits, how old identity and policy are. Adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ringfence.kit.clock import Clock
from ringfence.kit.log_sink import LogSink
from sidecar.metrics import SidecarMetrics

if TYPE_CHECKING:
    from sidecar.control import ControlStream
    from sidecar.identity import IdentityHolder
    from sidecar.inbound import Inbound
    from sidecar.outbound import Outbound
    from sidecar.tunnel.machine import TunnelMachine

    Sides: TypeAlias = Callable[[], tuple[Inbound, Outbound] | None]
    """Both sides of the data path; None before the first snapshot."""


def declare_gauges(
    metrics: SidecarMetrics,
    *,
    holder: IdentityHolder,
    control: ControlStream,
    sink: LogSink,
    clock: Clock,
) -> None:
    """Declare what concerns the process; nothing is read before the first scrape."""
    _identity_and_policy(metrics, holder, control, clock)
    metrics.total("ringfence_log_lines_dropped", "Log lines nobody took", lambda: float(sink.dropped))
    metrics.gauge(
        "ringfence_log_characters_waiting",
        "Of log lines that standard error has not taken yet",
        lambda: float(sink.waiting_characters),
    )


def _identity_and_policy(metrics: SidecarMetrics, holder: IdentityHolder, control: ControlStream, clock: Clock) -> None:
    metrics.gauge(
        "ringfence_svid_expiry_timestamp_seconds",
        "When the SVID in use ends (Unix seconds); 0 without one",
        lambda: holder.svid.not_after if holder.svid is not None else 0.0,
    )
    metrics.gauge(
        "ringfence_svid_age_seconds",
        "Since the SVID in use became valid; 0 without one",
        lambda: max(0.0, clock.now() - holder.svid.not_before) if holder.svid is not None else 0.0,
    )
    metrics.total("ringfence_svid_renewals", "SVIDs received", lambda: float(holder.renewals))
    metrics.total("ringfence_svid_failures", "Attempts to get an SVID that failed", lambda: float(holder.failures))
    metrics.gauge(
        "ringfence_snapshot_revision",
        "Revision enforced; 0 without one",
        lambda: float(control.snapshot.revision) if control.snapshot is not None else 0.0,
    )
    metrics.total("ringfence_snapshots_refused", "Snapshots refused", lambda: float(control.refused))
    metrics.gauge(
        "ringfence_control_plane_staleness_seconds",
        "Since the control plane was last heard; 0 while connected",
        lambda: control.staleness_seconds(),
    )


def declare_span_gauges(metrics: SidecarMetrics, waiting: Callable[[], int]) -> None:
    """Declare what there is only where requests are traced."""
    metrics.gauge("ringfence_spans_waiting", "Spans that wait to be exported", lambda: float(waiting()))


def declare_workers_gauges(metrics: SidecarMetrics, enforcing: Callable[[], int], restarts: Callable[[], int]) -> None:
    """Declare what concerns the parent of workers."""
    metrics.gauge("ringfence_workers", "With --workers: those that enforce the snapshot", lambda: float(enforcing()))
    metrics.total("ringfence_worker_restarts", "Workers that ended and were replaced", lambda: float(restarts()))


def declare_flow_gauges(metrics: SidecarMetrics, dropped: Callable[[], int]) -> None:
    """Declare what concerns what the control plane is told of calls."""
    metrics.total(
        "ringfence_flows_unrecorded",
        "Calls judged here of which the control plane is not told what they were",
        lambda: float(dropped()),
    )


def declare_redirect_gauge(metrics: SidecarMetrics, missing: Callable[[], bool]) -> None:
    """Declare what there is only where a redirect is expected."""
    metrics.gauge(
        "ringfence_redirect_missing",
        "With --expect-redirect: 1 while connections of the app were not seen to be led here",
        lambda: float(missing()),
    )


def declare_traffic_gauges(metrics: SidecarMetrics, sides: Sides) -> None:
    """Declare what concerns one data path."""

    def count(name: str, help_text: str, read: Callable[[Inbound, Outbound], int]) -> None:
        def now() -> float:
            both = sides()
            return float(read(*both)) if both is not None else 0.0

        metrics.gauge(name, help_text, now)

    def machines(inbound: Inbound, outbound: Outbound) -> list[TunnelMachine]:
        return [link.machine for link in (*inbound.links, *outbound.pool.links)]

    count(
        "ringfence_connections_open_inbound",
        "Connections from the mesh joined to the app",
        lambda inbound, _: len(inbound.relays),
    )
    count(
        "ringfence_connections_open_outbound", "App connections to upstreams", lambda _, outbound: len(outbound.relays)
    )
    count(
        "ringfence_connections_direct",
        "Redirected inbound connections without a tunnel, whatever has become of them",
        lambda inbound, _: inbound.direct.open_count,
    )
    count(
        "ringfence_connections_undecided",
        "Redirected outbound connections of which it is not known yet where they lead",
        lambda _, outbound: len(outbound.undecided),
    )
    count(
        "ringfence_connections_waiting",
        "App connections that wait for a mesh connection",
        lambda _, outbound: outbound.pool.waiting,
    )
    count(
        "ringfence_tunnels_open",
        "Mesh connections open, both directions",
        lambda inbound, outbound: len(inbound.links) + len(outbound.pool.links),
    )
    count(
        "ringfence_tunnel_streams_open",
        "Streams open on mesh connections",
        lambda inbound, outbound: sum(len(machine.streams) for machine in machines(inbound, outbound)),
    )
    count(
        "ringfence_tunnel_received_bytes_held",
        "Received from the mesh and not yet taken by an app",
        lambda inbound, outbound: sum(machine.held_bytes for machine in machines(inbound, outbound)),
    )
    count(
        "ringfence_tunnel_sending_bytes_kept",
        "Read from apps and not yet let out by a window of the mesh",
        lambda inbound, outbound: sum(machine.kept_bytes for machine in machines(inbound, outbound)),
    )
