"""How freely policy is learned from flows. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnSettings:
    """The defaults learn nothing that only a probing caller has shown."""

    min_count: int = 1
    """Kinds of calls that were seen less often are left out, and told."""
    merge_above: int = 20
    """More words than this at one place of a path, below which all paths are alike, become a parameter."""
    allow_rest: bool = False
    """Whether a path whose tail was not kept becomes a template that ends in ``**``."""
    include_denied: bool = False
    """Whether what was refused is proposed, too, in rules apart."""
    include_unauthenticated: bool = False
    """Whether callers without an identity that only observing let through are proposed."""
