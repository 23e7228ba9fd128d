"""Every metric of the control plane process, declared once. Labels come from closed sets.

A registry of its own, not the library's global one, so that a test can have two control planes in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.push.sessions import Standing

_PREFIX = "ringfence_controlplane"


class _Issuing(Collector):
    """What the CA counts itself, read when somebody asks."""

    def __init__(self, totals: Callable[[], Mapping[tuple[str, str], int]], issuing_not_after: float) -> None:
        self._totals = totals
        self._issuing_not_after = issuing_not_after

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "ringfence_ca_requests", "Requests for identities, by method and outcome.", labels=["method", "outcome"]
        )
        for (method, outcome), count in sorted(self._totals().items()):
            family.add_metric([method, outcome], count)
        yield family
        yield GaugeMetricFamily(
            "ringfence_ca_issuing_not_after_timestamp_seconds",
            "End of the issuing certificate, Unix seconds; nothing can be issued beyond it.",
            value=self._issuing_not_after,
        )


class ControlPlaneMetrics:
    """The instruments; whoever has a fact calls its instrument."""

    def __init__(
        self, issuing_totals: Callable[[], Mapping[tuple[str, str], int]], *, issuing_not_after: float = 0.0
    ) -> None:
        """``issuing_totals``: the CA's counts, by method and outcome; ``issuing_not_after`` in Unix seconds."""
        self.registry = CollectorRegistry()
        self.registry.register(_Issuing(issuing_totals, issuing_not_after))
        registry = self.registry
        self.revision = Gauge(f"{_PREFIX}_revision", "Mesh revision in force.", registry=registry)
        self.changes = Counter(
            f"{_PREFIX}_changes", "Changes of the files, by outcome: applied, refused.", ["outcome"], registry=registry
        )
        self.change_refused = Gauge(
            f"{_PREFIX}_change_refused",
            "1 while the files on disk are refused and older ones in force.",
            registry=registry,
        )
        self.workloads = Gauge(f"{_PREFIX}_workloads", "Workloads in the mesh.", registry=registry)
        self.workloads_not_ready = Gauge(
            f"{_PREFIX}_workloads_not_ready",
            "Workloads that callers are told not to choose while another instance is ready.",
            registry=registry,
        )
        self.workloads_closed = Gauge(
            f"{_PREFIX}_workloads_closed",
            "Workloads that refuse everybody and call nobody, as they cannot be told what they should be.",
            registry=registry,
        )
        self.services_left_out = Gauge(
            f"{_PREFIX}_services_left_out",
            "Services that not all are told of whom policy lets call them, as it would be more than a sidecar takes.",
            registry=registry,
        )
        self.readiness_changes = Counter(
            f"{_PREFIX}_readiness_changes",
            "Revisions that tell callers nothing new but which workloads are ready.",
            registry=registry,
        )
        self.documents = Gauge(
            f"{_PREFIX}_documents",
            "Documents of a platform, by what became of them: in_force, stood_in by an older version, left_out.",
            ["standing"],
            registry=registry,
        )
        self.sidecars = Gauge(
            f"{_PREFIX}_sidecars",
            "Sidecars, by where they stand with their snapshot.",
            ["standing"],
            registry=registry,
        )
        self.streams_ended = Counter(
            f"{_PREFIX}_streams_ended",
            "Control streams ended or refused by this side, by reason.",
            ["reason"],
            registry=registry,
        )
        self.snapshots_sent = Counter(f"{_PREFIX}_snapshots_sent", "Snapshots written to sidecars.", registry=registry)
        self.acknowledgements = Counter(
            f"{_PREFIX}_acknowledgements",
            "Answers of sidecars, by outcome: accepted, refused.",
            ["outcome"],
            registry=registry,
        )
        self.flow_calls_lost = Counter(
            f"{_PREFIX}_flow_calls_lost",
            "Calls that sidecars told of as flows and that were not written down.",
            registry=registry,
        )
        self.reports_delayed = Counter(
            f"{_PREFIX}_reports_delayed", "Reports of sidecars that came faster than they are taken.", registry=registry
        )
        self.acknowledgement_seconds = Histogram(
            f"{_PREFIX}_acknowledgement_seconds",
            "From the offer of a snapshot to its enforcement by a sidecar.",
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.server_svid_expiry = Gauge(
            f"{_PREFIX}_server_svid_not_after_timestamp_seconds",
            "End of the server's own SVID, Unix seconds.",
            registry=registry,
        )
        self.server_svid_rotations = Counter(
            f"{_PREFIX}_server_svid_rotations",
            "Renewals of the server's own SVID, by outcome: done, failed.",
            ["outcome"],
            registry=registry,
        )
        self.join_tokens = Counter(
            f"{_PREFIX}_join_tokens_minted", "Join tokens minted over the admin socket.", registry=registry
        )
        self.task_failures = Counter(
            f"{_PREFIX}_task_failures",
            "Unexpected failures caught at a task's border, by task.",
            ["task"],
            registry=registry,
        )
        self.issuer_fetches = Counter(
            f"{_PREFIX}_token_issuer_fetches",
            "Key sets of token issuers asked for, by outcome: done, or why there was none.",
            ["outcome"],
            registry=registry,
        )
        self.issuers_without_keys = Gauge(
            f"{_PREFIX}_token_issuers_without_keys",
            "Key sets wanted that never came: tokens of these issuers are refused.",
            registry=registry,
        )
        self.issuer_keys_age_seconds = Gauge(
            f"{_PREFIX}_token_issuer_keys_age_seconds",
            "Since the issuer that is silent for longest gave its keys, as of the last look.",
            registry=registry,
        )
        for outcome in ("applied", "refused"):
            self.changes.labels(outcome)
        for outcome in ("accepted", "refused"):
            self.acknowledgements.labels(outcome)
        for outcome in ("done", "failed"):
            self.server_svid_rotations.labels(outcome)
        self.show_standings({})

    def show_documents(self, counts: Mapping[str, int]) -> None:
        """How many documents of a platform stand how."""
        for standing, count in counts.items():
            self.documents.labels(standing).set(count)

    def show_standings(self, counts: dict[Standing, int]) -> None:
        """Set the sidecar gauges, those of absent standings to 0."""
        for standing in Standing:
            self.sidecars.labels(standing.value).set(counts.get(standing, 0))

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
