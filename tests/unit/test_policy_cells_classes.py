"""The values at which each dimension is tried: one for each class that rules can tell apart, and as real ones look."""

from __future__ import annotations

import itertools

import pytest

from ringfence.policy.analysis.cells.callers import Identity, NamedIndex, addresses, identities, in_any
from ringfence.policy.analysis.cells.requests import header_lines, host_classes, host_matches, other_method, value_sets
from ringfence.policy.analysis.cells.segments import (
    PatternIndex,
    SegmentPattern,
    SegmentRules,
    TooManyClassesError,
    segment_classes,
)
from ringfence.policy.analysis.cells.tokens import TokenParts, TokenState, parts_of
from ringfence.policy.facts import VerifiedToken
from ringfence.policy.model import (
    AuthenticatedCallers,
    Named,
    NamespaceCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

OWN = TrustDomain("own.example")
RULES = SegmentRules(fresh=lambda taken: next(word for word in "xyz" if word not in taken), may_end_empty=True)


def pattern(text: str) -> SegmentPattern:
    words = text[1:].split("/")
    rest = words[-1] == "**"
    return SegmentPattern(tuple(None if word == "*" else word for word in (words[:-1] if rest else words)), rest)


PATTERNS = [pattern(text) for text in ("/", "/a", "/a/", "/*", "/a/*", "/*/b", "/a/**", "/**", "/a/b/**", "/*/*/c")]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_set_of_patterns_that_some_word_matches_has_a_word(size: int) -> None:
    """Against every word of four letters and the empty last segment, which is complete for these patterns."""
    words = [
        (*word, *end)
        for length in range(5)
        for word in itertools.product("abcx", repeat=length)
        for end in ((), ("",))
        if word or end
    ]
    index = PatternIndex(PATTERNS)
    for chosen in itertools.combinations(range(len(PATTERNS)), size):
        patterns = [PATTERNS[at] for at in chosen]
        found = segment_classes(patterns, RULES)
        matched = {frozenset(at for at, one in enumerate(patterns) if one.takes(word)) for word in words}
        assert found.keys() == matched
        for took, word in found.items():
            assert took == {at for at, one in enumerate(patterns) if one.takes(word)}
            assert {at for at in index.matching(word) if at in chosen} == {chosen[at] for at in took}


def test_patterns_that_overlap_in_too_many_ways_are_refused_rather_than_tried() -> None:
    """Each of forty segments may be a literal or not, so that any subset of the patterns is what some word matches."""
    many = [SegmentPattern(tuple("a" if place == at else None for place in range(30))) for at in range(30)]
    with pytest.raises(TooManyClassesError, match="30 patterns overlap in more than 100000 ways"):
        segment_classes(many, RULES)


def test_callers_are_services_first_and_then_whoever_else_rules_can_tell_apart() -> None:
    web = Identity(SpiffeId.workload(OWN, "shop", "web"), "shop/web")
    named: list[Named] = [
        SpiffeIdPattern(trust_domain=OWN, segments=("ns", "shop", "sa", "web")),
        SpiffeIdPattern(trust_domain=OWN, segments=("ns", "*", "sa", "*", "extra")),
        NamespaceCallers(namespace="edge"),
        TrustDomainCallers(trust_domain=TrustDomain("partner.example")),
        AuthenticatedCallers(),
        UnauthenticatedCallers(),
    ]
    found = identities([(one, OWN) for one in named], [web], [OWN])

    assert found[0] == web
    assert [str(one.spiffe_id) for one in found[1:]] == [
        "spiffe://own.example/ns/edge/sa/other",
        "spiffe://own.example/ns/shop/sa/other",
        "spiffe://own.example/ns/other/sa/other",
        "spiffe://partner.example/ns/other/sa/other",
        "spiffe://other.example/ns/other/sa/other",
        "None",
        "spiffe://own.example/ns/edge/sa/other/extra",
    ]
    index = NamedIndex([(one, OWN) for one in named])
    assert index.matching(web.spiffe_id) == [0, 4]
    assert index.matching(None) == [5]
    assert index.matching(SpiffeId(OWN, "")) == []


def test_addresses_are_one_of_each_region_that_networks_make() -> None:
    found = addresses(["10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/17", "10.1.128.0/17", "2001:db8::/32"])

    # 10.1.0.0/16 is nothing but its halves.
    assert found == [
        ("198.51.100.1", False),
        ("10.0.0.1", True),
        ("10.1.0.1", True),
        ("10.1.128.1", True),
        ("2001:db9::", False),
        ("2001:db8::1", True),
    ]
    assert in_any("10.1.0.1", ["10.0.0.0/8"])
    assert not in_any("", ["0.0.0.0/0"])
    assert [address for address, inside in addresses(["0.0.0.0/0", "::/0"]) if not inside] == []


def test_hosts_are_named_ones_one_below_each_wildcard_and_another() -> None:
    found = host_classes(["x.test", "*.x.test", "*.test", "host.x.test"])

    assert found == ["other.example", "host.x.test", "x.test", "host.test", "host1.x.test"]
    assert not host_matches("*.x.test", "x.test")
    assert not host_matches("*.x.test", "evilx.test")


def test_a_header_is_absent_or_once_or_twice() -> None:
    assert header_lines(["1", "2"], [("1",)]) == [(), ("other",), ("1",), ("2",), ("other", "other"), ("1", "other")]
    assert header_lines(["other", "another"], [])[1] == ("xxxxxxxx",)
    assert value_sets([("a", "b"), ("b", "c")]) == [(), ("a",), ("b",), ("c",)]


def test_another_method_is_one_that_servers_know_while_there_is_one() -> None:
    assert other_method(["POST"]) == "GET"
    assert other_method(["GET", "HEAD"]) == "POST"


def test_a_token_says_what_was_chosen_even_where_a_claim_stands_in_the_way_of_another() -> None:
    parts = TokenParts(
        state=TokenState.VERIFIED,
        issuer="n/users",
        scopes=["read", "write"],
        claims={"realm": ("a",), "realm.role": ("x", "y"), "team.name": ("red",)},
        age_seconds=10,
    )
    token = parts.token(1000.0)

    assert isinstance(token, VerifiedToken)
    assert token.claims == {
        "realm": "a",
        "realm.role": ["x", "y"],
        "team": {"name": "red"},
        "scope": "read write",
        "auth_time": 990,
    }
    read = parts_of(token, 1000.0)
    assert (read.scopes, read.claims["realm.role"], read.claims["team.name"]) == (
        ["read", "write"],
        ("x", "y"),
        ("red",),
    )
    assert read.age_seconds == 10
