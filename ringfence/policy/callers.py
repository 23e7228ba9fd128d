"""SPIFFE ID patterns: an ID in which whole path segments may be ``*``. Pure.

Matching is by whole segments only, never by prefix or suffix: ``spiffe://shop.example/ns/shop/sa/web*`` would also
name ``web-of-somebody-else``, so it is refused.
"""

from __future__ import annotations

from ringfence.policy.model import SpiffeIdPattern
from ringfence.policy.problems import shown
from ringfence.spiffe import SpiffeId, SpiffeIdError


class PatternError(ValueError):
    """A SPIFFE ID pattern that cannot be enforced; ``mend`` says what to write instead."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message} ({mend})" if mend else message)
        self.message = message
        self.mend = mend


def parse_spiffe_id_pattern(text: str) -> SpiffeIdPattern:
    """Read ``spiffe://<trust domain>/<segments>``, each segment text or ``*`` (one segment); raises PatternError."""
    head, separator, rest = text.partition("://")
    trust_domain, slash, path = rest.partition("/")
    if separator and "*" in trust_domain:
        raise PatternError(f"wildcard in the trust domain of {shown(text)}", "name each trust domain")
    words = path.split("/")
    for word in words:
        if "*" in word and word != "*":
            raise PatternError(
                f"wildcard inside a segment of {shown(text)}",
                "'*' stands for one whole segment; list the others by name",
            )
    try:
        # A wildcard stands where a segment may stand, so what is left must be an ID with a letter in its place.
        parsed = SpiffeId.parse(
            head + separator + trust_domain + slash + "/".join(w if w != "*" else "a" for w in words)
        )
    except SpiffeIdError as error:
        raise PatternError(str(error), "write it like spiffe://shop.example/ns/shop/sa/web") from error
    if not parsed.path:
        raise PatternError(f"{shown(text)} names a trust domain, not a workload", "use trustDomain instead of spiffeId")
    return SpiffeIdPattern(trust_domain=parsed.trust_domain, segments=tuple(words))


def format_spiffe_id_pattern(pattern: SpiffeIdPattern) -> str:
    """The text that ``parse_spiffe_id_pattern`` reads back as ``pattern``."""
    return f"spiffe://{pattern.trust_domain}/" + "/".join(pattern.segments)
