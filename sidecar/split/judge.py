"""The port through which the splitter asks what it may do with a call. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ringfence.routing.model import RetryOn
from sidecar.http2.answer import Answer
from sidecar.http2.exchange import Exchange, Judge


class Unprocessed(StrEnum):
    """How it is known that an endpoint has not begun with a request; closed set."""

    GOAWAY = "goaway"
    REFUSED_STREAM = "refused_stream"


class SplitJudge(Judge, Protocol):
    """What the adapter is asked and told, beside what any judge is."""

    def unreachable(self, exchange: Exchange, cause: object) -> Answer:
        """No endpoint can be had for ``exchange``, or the one that had it is gone: what to tell the client. ``cause``
        is what the adapter said of the leg that failed last; None if none did."""

    def sends_again(self, exchange: Exchange, why: Unprocessed, attempts: int) -> bool:
        """Whether ``exchange``, which is still held whole, may go to another endpoint; it did ``attempts`` times."""

    def repeats(self, exchange: Exchange, after: Sequence[RetryOn], attempts: int) -> bool:
        """The same where its endpoint may have begun with it; ``after``: all that what happened can be called."""
