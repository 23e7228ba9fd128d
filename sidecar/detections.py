"""What was found out of connections whose protocol nobody declared: counted, and a hint for the next. Adapter."""

from __future__ import annotations

from collections.abc import Hashable

from ringfence.policy.decide import Decision
from sidecar.first_bytes import Spoken
from sidecar.hints import Hints
from sidecar.recording import Recorder
from sidecar.relay import RelayFacts


class Detections:
    """Of one direction; ``key``: what the port, or the service and port, go by."""

    __slots__ = ("_hints", "_recorder")

    def __init__(self, recorder: Recorder) -> None:
        self._hints = Hints()
        self._recorder = recorder

    def hint(self, key: Hashable) -> Spoken | None:
        """What was spoken last."""
        return self._hints.get(key)

    def told(self, key: Hashable, facts: RelayFacts, spoken: Spoken) -> None:
        self._hints.put(key, spoken)
        if spoken is not Spoken.HTTP2:  # whether that carries gRPC its first request will tell
            self._recorder.detected(facts)

    def judged_unread(self, facts: RelayFacts, decision: Decision, shadow: Decision | None) -> None:
        """It is opaque, and lives by this verdict."""
        self._recorder.connection_judged(facts, decision, shadow)
