"""Policies of others in our words: what is the same, and that what is not the same is listed and never said."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ringfence.policy.importing.imported import Import
from ringfence.policy.importing.reading import Circumstances, Files, Origin, import_objects

SHOP = Circumstances(trust_domain="shop.example", permissive=True)


def imported(origin: Origin, *texts: str, circumstances: Circumstances = SHOP) -> Import:
    files = Files()
    for at, text in enumerate(texts):
        files.read(text, f"{at}.yaml")
    assert files.problems == []
    return import_objects(files.objects, origin, circumstances)


def documents(made: Import) -> list[dict[str, Any]]:
    return [yaml.safe_load(one.as_yaml()) for one in made.documents]


def told(made: Import) -> list[tuple[str, str]]:
    return [(one.weight.value, one.why) for one in made.unsaid]


def policy(spec: str, *, name: str = "p", namespace: str = "shop") -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}, labels: {{a: b}}, uid: 7}}\nspec: {spec}\n"
    )


def rules(spec: str, *more: str) -> list[dict[str, Any]]:
    """The rules of the one policy, of which everything can be said."""
    made = imported(Origin.ISTIO, policy(spec), *more)
    assert [one for one in told(made) if one[0] != "note"] == []
    found = [one for one in documents(made) if one["kind"] != "TokenIssuer"]
    assert len(found) == 1
    return list(found[0]["spec"]["rules"])


ISSUER = """\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: people, namespace: shop}
spec:
  jwtRules:
    - {issuer: "https://idp/x", audiences: [orders], jwksUri: "https://idp.example/keys"}
"""


# ---------------------------------------------------------------------------------------------------------- Istio


def test_a_policy_becomes_an_allowlist_of_its_workloads() -> None:
    (made,) = documents(
        imported(
            Origin.ISTIO,
            policy(
                "{selector: {matchLabels: {app: orders}}, rules: [{from: [{source: {principals: "
                "[cluster.local/ns/shop/sa/web]}}],"
                " to: [{operation: {methods: [GET], paths: [/orders], ports: ['80']}}]}]}"
            ),
        )
    )

    assert made["kind"] == "Allowlist"
    assert made["metadata"] == {"name": "p", "namespace": "shop"}
    assert made["spec"] == {
        "labels": {"app": "orders"},
        "rules": [
            {
                "name": "rule-1",
                "from": [{"spiffeId": "spiffe://shop.example/ns/shop/sa/web"}],
                "to": {"ports": [80], "methods": ["GET"], "paths": ["/orders"]},
            }
        ],
    }


def test_each_pair_of_source_and_operation_is_a_rule() -> None:
    found = rules(
        "{rules: [{from: [{source: {namespaces: [a]}}, {source: {namespaces: [b]}}],"
        " to: [{operation: {methods: [GET]}}, {operation: {methods: [PUT]}}]}]}"
    )

    assert [(one["name"], one["from"], one["to"]["methods"]) for one in found] == [
        ("rule-1-1", [{"namespace": "a"}], ["GET"]),
        ("rule-1-2", [{"namespace": "a"}], ["PUT"]),
        ("rule-1-3", [{"namespace": "b"}], ["GET"]),
        ("rule-1-4", [{"namespace": "b"}], ["PUT"]),
    ]


def test_a_policy_without_rules_permits_nothing_and_one_with_an_empty_rule_everything() -> None:
    assert rules("{}") == []
    assert rules("{rules: [{}]}") == [{"name": "rule-1", "from": [{"authenticated": True}, {"unauthenticated": True}]}]
    assert rules("{action: DENY, rules: [{}]}") == [{"name": "rule-1", "from": [{"anyone": True}]}]
    made = imported(Origin.ISTIO, policy("{action: DENY}"))
    assert (documents(made), told(made)) == ([], [])


def test_policies_of_the_root_namespace_speak_of_the_mesh() -> None:
    made = imported(Origin.ISTIO, policy("{action: DENY, rules: [{}]}", namespace="istio-system"))

    (one,) = documents(made)
    assert one["metadata"]["namespace"] == "ringfence-system"
    assert one["spec"]["scope"] == "mesh"


@pytest.mark.parametrize(
    ("paths", "ours"),
    [
        ("[/a]", ["/a"]),
        ("[/a/*]", ["/a/", "/a/*/**"]),
        ("['/a/{*}/b']", ["/a/*/b"]),
        ("['/a/{**}']", ["/a/", "/a/*/**"]),
        ("['/*']", ["/**"]),
    ],
)
def test_paths_become_templates_of_exactly_the_same_paths(paths: str, ours: list[str]) -> None:
    (one,) = rules(f"{{rules: [{{to: [{{operation: {{paths: {paths}}}}}]}}]}}")

    assert one["to"] == {"paths": ours}


@pytest.mark.parametrize(
    ("rule", "condition"),
    [
        ("to: [{operation: {paths: [/a*]}}]", 'request.path.startsWith("/a")'),
        ("to: [{operation: {paths: ['*.png', /x]}}]", '(request.path in ["/x"] || request.path.endsWith(".png"))'),
        ("to: [{operation: {notPaths: [/health, /x*]}}]",
         '!(request.path in ["/health"] || request.path.startsWith("/x"))'),
        ("to: [{operation: {notMethods: [GET]}}]", '!(request.method in ["GET"])'),
        ("to: [{operation: {notPorts: ['80']}}]", "!(destination.port in [80])"),
        ("to: [{operation: {hosts: ['x*']}}]", 'request.host.startsWith("x")'),
        ("from: [{source: {notPrincipals: ['cluster.local/ns/a/sa/b']}}]",
         '!(source.spiffe_id in ["spiffe://shop.example/ns/a/sa/b"])'),
        ("from: [{source: {notNamespaces: [a]}}]", '!(source.namespace in ["a"])'),
        ("when: [{key: 'request.headers[X-A]', notValues: ['1']}]",
         '!(("x-a" in request.headers && request.headers["x-a"] in ["1"]))'),
        ("when: [{key: destination.port, notValues: ['80']}]", "!(destination.port in [80])"),
        ("from: [{source: {requestPrincipals: ['*']}}]", "token != null"),
        ("from: [{source: {requestPrincipals: ['https://idp/x/*']}}]",
         '(token != null && token.issuer == "shop/people")'),
        ("from: [{source: {notRequestPrincipals: ['https://idp/x/me']}}]",
         '!((token != null && (token.issuer == "shop/people" && token.subject == "me")))'),
        ("when: [{key: request.auth.audiences, values: [a]}]",
         '(token != null && "aud" in token.claims && (token.claims["aud"] == "a"'
         ' || (type(token.claims["aud"]) == list && "a" in token.claims["aud"])))'),
    ],
)  # fmt: skip
def test_what_only_a_condition_can_say_becomes_one(rule: str, condition: str) -> None:
    (one,) = rules(f"{{rules: [{{{rule}}}]}}", ISSUER)

    assert one["when"] == condition


def test_callers_that_two_words_name_must_be_both() -> None:
    (one,) = rules("{rules: [{from: [{source: {principals: ['x.example/ns/a/sa/b'], namespaces: [a]}}]}]}")

    assert one["from"] == [{"authenticated": True}]
    assert one["when"] == 'source.spiffe_id in ["spiffe://x.example/ns/a/sa/b"] && source.namespace in ["a"]'


def test_a_denylist_names_a_namespace_of_every_trust_domain() -> None:
    (one,) = rules("{action: DENY, rules: [{from: [{source: {namespaces: [a]}}]}]}")

    assert (one["from"], one["when"]) == ([{"authenticated": True}], 'source.namespace in ["a"]')


def test_addresses_narrow_callers() -> None:
    (one,) = rules("{rules: [{from: [{source: {ipBlocks: [10.1.2.3, 10.0.0.0/8]}}]}]}")

    assert one["from"] == [
        {"authenticated": True, "cidrs": ["10.1.2.3/32", "10.0.0.0/8"]},
        {"unauthenticated": True, "cidrs": ["10.1.2.3/32", "10.0.0.0/8"]},
    ]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("from: [{source: {remoteIpBlocks: [1.2.3.4]}}]", "remoteIpBlocks speaks of addresses"),
        ("from: [{source: {notIpBlocks: [1.2.3.4]}}]", "notIpBlocks speaks of addresses"),
        ("from: [{source: {requestPrincipals: ['https://other/*']}}]", "no RequestAuthentication here is of issuer"),
        ("from: [{source: {principal: [a]}}]", "unknown field 'principal' in source"),
        ("form: [{source: {principals: [a]}}]", "unknown field 'form' in item of rules"),
        ("to: [{operation: {paths: ['/a*b']}}]", "a star within '/a*b'"),
        ("to: [{operation: {paths: ['/a/{x}']}}]", "a path template beside paths that only a condition can say"),
        ("to: [{operation: {paths: [/a//b]}}]", "path template that no request can match"),
        ("to: [{operation: {ports: [http]}}]", "'http' is no number of a port"),
        ("to: [{operation: {hosts: ['a:80']}}]", "a host with a port"),
        ("when: [{key: connection.sni, values: [a]}]", "'connection.sni' is nothing that rules here may ask for"),
        ("when: [{key: remote.ip, values: [1.2.3.4]}]", "'remote.ip' is nothing"),
        ("when: [{key: 'request.auth.claims[a]', values: ['x*']}]", "a star in a value of a claim"),
        ("when: [{key: source.namespace}]", "has no values"),
    ],
)
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_what_is_not_surely_the_same_is_left_out_and_listed(action: str, rule: str, why: str) -> None:
    made = imported(Origin.ISTIO, policy(f"{{action: {action}, rules: [{{{rule}}}, {{}}]}}"))

    (one,) = documents(made)
    assert [rule["name"] for rule in one["spec"]["rules"]] == ["rule-2"]
    assert [weight for weight, _ in told(made)] == [action.lower()]
    assert why in told(made)[0][1]
    assert made.unsaid[0].place.line == 4
    assert made.is_weaker is (action == "DENY")


@pytest.mark.parametrize(
    ("spec", "weight", "why"),
    [
        ("{action: CUSTOM, provider: {name: x}, rules: [{}]}", "deny", "asks another service"),
        ("{action: AUDIT, rules: [{}]}", "note", "only logs"),
        ("{action: allow, rules: [{}]}", "deny", "action 'allow' is not known"),
        ("{targetRefs: [{kind: Gateway, name: x}]}", "allow", "Gateway is no service of the mesh"),
        ("{action: DENY, targetRefs: [{kind: Gateway, name: x}], rules: [{}]}", "deny", "Gateway is no service"),
        ("{selector: {matchLabel: {a: b}}}", "allow", "selects by more than equal labels"),
        ("{rules: [{}], extra: 1}", "allow", "unknown field 'extra'"),
    ],
)
def test_a_policy_of_which_the_whole_cannot_be_said_is_listed(spec: str, weight: str, why: str) -> None:
    made = imported(Origin.ISTIO, policy(spec))

    assert documents(made) == []
    assert [one[0] for one in told(made)] == [weight]
    assert why in told(made)[0][1]


def test_request_authentication_becomes_token_issuers() -> None:
    made = imported(Origin.ISTIO, ISSUER.replace("audiences", "fromHeaders: [{name: X-Token}], audiences"))

    (one,) = documents(made)
    assert one["spec"] == {
        "scope": "namespace",
        "issuer": "https://idp/x",
        "audiences": ["orders"],
        "jwks": {"url": "https://idp.example/keys"},
        "header": "x-token",
    }
    assert told(made) == [("note", "a token that is not to be believed is refused only where a rule asks for one")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("audiences: [orders], ", ""), "it names no audiences"),
        (('jwksUri: "https://idp.example/keys"', "fromHeaders: []"), "OpenID discovery"),
        (("audiences", "fromCookies: [a, b], audiences"), "one place only"),
        (("audiences", "audience: x, audiences"), "unknown field 'audience'"),
    ],
)
def test_issuers_that_cannot_be_said_are_listed(change: tuple[str, str], why: str) -> None:
    made = imported(Origin.ISTIO, ISSUER.replace(*change))

    assert documents(made) == []
    assert any(why in text for weight, text in told(made) if weight == "allow")


def test_other_objects_and_lists_of_them_are_told() -> None:
    made = imported(
        Origin.ISTIO,
        "apiVersion: v1\nkind: List\nitems:\n"
        "  - {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"
        "  - {apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: b}, spec: {mtls: {}}}\n",
    )

    assert [(one.source, one.weight) for one in made.unsaid] == [
        ("Pod default/a", "note"),
        ("PeerAuthentication default/b", "note"),
    ]


def test_what_is_no_object_is_bad_input() -> None:
    files = Files()
    files.read("kind: AuthorizationPolicy\nmetadata: {}\n---\n- a\n---\n", "x.yaml")

    assert [str(problem).split(": ", 1)[0] for problem in files.problems] == ["x.yaml:1:1", "x.yaml:2:11", "x.yaml:4:1"]


def test_two_documents_of_one_name_get_two_names() -> None:
    twice = policy("{rules: [{}]}")

    assert [one.name for one in imported(Origin.ISTIO, twice, twice).documents] == ["p", "p-2"]


# -------------------------------------------------------------------------------------------------------- Linkerd

SERVER = """\
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: orders, namespace: shop}
spec: {podSelector: {matchLabels: {app: orders}}, port: 8080, proxyProtocol: HTTP/1}
"""
TLS = """\
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: web, namespace: shop}
spec:
  identities: ["web.shop.serviceaccount.identity.linkerd.cluster.local"]
  identityRefs: [{kind: ServiceAccount, name: batch}, {kind: Namespace, name: ops}]
"""
NETWORK = """\
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: net, namespace: shop}
spec: {networks: [{cidr: 10.0.0.0/8}]}
"""
ROUTE = """\
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: reads, namespace: shop}
spec:
  parentRefs: [{name: orders, kind: Server, group: policy.linkerd.io}]
  rules:
    - matches: [{path: {value: /orders, type: PathPrefix}, method: GET}, {path: {value: /x, type: Exact}}]
    - {}
"""


def linkerd(target: str, *required: str) -> str:
    return (
        "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
        f"spec: {{targetRef: {{group: policy.linkerd.io, {target}}}, requiredAuthenticationRefs: "
        f"[{', '.join(f'{{group: policy.linkerd.io, {one}}}' for one in required)}]}}\n"
    )


BY_SERVER, BY_TLS, BY_NETWORK = (
    "kind: Server, name: orders", "kind: MeshTLSAuthentication, name: web", "kind: NetworkAuthentication, name: net",
)  # fmt: skip


def test_a_linkerd_policy_is_put_together_from_what_it_names() -> None:
    (one,) = documents(imported(Origin.LINKERD, linkerd(BY_SERVER, BY_TLS), SERVER, TLS))

    assert one["spec"] == {
        "labels": {"app": "orders"},
        "rules": [
            {
                "name": "rule-1",
                "from": [
                    {"spiffeId": "spiffe://shop.example/ns/shop/sa/web"},
                    {"spiffeId": "spiffe://shop.example/ns/shop/sa/batch"},
                    {"namespace": "ops"},
                ],
                "to": {"ports": [8080]},
            }
        ],
    }


def test_networks_narrow_identities_where_both_are_required() -> None:
    (one,) = documents(imported(Origin.LINKERD, linkerd(BY_SERVER, BY_TLS, BY_NETWORK), SERVER, TLS, NETWORK))
    assert {tuple(caller["cidrs"]) for caller in one["spec"]["rules"][0]["from"]} == {("10.0.0.0/8",)}

    (one,) = documents(imported(Origin.LINKERD, linkerd(BY_SERVER), SERVER))
    assert one["spec"]["rules"][0]["from"] == [{"authenticated": True}, {"unauthenticated": True}]


def test_a_route_says_what_may_be_asked_for() -> None:
    (one,) = documents(imported(Origin.LINKERD, linkerd("kind: HTTPRoute, name: reads", BY_TLS), SERVER, TLS, ROUTE))

    assert [rule["to"] for rule in one["spec"]["rules"]] == [
        {"ports": [8080], "paths": ["/orders/**"], "methods": ["GET"]},
        {"ports": [8080], "paths": ["/x"]},
        {"ports": [8080]},
    ]


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([linkerd(BY_SERVER, BY_TLS), TLS], "Server shop/orders is not among the files"),
        ([linkerd(BY_SERVER, BY_TLS), SERVER], "MeshTLSAuthentication shop/web is not among the files"),
        ([linkerd(BY_SERVER, BY_TLS), SERVER.replace("8080", "http"), TLS], "a port must be a number here"),
        ([linkerd(BY_SERVER, BY_TLS), SERVER.replace("proxyProtocol", "proxy"), TLS], "unknown field 'proxy'"),
        ([linkerd(BY_SERVER, BY_TLS), SERVER, TLS.replace("web.shop.", "*.shop.").replace("shop.s", "x.y.s")],
         "is no identity of one service account"),
        ([linkerd(BY_SERVER, BY_NETWORK), SERVER, NETWORK.replace("8}", "8, except: [10.1.0.0/16]}")], "except takes"),
        ([linkerd(BY_SERVER, BY_TLS, BY_TLS), SERVER, TLS], "two identities at once"),
        ([linkerd("kind: HTTPRoute, name: reads"), SERVER, ROUTE.replace("Exact", "RegularExpression")], "literal"),
        ([linkerd("kind: HTTPRoute, name: reads"), SERVER, ROUTE.replace("- {}", "- {filters: []}")], "filters"),
        ([linkerd("kind: Namespace, name: other")], "its own namespace"),
    ],
)  # fmt: skip
def test_a_linkerd_policy_that_cannot_be_said_is_listed(texts: list[str], why: str) -> None:
    made = imported(Origin.LINKERD, *texts)

    assert documents(made) == []
    assert any(why in text for _, text in told(made)), told(made)
    assert not made.is_weaker


def test_identities_of_linkerd_need_the_trust_domain() -> None:
    made = imported(Origin.LINKERD, linkerd(BY_SERVER, BY_TLS), SERVER, TLS, circumstances=Circumstances())

    assert "--trust-domain" in told(made)[0][1]


# -------------------------------------------------------------------------------------------------- NetworkPolicy


def network_policy(spec: str) -> str:
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n"
    return f"{head}spec: {spec}\n"


def test_ingress_of_a_network_policy_becomes_an_allowlist() -> None:
    made = imported(
        Origin.NETWORK_POLICY,
        network_policy(
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}},"
            " {podSelector: {}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}},"
            " {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}},"
            " podSelector: {matchLabels: {a: b}}}, {namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}],"
            " ports: [{port: 5432}, {port: 80, endPort: 82}]},"
            " {}]}"
        ),
    )

    assert told(made) == []
    (one,) = documents(made)
    assert one["spec"]["labels"] == {"app": "db"}
    first, second = one["spec"]["rules"]
    assert first["from"] == [
        {"serviceLabels": {"app": "web"}},
        {"namespace": "shop"},
        {"namespace": "ops"},
        {"serviceLabels": {"a": "b"}, "namespace": "ops"},
        {"trustDomain": "shop.example"},
        {"authenticated": True, "cidrs": ["10.0.0.0/8"]},
        {"unauthenticated": True, "cidrs": ["10.0.0.0/8"]},
    ]
    assert first["to"] == {"ports": [5432, 80, 81, 82]}
    assert second["from"] == [{"authenticated": True}, {"unauthenticated": True}]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("{ports: [{port: http}]}", "a port must be a number here"),
        ("{ports: [{port: 53, protocol: UDP}]}", "a mesh carries TCP"),
        ("{ports: [{port: 1, endPort: 9999}]}", "more than 1000 ports"),
        ("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}", "except takes addresses out"),
        ("{from: [{namespaceSelector: {matchLabels: {team: a}}}]}", "namespaces have no labels here"),
        ("{from: [{namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}]}", "one namespace at a time"),
        ("{from: [{podSelector: {matchExpressions: []}}]}", "selects by more than equal labels"),
        ("{form: []}", "unknown field 'form'"),
    ],
)
def test_what_a_network_policy_says_beyond_identities_is_listed(item: str, why: str) -> None:
    made = imported(Origin.NETWORK_POLICY, network_policy(f"{{podSelector: {{}}, ingress: [{item}, {{}}]}}"))

    (one,) = documents(made)
    assert [rule["name"] for rule in one["spec"]["rules"]] == ["rule-2"]
    assert [weight for weight, _ in told(made)] == ["allow"]
    assert why in told(made)[0][1]


def test_egress_is_listed_as_what_may_pass_here() -> None:
    made = imported(Origin.NETWORK_POLICY, network_policy("{podSelector: {}, policyTypes: [Egress], egress: [{}]}"))

    assert documents(made) == []
    assert made.is_weaker


def test_callers_without_an_identity_are_named_only_where_ports_take_them() -> None:
    strict = Circumstances(trust_domain="shop.example")
    made = imported(Origin.ISTIO, policy("{rules: [{}]}"), circumstances=strict)

    (one,) = documents(made)
    assert one["spec"]["rules"][0]["from"] == [{"authenticated": True}]
    assert [weight for weight, _ in told(made)] == ["allow"]
    assert "--permissive" in told(made)[0][1]
    made = imported(Origin.NETWORK_POLICY, network_policy("{ingress: [{}]}"), circumstances=strict)
    assert documents(made)[0]["spec"]["rules"][0]["from"] == [{"authenticated": True}]
    made = imported(Origin.ISTIO, policy("{action: DENY, rules: [{}]}"), circumstances=strict)
    assert (documents(made)[0]["spec"]["rules"][0]["from"], told(made)) == ([{"anyone": True}], [])
