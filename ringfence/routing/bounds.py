"""What a number of a route may be: for documents and, again, for what arrives over the wire. Pure values.

Durations in seconds, lowest and highest. The lowest are what a timer can mean; the highest keep a slip of the keyboard
(``5d`` for ``5s``) from passing for a setting.
"""

from __future__ import annotations

from typing import Final

CONNECT_SECONDS: Final = (0.01, 60.0)
RESPONSE_SECONDS: Final = (0.01, 86_400.0)
REQUEST_SECONDS: Final = (0.01, 86_400.0)
IDLE_SECONDS: Final = (1.0, 604_800.0)
AGE_SECONDS: Final = (1.0, 2_592_000.0)
INTERVAL_SECONDS: Final = (0.1, 3_600.0)
EJECTION_SECONDS: Final = (0.1, 3_600.0)

ATTEMPTS: Final = (0, 10)
CONSECUTIVE: Final = (1, 10_000)
OPEN: Final = (1, 1_000_000)  # connections, requests or waiters at once
BURST: Final = (1, 1_000_000_000)
BURST_SECONDS: Final = (
    10 * 8_760 * 3_600
)  # in which a burst is earned again: nanoseconds in 64 bits end after 584 years
RATE_AMOUNT: Final = (1, 2**50)
RATE_SECONDS: Final = (1, 60, 3_600)

MATCH_LIMIT: Final = 100
LIMIT_LIMIT: Final = 100  # rate limits of one port
PATH_LIMIT: Final = 1_000  # of all matches of a route, and of all limits of a port: a request may be held against each
