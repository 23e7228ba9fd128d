"""How much policy one service may have: far above any real one, far below what could exhaust its sidecar. Pure.

Held against documents where they are bound, and once more by the sidecar against what it is told.
"""

from __future__ import annotations

from typing import Final

LIST_LIMIT: Final = 1_000
RULE_LIMIT: Final = 20_000
CALLER_LIMIT: Final = 1_000
ISSUER_LIMIT: Final = 32
EGRESS_LIMIT: Final = 1_000
PORT_LIMIT: Final = 256  # of a service, and so of a rule
TOKEN_WORD_LIMIT: Final = 100  # scopes, claims, values of a claim, audiences and their like
OBSERVE_LIMIT_SECONDS: Final = 90 * 86_400.0
