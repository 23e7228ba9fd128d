"""One kind of observed call: who called what, how it was judged, how often, from when to when. Pure.

Sidecars make flows of what they judge (``sidecar.flows``), the control plane keeps them, ``learn`` and ``diff`` read
them. A flow never holds a query, a header or a token, and of a path only its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringfence.policy.learning.shapes import MERGED, PARAMETER, REST
from ringfence.spiffe import SpiffeId

OTHER_METHOD: Final = "{other}"


class Verdict(StrEnum):
    """How calls were judged."""

    PERMIT = "permit"  # by a rule
    WOULD_DENY = "would_deny"  # passed only because the service is observed
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Calls that were alike. ``caller`` is None for callers without an identity; ``service`` is a full name.

    ``address``: where a caller without an identity called from, of calls that passed; empty for any other, and where
    there were too many of them.
    ``protocol``: ``http``, ``http2``, ``grpc``, or ``tcp`` for connections judged unread, which have no method and no
    path. ``method``: ``{other}`` stands for any that is not well known. ``path``: as judged, in which ``{id}`` stands
    for a segment that looks made, ``{word}`` for one that took very many words, and ``{rest}`` at the end for a tail
    that was not kept; empty where the path was ambiguous, ``*`` for the asterisk form. ``rule``: the full name of the
    rule that permitted, or of the one that came nearest; may be empty. ``reason``: a DenyReason's word, empty for
    ``permit``. ``shadow``: the verdict of the shadow policy, ``permit`` or a DenyReason's word; empty where there was
    none. ``missed``: how many of ``count`` the app answered with a status that says there is no such thing (404, 405,
    501, gRPC's UNIMPLEMENTED). Times are Unix seconds; ``last_seen`` may be ten seconds late.
    """

    caller: SpiffeId | None
    service: str
    port: int
    protocol: str
    verdict: Verdict
    count: int
    first_seen: float
    last_seen: float
    method: str = ""
    path: str = ""
    rule: str = ""
    reason: str = ""
    shadow: str = ""
    missed: int = 0
    address: str = ""

    @property
    def is_opaque(self) -> bool:
        """Whether connections were judged, rather than requests."""
        return self.protocol == "tcp"

    @property
    def grpc_method(self) -> tuple[str, str] | None:
        """(``package.Service``, ``Method``) of a gRPC call; None for anything else."""
        if self.protocol != "grpc":
            return None
        service, slash, method = self.path[1:].partition("/")
        return (service, method) if slash and service and method and "/" not in method else None

    def example_target(self) -> str:
        """A target that such a call may have had: a word in the place of each segment that is not known."""
        return "/".join("0" if word in (PARAMETER, MERGED, REST) else word for word in self.path.split("/"))


def caller_words(caller: SpiffeId | None, address: str = "") -> str:
    """A caller as people read it."""
    if caller is not None:
        return str(caller)
    return f"unauthenticated at {address}" if address else "unauthenticated"
