"""What the webhooks count, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class AdmissionMetrics:
    """``hook``: the path without its slash; ``outcome``: allowed, patched, denied, malformed or failed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reviews = Counter(
            "ringfence_admission_reviews",
            "Questions of the API server, by what was answered",
            ["hook", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "ringfence_admission_duration_seconds",
            "From a question's head to its answer",
            ["hook"],
            buckets=_BOUNDS,
            registry=registry,
        )

    def observe(self, hook: str, outcome: str, seconds: float) -> None:
        """One question was answered."""
        self._reviews.labels(hook, outcome).inc()
        self._seconds.labels(hook).observe(seconds)
