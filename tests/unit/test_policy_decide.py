"""Decisions: precedence of reasons, what strangers learn, what is shared, remembered and bounded, and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest

from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import LIMITS, CallerView, DecisionTable, Deny, DenyReason, KnownCaller, Limits, Permit
from ringfence.policy.model import (
    Allowlist,
    Callers,
    NamespaceCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain("shop.example")
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
STRANGER = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/mallory")


def exactly(spiffe_id: SpiffeId) -> SpiffeIdPattern:
    return SpiffeIdPattern(trust_domain=spiffe_id.trust_domain, segments=spiffe_id.segments)


def rule(name: str, *callers: Callers, **parts: Any) -> Rule:
    return Rule(name=name, callers=callers or (exactly(WEB),), **parts)


def table(*rules: Rule, http_ports: Sequence[int] = (8080, 8081), limits: Limits = LIMITS) -> DecisionTable:
    allowlist = Allowlist(namespace="shop", name="callers", rules=rules)
    return compile_policy(PolicySet(allowlists=(allowlist,)), trust_domain=SHOP, http_ports=http_ports, limits=limits)


def remembered_paths(view: CallerView) -> int:
    assert isinstance(view, KnownCaller)
    return sum(len(paths) for methods in view._remembered.values() for paths in methods.values())


def reason(decision: Permit | Deny) -> str:
    return "permit" if isinstance(decision, Permit) else decision.reason.value


READS = rule("reads", ports=(8080,), methods=("GET",), paths=("/orders", "/orders/{id}"))


@pytest.mark.parametrize(
    ("port", "method", "target", "expected"),
    [
        (8080, b"GET", b"/orders", "permit"),
        (8080, b"GET", b"/orders/7?full=1", "permit"),
        (8080, b"GET", b"/%6frders/7", "permit"),
        (8080, b"POST", b"/orders", "method_not_allowed"),
        (8080, b"get", b"/orders", "method_not_allowed"),
        (8080, b"HEAD", b"/orders", "method_not_allowed"),
        (8080, b"GET", b"/orders/", "path_not_allowed"),
        (8080, b"GET", b"/orders/7/lines", "path_not_allowed"),
        (8080, b"GET", b"/Orders", "path_not_allowed"),
        (8080, b"POST", b"/admin", "path_not_allowed"),
        (8080, b"OPTIONS", b"*", "path_not_allowed"),
        (8081, b"POST", b"/admin", "port_not_allowed"),
        (8081, b"POST", b"/../admin", "path_ambiguous"),
        (8080, b"GET", b"/orders/../orders", "path_ambiguous"),
        (8080, b"GET", b"//orders", "path_ambiguous"),
        (8080, b"GET", b"*", "path_ambiguous"),
        (8080, b"OPTIONS", b"*?x", "path_ambiguous"),
        (8080, b"GET", b"http://orders/orders", "path_ambiguous"),
    ],
)
def test_the_first_reason_that_holds_is_told(port: int, method: bytes, target: bytes, expected: str) -> None:
    view = table(READS).caller(WEB)
    assert reason(view.request(port, method, target)) == expected
    assert reason(view.request(port, method, target)) == expected


@pytest.mark.parametrize("target", [b"/orders", b"/admin", b"/orders/7"])
@pytest.mark.parametrize("port", [8080, 8081, 1])
def test_a_stranger_hears_the_same_of_all(port: int, target: bytes) -> None:
    stranger = table(READS).caller(STRANGER)
    assert reason(stranger.request(port, b"GET", target)) == "caller_not_allowed"
    assert reason(stranger.connection(port)) == "caller_not_allowed"
    assert reason(stranger.request(port, b"GET", target + b"/..")) == "path_ambiguous"


def test_who_has_no_identity_is_unauthenticated_whatever_it_asks() -> None:
    everybody = table(rule("all", TrustDomainCallers(trust_domain=SHOP)))
    nobody = everybody.caller(None)
    assert {reason(nobody.request(8080, b"GET", target)) for target in (b"/", b"//", b"*")} == {"unauthenticated"}
    assert reason(nobody.connection(5432)) == "unauthenticated"
    assert everybody.caller(SpiffeId(SHOP, "")) is nobody


UNAUTHENTICATED = UnauthenticatedCallers()


def test_who_has_no_identity_meets_the_rules_that_say_so_and_no_others() -> None:
    policy = table(
        rule("anybody", TrustDomainCallers(trust_domain=SHOP), NamespaceCallers(namespace="shop")),
        rule("open", UNAUTHENTICATED, ports=(8080,), methods=("GET",), paths=("/health",)),
        rule("raw", UNAUTHENTICATED, ports=(5432,)),
    )
    nobody = policy.caller(None)
    assert nobody.request(8080, b"GET", b"/health?full=1") == Permit("shop/callers", "open")
    assert reason(nobody.request(8080, b"POST", b"/health")) == "method_not_allowed"
    assert reason(nobody.request(8080, b"GET", b"/orders")) == "path_not_allowed"
    assert reason(nobody.request(8080, b"GET", b"/health/..")) == "path_ambiguous"
    assert reason(nobody.request(8081, b"GET", b"/health")) == "port_not_allowed"
    assert nobody.connection(5432) == Permit("shop/callers", "raw")
    assert reason(nobody.connection(8080)) == "not_http"
    assert reason(nobody.connection(9000)) == "port_not_allowed"


def test_an_identity_never_meets_the_rules_for_those_without() -> None:
    policy = table(rule("open", UNAUTHENTICATED), rule("web", ports=(8081,)))
    assert reason(policy.caller(WEB).request(8080, b"GET", b"/")) == "port_not_allowed"
    assert reason(policy.caller(STRANGER).request(8080, b"GET", b"/")) == "caller_not_allowed"
    assert reason(policy.caller(STRANGER).connection(5432)) == "caller_not_allowed"
    only = table(rule("open", UNAUTHENTICATED)).caller(WEB).request(8080, b"GET", b"/")
    assert only == Deny(DenyReason.CALLER_NOT_ALLOWED), "and hears of no such rule"


def test_an_id_that_names_no_workload_is_not_a_caller_without_identity() -> None:
    policy = table(rule("open", UNAUTHENTICATED))
    assert policy.caller(None).request(8080, b"GET", b"/").permitted
    assert reason(policy.caller(SpiffeId(SHOP, "")).request(8080, b"GET", b"/")) == "unauthenticated"
    assert reason(policy.caller(SpiffeId(SHOP, "")).connection(5432)) == "unauthenticated"


def test_one_rule_may_name_both_kinds_of_callers() -> None:
    policy = table(rule("both", UNAUTHENTICATED, exactly(WEB), UNAUTHENTICATED))
    for caller in (None, WEB):
        assert policy.caller(caller).request(8080, b"GET", b"/") == Permit("shop/callers", "both")
    assert not policy.caller(STRANGER).request(8080, b"GET", b"/").permitted


def test_callers_without_identity_fill_no_memory_but_their_own() -> None:
    policy = table(rule("known"), rule("open", UNAUTHENTICATED), limits=Limits(unauthenticated_bytes=10_000))
    view = policy.caller(WEB)
    assert view.request(80, b"GET", b"/kept").permitted
    used = policy._memory.used_bytes
    assert used
    for number in range(1_000):
        assert policy.caller(None).request(80, b"GET", b"/%d" % number) == Permit("shop/callers", "open")
        assert policy._unauthenticated_memory.used_bytes <= 10_000
    assert policy._memory.used_bytes == used
    assert remembered_paths(view) == 1


def test_no_rules_is_nobody() -> None:
    empty = table()
    assert empty.caller(WEB).request(8080, b"GET", b"/") == Deny(DenyReason.CALLER_NOT_ALLOWED)
    assert empty.caller(WEB).connection(8080) == Deny(DenyReason.CALLER_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("callers", "named", "not_named"),
    [
        (
            exactly(WEB),
            ["shop.example/ns/shop/sa/web"],
            ["shop.example/ns/shop/sa/web2", "other.example/ns/shop/sa/web"],
        ),
        (
            SpiffeIdPattern(trust_domain=SHOP, segments=("ns", "*", "sa", "web")),
            ["shop.example/ns/shop/sa/web", "shop.example/ns/x/sa/web"],
            ["shop.example/ns/shop/sa/web/x", "shop.example/ns/shop/web", "x.example/ns/shop/sa/web"],
        ),
        (
            NamespaceCallers(namespace="shop"),
            ["shop.example/ns/shop/sa/web", "shop.example/ns/shop/sa/x"],
            [
                "shop.example/ns/shop2/sa/web",
                "shop.example/ns/shop/sa/web/x",
                "shop.example/ns/shop/xx/web",
                "x.example/ns/shop/sa/web",
            ],
        ),
        (
            TrustDomainCallers(trust_domain=TrustDomain("x.example")),
            ["x.example/ns/shop/sa/web", "x.example/anything"],
            ["shop.example/ns/shop/sa/web", "xx.example/a", "sub.x.example/a"],
        ),
    ],
)  # fmt: skip
def test_who_is_named(callers: Callers, named: list[str], not_named: list[str]) -> None:
    policy = table(rule("r", callers))
    for text in named:
        assert policy.caller(SpiffeId.parse("spiffe://" + text)).request(8080, b"GET", b"/").permitted, text
    for text in not_named:
        assert (
            reason(policy.caller(SpiffeId.parse("spiffe://" + text)).request(8080, b"GET", b"/"))
            == "caller_not_allowed"
        )


def test_opaque_tcp_is_permitted_only_without_http_words_and_off_http_ports() -> None:
    view = table(
        rule("db", ports=(5432,)),
        rule("words", ports=(6000,), methods=("GET",)),
        rule("paths", ports=(6001,), paths=("/**",)),
        rule("web", ports=(8080,)),
    ).caller(WEB)
    assert view.connection(5432) == Permit("shop/callers", "db")
    assert reason(view.connection(6000)) == "not_http"
    assert reason(view.connection(6001)) == "not_http"
    assert reason(view.connection(8080)) == "not_http"
    assert reason(view.connection(7000)) == "port_not_allowed"


def test_a_rule_without_ports_is_for_all_ports() -> None:
    view = table(rule("all"), rule("more", ports=(8081,), paths=("/x",))).caller(WEB)
    assert view.request(8080, b"GET", b"/y") == Permit("shop/callers", "all")
    assert view.request(8081, b"GET", b"/x") == Permit("shop/callers", "more")
    assert view.request(8081, b"GET", b"/y") == Permit("shop/callers", "all")
    assert view.connection(9) == Permit("shop/callers", "all")
    assert view.request(8082, b"GET", b"/x") == Permit("shop/callers", "all")


def test_ports_that_no_rule_names_share_what_rules_for_all_ports_say() -> None:
    view = table(rule("named", ports=(8081,))).caller(WEB)
    assert reason(view.connection(9)) == "port_not_allowed"
    assert reason(view.request(8080, b"GET", b"/")) == "port_not_allowed"
    assert view.request(8081, b"GET", b"/").permitted


def test_of_rules_at_one_place_the_first_name_permits() -> None:
    view = table(
        rule("a", paths=("/x",)),
        rule("b", paths=("/x",), methods=("GET",)),
        rule("c", ports=(5432,)),
        rule("d", ports=(5432,)),
    ).caller(WEB)
    assert view.request(8080, b"GET", b"/x") == Permit("shop/callers", "a")
    assert view.connection(5432) == Permit("shop/callers", "c")


def test_the_asterisk_form_needs_a_rule_with_open_paths() -> None:
    view = table(rule("paths", ports=(8080,), paths=("/**",)), rule("open", ports=(8081,))).caller(WEB)
    assert reason(view.request(8080, b"OPTIONS", b"*")) == "path_not_allowed"
    assert view.request(8081, b"OPTIONS", b"*").permitted


def test_the_most_specific_path_names_the_rule_and_then_the_first_name() -> None:
    view = table(
        rule("a-rest", paths=("/**",)),
        rule("b-one", paths=("/orders/*",)),
        rule("z-literal", paths=("/orders/new",)),
        rule("y-literal", paths=("/orders/new",), methods=("POST",)),
        rule("all"),
    ).caller(WEB)
    names = {
        (method, target): getattr(view.request(8080, method, target), "rule", None)
        for method in (b"GET", b"POST")
        for target in (b"/orders/new", b"/orders/7", b"/x", b"/orders/")
    }
    assert names == {
        (b"GET", b"/orders/new"): "z-literal",
        (b"POST", b"/orders/new"): "y-literal",
        (b"GET", b"/orders/7"): "b-one",
        (b"POST", b"/orders/7"): "b-one",
        (b"GET", b"/x"): "a-rest",
        (b"POST", b"/x"): "a-rest",
        (b"GET", b"/orders/"): "a-rest",
        (b"POST", b"/orders/"): "a-rest",
    }


def test_a_less_specific_path_permits_where_the_more_specific_has_another_method() -> None:
    view = table(
        rule("new", paths=("/orders/new",), methods=("POST",)), rule("any", paths=("/orders/*",), methods=("GET",))
    )
    assert view.caller(WEB).request(8080, b"GET", b"/orders/new") == Permit("shop/callers", "any")


@pytest.mark.parametrize(
    ("method", "target", "nearest"),
    [
        (b"DELETE", b"/orders/7", "shop/callers/reads"),
        (b"GET", b"/orders/7/x", "shop/callers/reads"),
        (b"GET", b"/stock/1/2", "shop/callers/stock"),
        (b"PUT", b"/both/x", "shop/callers/literal"),
    ],
)
def test_a_denial_names_the_nearest_rule(method: bytes, target: bytes, nearest: str) -> None:
    view = table(
        READS,
        rule("stock", ports=(8080,), paths=("/stock/{sku}",)),
        rule("both", ports=(8080,), methods=("GET",), paths=("/both/*",)),
        rule("literal", ports=(8080,), methods=("GET",), paths=("/both/x",)),
    ).caller(WEB)
    decision = view.request(8080, method, target)
    assert isinstance(decision, Deny)
    assert decision.nearest == nearest


def test_a_strangers_denial_names_the_rule_of_the_nearest_caller() -> None:
    other = SpiffeId.parse("spiffe://shop.example/ns/bank/sa/teller")
    decision = table(rule("teller", exactly(other)), rule("web", exactly(WEB))).caller(STRANGER).connection(1)
    assert decision == Deny(DenyReason.CALLER_NOT_ALLOWED, "shop/callers/web")


def test_decisions_are_shared() -> None:
    view = table(READS).caller(WEB)
    for method, first, second in (
        (b"GET", b"/orders/1", b"/orders/2"),
        (b"POST", b"/orders/1", b"/orders/2"),
        (b"GET", b"/x", b"/y"),
        (b"GET", b"/../x", b"//"),
    ):
        assert view.request(8080, method, first) is view.request(8080, method, second)
    assert view.connection(8080) is view.connection(8080)
    assert view.connection(9) is view.connection(9)


def test_a_decision_cannot_be_changed() -> None:
    decision = table(READS).caller(WEB).request(8080, b"GET", b"/orders")
    with pytest.raises(AttributeError):
        decision.rule = "other"  # type: ignore[union-attr,misc]


def test_callers_with_the_same_rules_share_one_view() -> None:
    policy = table(rule("ns", NamespaceCallers(namespace="shop")))
    assert policy.caller(WEB) is policy.caller(STRANGER)
    assert isinstance(policy.caller(WEB), KnownCaller)


def compiled(limits: Limits = LIMITS) -> DecisionTable:
    return table(rule("r", TrustDomainCallers(trust_domain=SHOP), paths=("/a/**",)), limits=limits)


def test_the_memory_of_decisions_is_bounded_and_starts_over() -> None:
    policy = compiled(Limits(remembered_bytes=10_000))
    view = policy.caller(WEB)
    highest = 0
    for number in range(1000):
        assert view.request(80, b"GET", b"/a/%d" % number).permitted
        assert not view.request(80, b"GET", b"/b/%d" % number).permitted
        highest = max(highest, policy._memory.used_bytes)
        assert remembered_paths(view) <= 50
    assert 5_000 < highest <= 10_000
    assert view.request(80, b"GET", b"/a/0") == Permit("shop/callers", "r")


@pytest.mark.parametrize(
    ("method", "path"), [(b"GET", b"/a/" + b"x" * 1024), (b"M" * 33, b"/a"), (b"OPTIONS", b"*"), (b"GET", b"")]
)
def test_what_is_absurd_is_judged_but_not_remembered(method: bytes, path: bytes) -> None:
    policy = compiled()
    view = policy.caller(WEB)
    view.request(80, method, path)
    assert policy._memory.used_bytes == 0
    view.request(80, b"GET", b"/a")
    assert policy._memory.used_bytes > 0


def test_strangers_do_not_fill_the_memory() -> None:
    policy = compiled()
    stranger = policy.caller(SpiffeId.parse("spiffe://x.example/a"))
    for number in range(10):
        stranger.request(80, b"GET", b"/a/%d" % number)
    assert policy._memory.used_bytes == 0


def test_the_query_is_not_part_of_what_is_remembered() -> None:
    policy = compiled()
    view = policy.caller(WEB)
    view.request(80, b"GET", b"/a/1")
    used = policy._memory.used_bytes
    for number in range(10):
        assert view.request(80, b"GET", b"/a/1?q=%d" % number).permitted
    assert policy._memory.used_bytes == used


def test_the_callers_held_are_bounded() -> None:
    policy = compiled(Limits(callers=10))
    for number in range(100):
        policy.caller(SpiffeId.parse(f"spiffe://shop.example/x{number}"))
        assert len(policy._callers) <= 10


def lines_run(action: Callable[[], object]) -> int:
    """How many lines of Python ``action`` runs: a count of steps that no machine's speed can change."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    held = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(held)
    return count


def big_table(size: int) -> DecisionTable:
    """Half of the rules name WEB, half others; all have templates of their own beside the common ones."""
    rules = []
    for number in range(size):
        caller = WEB if number % 2 else SpiffeId.workload(SHOP, "shop", f"other{number}")
        paths = (f"/svc{number}/orders/{{id}}", f"/svc{number}/**", "/common/{name}/x")
        rules.append(rule(f"r{number:05}", exactly(caller), ports=(8080,), methods=("GET",), paths=paths))
    return table(*rules)


def test_steps_of_a_decision_do_not_grow_with_the_number_of_rules() -> None:
    steps = []
    for size in (10, 3000):
        policy = big_table(size)
        view = policy.caller(WEB)
        view.connection(8080), view.connection(9)  # makes the tables, once a caller and port
        steps.append(
            [
                lines_run(lambda view=view, ask=ask: view.request(*ask))  # type: ignore[misc]
                for ask in (
                    (8080, b"GET", b"/svc5/orders/7"),
                    (8080, b"GET", b"/svc5/orders/7"),
                    (8080, b"POST", b"/svc5/orders/8"),
                    (8080, b"GET", b"/common/a/y"),
                    (8080, b"GET", b"/nothing/here"),
                    (8080, b"GET", b"/common/a%20b/x"),
                    (8080, b"GET", b"/common/a%20b;v=1"),
                    (9, b"GET", b"/"),
                )
            ]
            + [lines_run(lambda policy=policy: policy.caller(STRANGER))]  # type: ignore[misc]
        )
    assert steps[0] == steps[1]
    assert max(steps[1]) < 250


def test_steps_to_know_a_caller_grow_with_its_own_rules_only() -> None:
    alone = rule("mine", exactly(STRANGER))
    steps = []
    for size in (10, 3000):
        others = [rule(f"r{n:05}", exactly(SpiffeId.workload(SHOP, "shop", f"other{n}"))) for n in range(size)]
        policy = table(alone, *others)
        steps.append(lines_run(lambda policy=policy: policy.caller(STRANGER).request(80, b"GET", b"/x")))  # type: ignore[misc]
    assert steps[0] == steps[1]
