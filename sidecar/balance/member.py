"""What is known of one endpoint: how much it has in hand, how fast it answers, whether it fails. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

from ringfence.snapshot import Endpoint
from ringfence.spiffe import SpiffeId

# Latencies below this are equal: what differs there is the noise of one machine, not its load.
FLOOR_SECONDS: Final = 0.005
# A failure counts as a slow answer, or an endpoint that fails at once would look the fastest: this slow at the least,
# and slower than what was known.
FAILURE_SECONDS: Final = 0.03
_FAILURE_FACTOR: Final = 4
_FAILURE_MOST_SECONDS: Final = 10.0
HALF_LIFE_SECONDS: Final = 3.0  # of a slow latency when nothing new is learned: then the endpoint is tried again
_RISE: Final = 0.3
_FALL: Final = 0.1

Address = tuple[str, int, str, SpiffeId]


class Outcome(Enum):
    """How a call ended, as far as it speaks for or against the endpoint."""

    ANSWERED = "answered"  # a response, or a connection that ran
    ERROR = "error"  # the app answered 500 to 599
    FAILED = "failed"  # no connection, a reset before the response, or no response in time
    UNKNOWN = "unknown"  # ended for a reason of the caller's or of policy: says nothing


class Member:
    """One endpoint. ``outstanding`` and ``connections`` count what leads there now.

    ``endpoint`` is as the newest snapshot has it; what was learned stays with its address.
    """

    __slots__ = (
        "_last_seconds",
        "_warm_at",
        "connections",
        "ejected_until",
        "ejections",
        "endpoint",
        "failed_at",
        "failures",
        "gone",
        "latency_at",
        "latency_seconds",
        "outstanding",
        "usable",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.outstanding = 0
        self.connections = 0
        self.latency_seconds = 0.0  # moving; 0: none known
        self.latency_at = 0.0
        self._last_seconds: float | None = None  # of the answer before
        self._warm_at: float | None = None  # when the first answer came
        self.failures = 0  # in a row
        self.failed_at = 0.0
        self.ejected_until = 0.0  # monotonic seconds; 0: it is not left out
        self.ejections = 0  # in a row, each longer than the one before
        self.gone = False  # no longer an endpoint of the service
        self.usable = (
            True  # a connection may stay with it: it is not gone, nor left out or unready while others are not
        )

    @property
    def load(self) -> int:
        """Calls in flight, and connections that may bring some."""
        return self.outstanding + self.connections

    def observe(self, seconds: float, now: float) -> None:
        """Learn from an answer: quickly that it has become slow, slowly that it is fast again.

        One slow answer is chance, two in a row are not: of each and the one before, the faster counts. What was under
        way when the first answer came tells how cold the endpoint was, its connection to be set up included.
        """
        warm_at, last = self._warm_at, self._last_seconds
        if warm_at is None:
            self._warm_at = now
            return
        if now - seconds < warm_at:
            return
        self._last_seconds = seconds
        if last is not None:
            self._learn(min(seconds, last), now)

    def _learn(self, seconds: float, now: float) -> None:
        known = self.latency_seconds
        if known == 0.0:
            self.latency_seconds = seconds
        else:
            self.latency_seconds = known + (seconds - known) * (_RISE if seconds > known else _FALL)
        self.latency_at = now

    def observe_failure(self, seconds: float, now: float) -> None:
        """Learn from a failure."""
        slow = max(FAILURE_SECONDS, _FAILURE_FACTOR * self.latency_seconds)
        self._learn(max(seconds, min(slow, _FAILURE_MOST_SECONDS)), now)

    def latency(self, now: float) -> float:
        """What to expect now, in seconds, at least ``FLOOR_SECONDS``."""
        known = self.latency_seconds
        if known <= FLOOR_SECONDS:
            return FLOOR_SECONDS
        faded: float = known * 0.5 ** ((now - self.latency_at) / HALF_LIFE_SECONDS)
        return faded if faded > FLOOR_SECONDS else FLOOR_SECONDS


def address_of(endpoint: Endpoint) -> Address:
    """What makes it the same endpoint in two snapshots, whatever else changed."""
    return endpoint.mesh_host, endpoint.mesh_port, endpoint.address, endpoint.spiffe_id
