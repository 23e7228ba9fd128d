"""What is learned: each caller its methods on its paths, nothing that only probing showed, nothing left out unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.policy.learning.comparing import compared
from ringfence.policy.learning.document_text import document_lines
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.proposal import Proposal
from ringfence.policy.learning.proposing import propose
from ringfence.policy.learning.replaying import replay
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.learning.sifting import LeftOut
from ringfence.policy.learning.told import proposal_document, proposal_lines
from ringfence.policy.model import (
    AuthenticatedCallers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    UnauthenticatedCallers,
)
from tests.learning_shop import CART, PARTNER, RULE, WEB, flow, permitted, service_of, world_of

ANYONE = (AuthenticatedCallers(),)


def learned(*flows: Flow, service: Any = None, unrecorded: int = 0, **settings: object) -> Proposal:
    service = service or service_of(Rule(name="everything", callers=ANYONE))
    made = LearnSettings(**settings)  # type: ignore[arg-type]
    proposal = propose(service, world_of(service), flows, made, unrecorded=unrecorded)
    assert replay(proposal, world_of(service)).refused == ()
    return proposal


def words(proposal: Proposal) -> dict[str, tuple[object, ...]]:
    return {
        rule.name: (rule.ports, rule.methods, rule.paths or tuple(f"{g.service}/{g.method}" for g in rule.grpc))
        for rule in proposal.allowlist.rules
    }


def left_out(proposal: Proposal) -> list[LeftOut]:
    return [why for _, why in proposal.left_out]


def test_each_caller_gets_its_own_methods_on_its_own_paths_and_no_more() -> None:
    proposal = learned(
        flow(),
        flow(method="POST"),
        flow(path="/orders/{id}"),
        permitted(caller=CART, path="/orders/{id}/lines/{id}", method="DELETE"),
        flow(caller=PARTNER, path="/feed"),
    )
    assert words(proposal) == {
        "edge-cart-delete": ((8080,), ("DELETE",), ("/orders/{id}/lines/{id2}",)),
        "partner-example-spire-agent-get": ((8080,), ("GET",), ("/feed",)),
        "web-get": ((8080,), ("GET",), ("/orders/{id}",)),
        "web-get-post": ((8080,), ("GET", "POST"), ("/orders",)),
    }
    assert [told.caller for told in proposal.rules] == [PARTNER, CART, WEB, WEB]
    assert all(len(rule.callers) == 1 for rule in proposal.allowlist.rules)


def test_grpc_and_tcp_have_their_own_words() -> None:
    proposal = learned(
        flow(protocol="grpc", port=9090, method="POST", path="/shop.Orders/Get"),
        flow(protocol="grpc", port=9090, method="POST", path="/shop.Orders/List"),
        flow(protocol="tcp", port=5432, method="", path=""),
    )
    assert words(proposal) == {
        "web-calls": ((9090,), (), ("shop.Orders/Get", "shop.Orders/List")),
        "web-connects": ((5432,), (), ()),
    }
    assert proposal.allowlist.rules[0].grpc[0] == GrpcMethod(service="shop.Orders", method="Get")


def test_evidence_adds_up_whatever_rule_let_the_calls_pass() -> None:
    proposal = learned(
        flow(count=2, first_seen=5.0, last_seen=9.0), permitted(count=40, first_seen=7.0, last_seen=11.0)
    )
    (told,) = proposal.rules
    assert (told.evidence.count, told.evidence.first_seen, told.evidence.last_seen) == (42, 5.0, 11.0)
    assert told.words["/orders"] == told.evidence


def test_few_words_keep_their_names_and_many_that_are_alike_become_a_parameter() -> None:
    few = [flow(path=f"/users/{name}/cart") for name in ("ann", "bob", "eve")]
    assert words(learned(*few))["web-get"][2] == ("/users/ann/cart", "/users/bob/cart", "/users/eve/cart")
    many = [flow(path=f"/users/n{chr(97 + number)}/cart") for number in range(25)]
    proposal = learned(*many)
    assert words(proposal)["web-get"][2] == ("/users/{id}/cart",)
    assert proposal.rules[0].merged == {"/users/{id}/cart": 25}
    assert "stands for 25 paths" in "\n".join(proposal_lines(proposal, replay(proposal, world_of(service_of()))))
    assert len(words(learned(*many, merge_above=30))["web-get"][2]) == 25


def test_words_below_which_paths_differ_and_words_at_the_root_keep_their_names() -> None:
    unlike = [flow(path=f"/api/n{chr(97 + number)}/s{chr(97 + number)}") for number in range(25)]
    assert len(words(learned(*unlike))["web-get"][2]) == 25
    roots = [flow(path=f"/n{chr(97 + number)}") for number in range(25)]
    assert len(words(learned(*roots))["web-get"][2]) == 25


def test_a_word_beside_a_parameter_is_not_said_twice_unless_its_methods_are_more() -> None:
    proposal = learned(flow(path="/orders/{id}"), flow(path="/orders/search"), flow(path="/orders/bulk", method="POST"))
    assert words(proposal) == {
        "web-get": ((8080,), ("GET",), ("/orders/{id}",)),
        "web-post": ((8080,), ("POST",), ("/orders/bulk",)),
    }


def test_long_lists_of_paths_become_several_rules() -> None:
    flows = [flow(path=f"/n{chr(97 + a)}{chr(97 + b)}") for a in range(15) for b in range(10)]
    proposal = learned(*flows)
    assert [len(rule.paths) for rule in proposal.allowlist.rules] == [100, 50]
    assert [rule.name for rule in proposal.allowlist.rules] == ["web-get", "web-get-2"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"verdict": Verdict.DENY}, LeftOut.DENIED),
        ({"port": 9999}, LeftOut.NO_PORT),
        ({"port": 5432}, LeftOut.OTHER_PROTOCOL),
        ({"protocol": "tcp", "method": "", "path": ""}, LeftOut.OTHER_PROTOCOL),
        ({"protocol": "tcp", "method": "", "path": "", "port": 7000}, LeftOut.EITHER_WAY),
        ({"verdict": Verdict.PERMIT, "reason": "", "rule": "shop/gone/rule"}, LeftOut.RULE_GONE),
        ({"caller": None}, LeftOut.NOT_PERMISSIVE),
        ({"caller": None, "port": 8081}, LeftOut.NO_IDENTITY),
        ({"method": "{other}"}, LeftOut.ODD_METHOD),
        ({"method": "BREW"}, LeftOut.ODD_METHOD),
        ({"protocol": "grpc", "port": 9090, "path": "/shop.Orders/Get"}, LeftOut.ODD_METHOD),
        ({"method": "OPTIONS", "path": "*"}, LeftOut.ODD_PATH),
        ({"path": "/files/*"}, LeftOut.ODD_PATH),
        ({"path": "/**"}, LeftOut.ODD_PATH),
        ({"protocol": "grpc", "method": "POST", "port": 9090, "path": "/a/b/c"}, LeftOut.ODD_PATH),
        ({"path": "/wp-login.php", "missed": 3}, LeftOut.MISSED),
        ({"path": "/api/{word}", "missed": 2}, LeftOut.MOSTLY_MISSED),
        ({"path": "/{word}"}, LeftOut.MANY_ROOTS),
        ({"path": "/a/{rest}"}, LeftOut.NOT_KEPT),
        ({"reason": "token_missing"}, LeftOut.ASKED_MORE),
        ({"reason": "condition_not_met"}, LeftOut.ASKED_MORE),
    ],
)
def test_what_is_not_to_be_learned_is_left_out_and_told(changes: dict[str, object], why: LeftOut) -> None:
    proposal = learned(flow(path="/good"), flow(**changes))
    assert left_out(proposal) == [why]
    assert words(proposal) == {"web-get": ((8080,), ("GET",), ("/good",))}
    told = "\n".join(proposal_lines(proposal, replay(proposal, world_of(service_of()))))
    assert why.value in told


def test_what_passes_today_and_is_left_out_is_told_to_be_refused() -> None:
    service = service_of(Rule(name="everything", callers=ANYONE))
    proposal = learned(flow(), flow(path="/x", missed=3), flow(path="/y", verdict=Verdict.DENY), service=service)
    found = replay(proposal, world_of(service))
    assert [one.path for one in found.left_refused] == ["/x"]
    assert found.new == ()
    assert found.calls == 3


def test_rare_calls_are_left_out_only_when_asked_by_their_number_over_all_rules() -> None:
    flows = (flow(count=1, path="/once"), flow(count=1), permitted(count=1))
    assert left_out(learned(*flows)) == []
    proposal = learned(*flows, min_count=2)
    assert left_out(proposal) == [LeftOut.RARE]
    assert words(proposal)["web-get"][2] == ("/orders",)


def test_a_tail_that_was_not_kept_is_open_only_when_asked() -> None:
    proposal = learned(flow(path="/files/{rest}"), flow(path="/{word}"), allow_rest=True)
    assert words(proposal)["web-get"][2] == ("/files/**", "/{id}")


def test_refused_calls_are_proposed_apart_with_a_warning_and_never_what_a_denylist_refuses() -> None:
    proposal = learned(
        flow(),
        flow(verdict=Verdict.DENY, path="/admin"),
        flow(verdict=Verdict.DENY, reason="denylisted", path="/db"),
        include_denied=True,
    )
    assert words(proposal) == {
        "web-get": ((8080,), ("GET",), ("/orders",)),
        "refused-web-get": ((8080,), ("GET",), ("/admin",)),
    }
    assert [told.denied for told in proposal.rules] == [False, True]
    assert left_out(proposal) == [LeftOut.DENIED]
    assert "WARNING: permits what is refused today" in "\n".join(document_lines(proposal))


def test_callers_without_identity_are_learned_where_a_rule_lets_them_or_when_asked() -> None:
    nobody = Rule(name="everything", callers=(UnauthenticatedCallers(),))
    service = service_of(nobody)
    assert words(learned(permitted(caller=None, port=8081), service=service)) == {
        "unauthenticated-get": ((8081,), ("GET",), ("/orders",))
    }
    asked = learned(flow(caller=None, port=8081), include_unauthenticated=True)
    assert asked.allowlist.rules[0].callers == (UnauthenticatedCallers(),)


TOKEN = TokenMatch(issuers=("shop/corp",), scopes=("orders:read",), claims=(("team", ("a",)),), max_age_seconds=900)


def test_what_a_rule_in_force_asks_beyond_the_path_is_asked_on() -> None:
    rule = Rule(
        name="everything",
        callers=(
            NarrowedCallers(callers=AuthenticatedCallers(), cidrs=("10.0.0.0/8",)),
            SpiffeIdPattern(trust_domain=CART.trust_domain, segments=tuple(CART.segments)),
        ),
        methods=("GET",),
        hosts=("orders.shop",),
        headers=(HeaderMatch(name="x-tenant", values=("a",)),),
        token=TOKEN,
        when='request.headers["x"] == "y"',
    )
    service = service_of(rule)
    proposal = learned(permitted(), permitted(caller=CART), flow(path="/open"), service=service)
    by_name = {one.name: one for one in proposal.allowlist.rules}
    web = by_name["web-get"] if by_name["web-get"].token else by_name["web-get-2"]
    assert (web.hosts, web.headers, web.token, web.when) == (rule.hosts, rule.headers, TOKEN, rule.when)
    assert isinstance(web.callers[0], NarrowedCallers)
    assert web.callers[0].cidrs == ("10.0.0.0/8",)
    assert isinstance(by_name["edge-cart-get"].callers[0], SpiffeIdPattern)
    assert by_name["edge-cart-get"].token == TOKEN
    opened = next(one for one in proposal.allowlist.rules if one.paths == ("/open",))
    assert opened.token is None
    assert "goes on asking" in "\n".join(proposal_lines(proposal, replay(proposal, world_of(service))))


def test_what_is_in_force_and_not_exercised_and_what_is_new_are_told() -> None:
    service = service_of(
        Rule(name="everything", callers=ANYONE, methods=("GET",)), Rule(name="never", callers=ANYONE, methods=("PUT",))
    )
    proposal = learned(permitted(), flow(method="POST"), service=service, unrecorded=9)
    assert proposal.unexercised == ("shop/orders-callers/never",)
    found = replay(proposal, world_of(service))
    assert [one.method for one in found.new] == ["POST"]
    told = proposal_document(proposal, found)
    assert told["unrecorded"] == 9
    assert told["replay"] == {"kinds": 2, "calls": 6, "refused": []}
    assert told["rules"][0]["evidence"]["count"] == 6
    assert "nothing is known of 9 calls more" in "\n".join(proposal_lines(proposal, found))


def test_what_changes_in_place_of_the_allowlists_in_force_is_told_as_calls_observing_aside() -> None:
    policy = PolicySet(
        allowlists=service_of(
            Rule(name="everything", callers=ANYONE, methods=("GET",), ports=(8080,))
        ).policy.allowlists,
        observe_until=9e9,
    )
    service = service_of(policy=policy)
    proposal = learned(permitted(), flow(method="POST", reason="method_not_allowed"), service=service)
    comparison = compared(proposal, world_of(service), now=1000.0)
    assert comparison is not None
    became = {(change.became.value, change.cell.call.method, change.cell.call.path) for change in comparison.changes}
    assert ("permitted", "POST", "/orders") in became
    assert {word for word, method, _ in became if method == "GET"} == {"denied"}
    found = replay(proposal, world_of(service))
    assert "+ permitted" in "\n".join(proposal_lines(proposal, found, comparison))
    assert proposal_document(proposal, found, comparison)["diff"]["differs"]


def test_a_replay_finds_what_a_denylist_refuses_now() -> None:
    denylist = Denylist(namespace="shop", name="no-web", rules=(Rule(name="web", callers=ANYONE, methods=("GET",)),))
    service = service_of(policy=PolicySet(denylists=(denylist,)))
    proposal = propose(service, world_of(service), [flow(), flow(method="POST")], LearnSettings())
    found = replay(proposal, world_of(service))
    assert [(one.method, decision.reason) for one, decision in found.refused] == [("GET", "denylisted")]  # type: ignore[union-attr]
    assert "WOULD REFUSE" in "\n".join(proposal_lines(proposal, found))


def test_nothing_seen_is_nothing_proposed() -> None:
    proposal = learned()
    assert proposal.allowlist.rules == ()
    assert proposal.unexercised == (RULE,)
    assert "rules: []" in "\n".join(document_lines(proposal))
