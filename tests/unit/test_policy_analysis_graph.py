"""Who may call whom: which edges there are, what denylists leave of them, and that no name breaks out of a drawing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ringfence.policy.analysis.drawing import as_document, as_dot, as_mermaid, as_text
from ringfence.policy.analysis.graph import Graph, NodeKind, graph_of
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

OWN, PARTNER = TrustDomain("shop.example"), TrustDomain("partner.example")
IN_SHOP = NamespaceCallers(namespace="shop")
ANYONE = (AuthenticatedCallers(), UnauthenticatedCallers())


def pattern(*segments: str, domain: TrustDomain = OWN) -> SpiffeIdPattern:
    return SpiffeIdPattern(trust_domain=domain, segments=segments)


WEB = pattern("ns", "shop", "sa", "web")


def rule(name: str, *callers: Callers, **words: Any) -> Rule:
    return Rule(name=name, callers=callers, **words)


def service(name: str, policy: PolicySet | None = None, **parts: Any) -> WorldService:
    ports = (WorldPort(port=80, protocol="http"), WorldPort(port=90, protocol="tcp", permissive=True))
    return WorldService(
        namespace="shop",
        name=name,
        spiffe_id=SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}"),
        **{"ports": ports, "policy": policy or PolicySet(), **parts},
    )


def graph(*allow: Rule, deny: tuple[Rule, ...] = (), until: float | None = None) -> Graph:
    policy = PolicySet(
        allowlists=(Allowlist(namespace="shop", name="a", rules=allow),),
        denylists=(Denylist(namespace="shop", name="d", rules=deny),),
        observe_until=until,
    )
    services = (service("orders", policy), service("web"), service("stripe", has_sidecar=False))
    return graph_of(World(trust_domain=OWN, services=services), 100.0)


def edges(found: Graph) -> dict[str, list[tuple[str, tuple[int, ...], tuple[str, ...]]]]:
    return {
        edge.source.name: [(grant.rule.name, grant.ports, grant.denied_by) for grant in edge.grants]
        for edge in found.edges
    }


def test_a_rule_for_one_identity_is_an_edge_from_the_service_that_bears_it() -> None:
    found = graph(rule("one", WEB))

    assert edges(found) == {"shop/web": [("one", (80, 90), ())]}
    assert found.edges[0].source.kind is NodeKind.SERVICE
    assert [node.name for node in found.unjudged] == ["shop/stripe"]


def test_a_rule_for_many_is_an_edge_from_each_service_and_from_the_others() -> None:
    assert set(edges(graph(rule("many", IN_SHOP)))) == {
        "shop/web", "shop/orders", "shop/stripe", "any of namespace shop",
    }  # fmt: skip
    assert set(edges(graph(rule("many", pattern("ns", "shop", "sa", "*"))))) == {
        "shop/web", "shop/orders", "shop/stripe", "spiffe://shop.example/ns/shop/sa/*",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("callers", "kind", "name"),
    [
        (TrustDomainCallers(trust_domain=PARTNER), NodeKind.TRUST_DOMAIN, "any of trust domain partner.example"),
        (pattern("x", domain=PARTNER), NodeKind.IDENTITIES, "spiffe://partner.example/x"),
        (UnauthenticatedCallers(), NodeKind.UNAUTHENTICATED, "no identity"),
    ],
)
def test_callers_from_outside_are_nodes(callers: Callers, kind: NodeKind, name: str) -> None:
    (edge,) = graph(rule("outside", callers)).edges

    assert (edge.source.kind, edge.source.name) == (kind, name)


def test_an_edge_has_the_ports_on_which_its_rule_means_something() -> None:
    assert edges(graph(rule("http", WEB, methods=("GET",)))) == {"shop/web": [("http", (80,), ())]}
    assert edges(graph(rule("named", WEB, ports=(90, 99)))) == {"shop/web": [("named", (90,), ())]}
    assert edges(graph(rule("nobody", UnauthenticatedCallers()))) == {"no identity": [("nobody", (90,), ())]}
    assert edges(graph(rule("none", WEB, ports=(99,)))) == {}


@pytest.mark.parametrize(
    "deny",
    [
        rule("all", *ANYONE),
        rule("all", WEB),
        rule("all", IN_SHOP, ports=(80,)),
        rule("all", pattern("ns", "*", "sa", "web")),
        rule("all", TrustDomainCallers(trust_domain=OWN), methods=("GET", "PUT"), paths=("/a/**",)),
        rule("all", WEB, paths=("/**",)),
    ],
)
def test_what_a_denylist_refuses_wholly_is_no_edge(deny: Rule) -> None:
    allowed = rule("one", WEB, ports=(80,), methods=("GET",), paths=("/a/{id}",))

    assert edges(graph(allowed)) != {}
    assert edges(graph(allowed, deny=(deny,))) == {}


@pytest.mark.parametrize(
    "deny",
    [
        rule("part", NarrowedCallers(callers=WEB, cidrs=("10.0.0.0/8",))),
        rule("part", WEB, methods=("GET",)),
        rule("part", WEB, paths=("/a/b",)),
        rule("part", WEB, paths=("/a/",)),
        rule("part", WEB, hosts=("x",)),
        rule("part", WEB, headers=(HeaderMatch(name="x"),)),
        rule("part", WEB, when="true"),
    ],
)
def test_what_a_denylist_refuses_in_part_is_marked(deny: Rule) -> None:
    allowed = rule("one", WEB, ports=(80,), methods=("GET", "PUT"), paths=("/a/**",))

    assert edges(graph(allowed, deny=(deny,))) == {"shop/web": [("one", (80,), ("shop/d/part",))]}


@pytest.mark.parametrize(
    "deny",
    [
        rule("other", pattern("ns", "shop", "sa", "orders")),
        rule("other", UnauthenticatedCallers()),
        rule("other", WEB, ports=(90,)),
        rule("other", WEB, methods=("PUT",)),
        rule("other", WEB, paths=("/b/**",)),
        rule("other", WEB, paths=("/a/",)),
        rule("other", WEB, grpc=(GrpcMethod(service="a.B"),)),
    ],
)
def test_a_denylist_that_speaks_of_other_calls_changes_nothing(deny: Rule) -> None:
    allowed = rule("one", WEB, ports=(80,), methods=("GET",), paths=("/a/{id}",))

    assert edges(graph(allowed, deny=(deny,))) == {"shop/web": [("one", (80,), ())]}


def test_what_may_be_no_http_passes_a_denylist_that_speaks_of_requests() -> None:
    assert edges(graph(rule("one", WEB), deny=(rule("part", WEB, paths=("/**",)),))) == {
        "shop/web": [("one", (80, 90), ("shop/d/part",))]
    }


FULL = rule(
    "full",
    NarrowedCallers(callers=WEB, cidrs=("10.0.0.0/8",)),
    ports=(80,),
    methods=("GET", "PUT"),
    paths=("/a/{id}",),
    grpc=(GrpcMethod(service="a.B"),),
    hosts=("*.shop",),
    headers=(HeaderMatch(name="x-team", values=("a", "b")), HeaderMatch(name="x-no", present=False)),
    token=TokenMatch(issuers=("shop/people",), scopes=("r",), claims=(("sub", ("me",)),), acr=("mfa",)),
    when="request.path\n != '/a/0'",
)


def test_text_tells_each_service_with_its_callers_and_conditions() -> None:
    assert list(as_text(graph(FULL, until=200.0))) == [
        "shop/orders",
        "  observed until 1970-01-01T00:03:20Z: until then what no rule permits passes, too",
        "  from shop/web",
        "    80 GET,PUT /a/{id}, a.B/* host *.shop header x-team: a or b header x-no: absent token of shop/people,"
        " scope r, sub me, acr mfa from 10.0.0.0/8 when request.path != '/a/0'  [shop/a/full]",
        "shop/stripe",
        "  judges its callers itself: it has no sidecar",
        "shop/web",
        "  nobody may call it",
    ]
    assert "observed" not in "".join(as_text(graph(FULL, until=99.0)))


def test_json_holds_every_part_of_a_grant() -> None:
    document = as_document(graph(FULL))
    assert json.loads(json.dumps(document)) == document
    found: Any = document["edges"]

    assert found[0]["from"] == {"kind": "service", "name": "shop/web"}
    grant = found[0]["grants"][0]
    assert grant["headers"][1] == {"name": "x-no", "values": [], "present": False}
    assert (grant["cidrs"], grant["ports"], grant["grpc"]) == (["10.0.0.0/8"], [80], ["a.B/*"])


HOSTILE = 'x"]; click n0 "javascript:alert(1)" %%\n</script>\\" -> n9 `|} \u202e#quot;'


def test_no_name_breaks_out_of_dot_or_mermaid() -> None:
    found = graph(rule("bad", WEB, hosts=(HOSTILE,), when=HOSTILE))

    for line in as_dot(found):
        assert line.isprintable()
        # Quoted texts taken out by DOT's own rule, nothing of the name is left.
        assert re.fullmatch(r"[\w{}\[\]=;, >-]*", re.sub(r'"(?:[^"\\]|\\.)*"', "", line)), line
    for line in as_mermaid(found):
        assert line.isprintable()
        quoted = re.findall(r'"[^"]*"', line)
        assert all(re.fullmatch(r'"(?:[\w ./:,-]|#\d+;|<br/>)*"', text) for text in quoted), line
        assert re.fullmatch(r"[\w\[\](){}|. >-]*", re.sub(r'"[^"]*"', "", line)), line


def test_a_graph_is_the_same_whatever_the_order_of_documents() -> None:
    rules = [rule("a", WEB), rule("b", IN_SHOP), rule("c", UnauthenticatedCallers())]

    assert graph(*rules) == graph(*reversed(rules))
    assert list(as_dot(graph(*rules))) == list(as_dot(graph(*reversed(rules))))


def test_an_edge_of_many_grants_is_drawn_with_a_few() -> None:
    found = graph(*(rule(f"r{at}", WEB, paths=(f"/{at}",)) for at in range(30)))

    (edge,) = [line for line in as_dot(found) if "->" in line]
    assert "and 22 more" in edge
    assert len(list(as_text(found))) > 30
