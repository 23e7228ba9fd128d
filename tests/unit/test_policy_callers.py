"""SPIFFE ID patterns: whole segments or nothing."""

from __future__ import annotations

import pytest

from ringfence.policy.callers import PatternError, format_spiffe_id_pattern, parse_spiffe_id_pattern
from ringfence.policy.model import SpiffeIdPattern
from ringfence.spiffe import TrustDomain


def test_a_pattern_has_whole_segments_and_a_canonical_trust_domain() -> None:
    pattern = parse_spiffe_id_pattern("SPIFFE://Shop.Example/ns/*/sa/Web")
    assert pattern == SpiffeIdPattern(trust_domain=TrustDomain("shop.example"), segments=("ns", "*", "sa", "Web"))
    assert format_spiffe_id_pattern(pattern) == "spiffe://shop.example/ns/*/sa/Web"


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "spiffe://*", "spiffe://*/ns/a/sa/b", "spiffe://*.example/a", "spiffe://shop.example", "spiffe://shop.example/",
        "spiffe://shop.example/ns/a*", "spiffe://shop.example/ns/*a", "spiffe://shop.example/ns/**", "spiffe://shop.example/**",
        "spiffe://shop.example/ns/{x}", "spiffe://shop.example/ns//sa", "spiffe://shop.example/a/../b", "spiffe://shop.example/a/",
        "spiffe://shop.example:1/a", "spiffe://u@shop.example/a", "spiffe://shop.example/a?b", "spiffe://shop.example/a#b",
        "spiffe://shop.example/%61", "spiffe://shop.example/a\n", "spiffe://shop.example\n/a", " spiffe://shop.example/a",
        "spiffe://shop.example/w\u0435b", "spiffe://shop.ex\u0430mple/web", "spiffe://shop.example/\uff0a", "https://shop.example/a",
        "/ns/a/sa/b", "spiffe:/shop.example/a", "spiffe://shop.example/" + "a" * 2048,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse_spiffe_id_pattern(text)
    assert caught.value.message.isascii()
    assert "\n" not in str(caught.value)
