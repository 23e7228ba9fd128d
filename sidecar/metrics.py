"""Every metric of the sidecar, declared here and nowhere else; names follow the Prometheus conventions.

The data path holds plain slotted counters that it was bound to once, and the collector turns them into families when
somebody scrapes (``sidecar.exposition`` writes them): a counter that takes a lock at each step, as prometheus-client's
does, costs more than the decision it counts.
Label values come from closed sets, or from tables of at most ``SERIES_LIMIT`` entries; what comes after counts as
``other``, so no peer can grow the sidecar's memory by what it calls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.exposition import Across, Family, Kind

SERIES_LIMIT: Final = 2000
OVERFLOW: Final = "other"
BUCKETS_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Count:
    """A number; counters only ever grow it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """Observations in seconds, by ``BUCKETS_SECONDS``."""

    __slots__ = ("buckets", "sum_seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_SECONDS) + 1)
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds


class Counts:
    """A counter family: one Count a set of label values, bounded."""

    __slots__ = ("help", "labels", "name", "table")

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name = name
        self.help = help_text
        self.labels = labels
        self.table: dict[tuple[str, ...], Count] = {}

    def at(self, *values: str) -> Count:
        """The Count of these label values, to be held on to."""
        found = self.table.get(values)
        if found is None:
            if len(self.table) >= SERIES_LIMIT:
                values = (OVERFLOW,) * len(self.labels)
            found = self.table.setdefault(values, Count())
        return found

    def collect(self) -> Family:
        family = Family(name=self.name, help=self.help, kind=Kind.COUNTER, labels=self.labels)
        for values, count in self.table.items():
            family.add(values, count.value)
        return family


class Histograms:
    """A histogram family: one Histogram a set of label values, bounded."""

    __slots__ = ("help", "labels", "name", "table")

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name = name
        self.help = help_text
        self.labels = labels
        self.table: dict[tuple[str, ...], Histogram] = {}

    def at(self, *values: str) -> Histogram:
        """The Histogram of these label values, to be held on to."""
        found = self.table.get(values)
        if found is None:
            if len(self.table) >= SERIES_LIMIT:
                values = (OVERFLOW,) * len(self.labels)
            found = self.table.setdefault(values, Histogram())
        return found

    def collect(self) -> Family:
        family = Family(name=self.name, help=self.help, kind=Kind.HISTOGRAM, labels=self.labels)
        for values, histogram in self.table.items():
            family.add_histogram(values, BUCKETS_SECONDS, histogram.buckets, histogram.sum_seconds)
        return family


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A family as it is documented; ``name`` as it is scraped."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


class SidecarMetrics:
    """All families; gauges and totals are read when scraped (``sidecar.gauges`` declares them)."""

    def __init__(self) -> None:
        self._families: list[Counts | Histograms] = []
        self.requests = self._counts(
            "ringfence_requests",
            "HTTP requests judged, by verdict and response code",
            "direction",
            "peer",
            "service",
            "policy",
            "rule",
            "reason",
            "code",
        )
        self.durations = self._histograms(
            "ringfence_request_duration_seconds",
            "From the request's head to the end of its response",
            "direction",
            "peer",
            "service",
        )
        self.resets = self._counts(
            "ringfence_request_resets",
            "HTTP requests that ended before both their messages were whole",
            "direction",
            "peer",
            "service",
        )
        self.denials = self._counts(
            "ringfence_denials", "Calls refused by this sidecar", "direction", "peer", "service", "reason"
        )
        self.would_deny = self._counts(
            "ringfence_would_deny",
            "Calls that passed only because the service is observed, by the reason for which default deny refuses them",
            "peer",
            "service",
            "port",
            "reason",
        )
        self.shadow_verdicts = self._counts(
            "ringfence_shadow_verdicts",
            "Calls judged by the shadow policy beside the one in force, by what enforcing it would change; reason: of "
            "the one that denies",
            "verdict",
            "peer",
            "service",
            "reason",
        )
        self.tokens = self._counts(
            "ringfence_tokens", "Tokens that a rule read, by what became of them: verified, refused", "outcome"
        )
        self.introspections = self._counts(
            "ringfence_token_introspections",
            "Token issuers asked about an opaque token, by outcome: active, inactive, failed, crowded",
            "outcome",
        )
        self.conditions_failed = self._counts(
            "ringfence_conditions_failed",
            "Conditions that could not be evaluated on a call, which so permit nothing and refuse what they would",
            "rule",
        )
        self.violations = self._counts(
            "ringfence_http_violations",
            "HTTP messages and connections refused for their form, by the rule or the limit that they broke",
            "direction",
            "protocol",
            "by",
            "reason",
        )
        self.connections = self._counts(
            "ringfence_connections",
            "App connections that ended, by why",
            "direction",
            "peer",
            "service",
            "protocol",
            "reason",
        )
        self.detected = self._counts(
            "ringfence_protocols_detected",
            "App connections to ports of protocol auto, by what they turned out to speak",
            "direction",
            "service",
            "protocol",
        )
        self.bytes = self._counts(
            "ringfence_bytes", "App bytes relayed, counted when a connection ends", "direction", "peer", "service", "to"
        )
        self.handshakes = self._histograms(
            "ringfence_handshake_duration_seconds",
            "From a mesh connection to its verified peer; its count is that of handshakes that succeeded",
            "direction",
        )
        self.handshake_failures = self._counts(
            "ringfence_handshake_failures", "Mesh handshakes refused", "direction", "reason"
        )
        self.plaintext = self._counts(
            "ringfence_plaintext_callers",
            "Plaintext connections let in by permissive ports",
            "service",
            "port",
            "caller",
        )
        self.reproofs = self._counts("ringfence_reproofs", "Renewed identities proved on living connections", "outcome")
        self.tunnels = self._counts("ringfence_tunnels", "Mesh connections established", "direction")
        self.tunnel_errors = self._counts(
            "ringfence_tunnel_errors",
            "Mesh connections cut off for what their peer did or failed to do, by HTTP/2 error, or by limit (…_flood)",
            "direction",
            "reason",
        )
        self.retries = self._counts(
            "ringfence_retries", "Calls tried again, by what the try before it came to", "service", "after"
        )
        self.retries_withheld = self._counts(
            "ringfence_retries_withheld", "Calls not tried again because the budget of retries was spent", "service"
        )
        self.ejections = self._counts("ringfence_ejections", "Endpoints left out after failures in a row", "service")
        self.panics = self._counts(
            "ringfence_panics", "Times that so few endpoints were healthy that all were used", "service"
        )
        self.circuit_open = self._counts(
            "ringfence_circuit_open",
            "Calls refused because as much was under way as the route permits",
            "service",
            "limit",
        )
        self.timeouts = self._counts(
            "ringfence_timeouts", "Waits for an upstream that ended at their deadline", "service", "kind"
        )
        self.limited = self._counts(
            "ringfence_limited",
            "Requests and connections that a limit refused, and pauses in reading that it made",
            "service",
            "limit",
            "per",
        )
        self.revisions = self._histograms(
            "ringfence_revision_duration_seconds",
            "From a revision's arrival to the last close of what it newly denies; ended: whether there was any",
            "ended",
        )
        self.spans = self._counts("ringfence_spans", "Spans of sampled requests, by what became of them", "outcome")
        self._read: list[tuple[Kind, str, str, Callable[[], float], Across]] = []

    def _counts(self, name: str, help_text: str, *labels: str) -> Counts:
        family = Counts(name, help_text, *labels)
        self._families.append(family)
        return family

    def _histograms(self, name: str, help_text: str, *labels: str) -> Histograms:
        family = Histograms(name, help_text, *labels)
        self._families.append(family)
        return family

    def gauge(self, name: str, help_text: str, read: Callable[[], float], *, across: Across = Across.SUM) -> None:
        """A value that is read when scraped; ``across``: what the values of several workers are together."""
        self._read.append((Kind.GAUGE, name, help_text, read, across))

    def total(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A counter kept elsewhere, read when scraped."""
        self._read.append((Kind.COUNTER, name, help_text, read, Across.SUM))

    def declared(self) -> Iterator[Declared]:
        """Every family, none of them read."""
        for family in self._families:
            counter = isinstance(family, Counts)
            yield Declared(
                name=f"{family.name}_total" if counter else family.name,
                kind=Kind.COUNTER if counter else Kind.HISTOGRAM,
                labels=family.labels,
                help=family.help,
            )
        for kind, name, help_text, _, _ in self._read:
            yield Declared(name=f"{name}_total" if kind is Kind.COUNTER else name, kind=kind, labels=(), help=help_text)

    def collect(self) -> Iterator[Family]:
        for family in self._families:
            yield family.collect()
        for kind, name, help_text, read, across in self._read:
            single = Family(name=name, help=help_text, kind=kind, across=across)
            single.add((), read())
            yield single
