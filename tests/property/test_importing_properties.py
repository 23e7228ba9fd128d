"""What is imported from Istio permits and refuses the same calls, by a second reading of Istio's own words."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ringfence.policy.analysis.calls import Call, Judge
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.documents import read_documents
from ringfence.policy.facts import VerifiedToken
from ringfence.policy.importing.imported import Import, Weight
from ringfence.policy.importing.reading import Circumstances, Files, Origin, import_objects
from ringfence.policy.services import MeshService
from ringfence.spiffe import SpiffeId, TrustDomain

OWN = TrustDomain("own.example")
ORDERS = SpiffeId.parse("spiffe://own.example/ns/shop/sa/orders")
ISSUER = {
    "apiVersion": "security.istio.io/v1",
    "kind": "RequestAuthentication",
    "metadata": {"name": "people", "namespace": "shop"},
    "spec": {"jwtRules": [{"issuer": "https://idp", "audiences": ["x"], "jwksUri": "https://idp/keys"}]},
}

# ------------------------------------------------------------------------------------------------------- policies


def some(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """At most two of the fields."""
    return st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )


PRINCIPALS = some(
    "cluster.local/ns/shop/sa/web",
    "cluster.local/ns/ops/sa/*",
    "cluster.local/ns/*",
    "*",
    "*/web",
    "x.org/ns/shop/sa/web",
)
NAMESPACES = some("shop", "op*", "*", "ops")
TOKENS = some("*", "https://idp/me", "https://idp/*")
SOURCES = maybe(
    principals=PRINCIPALS,
    notPrincipals=PRINCIPALS,
    namespaces=NAMESPACES,
    notNamespaces=NAMESPACES,
    serviceAccounts=some("web", "ops/batch"),
    notServiceAccounts=some("web", "ops/batch"),
    ipBlocks=some("10.0.0.0/8", "192.0.2.7"),
    requestPrincipals=TOKENS,
    notRequestPrincipals=TOKENS,
)
PATHS = some("/a", "/a/*", "/a*", "*", "/*", "*.png", "/a/{*}", "/{**}", "/a/{*}/c")
METHODS, PORTS, HOSTS = some("GET", "PUT", "*", "G*"), some("80", "81"), some("a.shop", "*.shop", "a*", "*")
CALLED = maybe(
    paths=PATHS, notPaths=some("/a", "/a*", "*.png"), methods=METHODS, notMethods=METHODS, ports=PORTS, notPorts=PORTS,
    hosts=HOSTS, notHosts=HOSTS,
)  # fmt: skip
VALUES = {
    "request.headers[X-A]": some("1", "2*", "*"),
    "source.namespace": NAMESPACES,
    "source.principal": PRINCIPALS,
    "destination.port": PORTS,
    "request.auth.principal": TOKENS,
    "request.auth.claims[role]": some("boss", "clerk"),
    "request.auth.audiences": some("x", "y"),
}
CONDITIONS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda key: st.one_of(
        st.fixed_dictionaries({"key": st.just(key), "values": VALUES[key]}),
        st.fixed_dictionaries({"key": st.just(key), "notValues": VALUES[key]}),
    )
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "from": st.lists(st.fixed_dictionaries({"source": SOURCES}), min_size=1, max_size=2),
        "to": st.lists(st.fixed_dictionaries({"operation": CALLED}), min_size=1, max_size=2),
        "when": st.lists(CONDITIONS, min_size=1, max_size=2),
    },
)
POLICIES = st.lists(
    st.fixed_dictionaries({"action": st.sampled_from(["ALLOW", "DENY"]), "rules": st.lists(RULES, max_size=2)}),
    min_size=1,
    max_size=2,
)

CALLS = st.builds(
    Call,
    caller=st.sampled_from(
        [
            None,
            *(
                SpiffeId.parse(f"spiffe://{domain}/ns/{name}/sa/{account}")
                for domain in ("own.example", "x.org")
                for name, account in (("shop", "web"), ("ops", "batch"), ("ops", "web"))
            ),
        ]
    ),
    service=st.just("shop/orders"),
    port=st.sampled_from([80, 81]),
    address=st.sampled_from(["10.1.2.3", "192.0.2.7", "192.0.2.8"]),
    method=st.sampled_from(["GET", "PUT"]),
    path=st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a/x.png"]),
    host=st.sampled_from(["a.shop", "b.c.shop", "shop", ""]),
    headers=st.sampled_from([(), (("x-a", "1"),), (("x-a", "22"),)]),
    token=st.one_of(
        st.none(),
        st.builds(
            lambda claims: VerifiedToken(issuer="shop/people", claims=claims, expires=2.0),
            st.sampled_from(
                [{"sub": "me", "aud": "x", "role": "boss"}, {"sub": "you", "aud": ["x", "y"], "role": ["clerk"]}]
            ),
        ),
    ),
    time=st.just(1.0),
)

# ------------------------------------------------------------------------------- a second reading of Istio's words


def is_one(text: str | None, values: list[str]) -> bool:
    """Exactly, by prefix, by suffix, or, with a star alone, by being there."""
    return bool(text) and any(
        value == "*" or text == value
        or (value.endswith("*") and str(text).startswith(value[:-1]))
        or (value.startswith("*") and str(text).endswith(value[1:]))
        for value in values
    )  # fmt: skip


def is_path(path: str, values: list[str]) -> bool:
    def one(value: str) -> bool:
        if "{" not in value:
            return is_one(path, [value])
        wanted, given = value.split("/"), path.split("/")
        for at, word in enumerate(wanted):
            if word == "{**}":
                return at < len(given)
            if at >= len(given) or (word == "{*}" and not given[at]) or (word not in ("{*}", given[at])):
                return False
        return len(wanted) == len(given)

    return any(map(one, values))


def principal(call: Call) -> str:
    return str(call.caller).removeprefix("spiffe://").replace("own.example", "cluster.local") if call.caller else ""


def token_principal(call: Call) -> str:
    return f"https://idp/{call.token.claims['sub']}" if isinstance(call.token, VerifiedToken) else ""


def is_attribute(name: str, call: Call, values: list[str]) -> bool:
    claims: Any = call.token.claims if isinstance(call.token, VerifiedToken) else {}
    namespace = call.caller.namespace if call.caller else ""
    account = call.caller.service_account if call.caller else ""
    match name:
        case "principals" | "source.principal":
            return is_one(principal(call), values)
        case "namespaces" | "source.namespace":
            return is_one(namespace, values)
        case "serviceAccounts":
            return any(f"{namespace}/{account}" in (one, f"shop/{one}") for one in values)
        case "ipBlocks":
            return any(call.address == one or (one == "10.0.0.0/8" and call.address[:3] == "10.") for one in values)
        case "requestPrincipals" | "request.auth.principal":
            return is_one(token_principal(call), values)
        case "paths":
            return is_path(call.path, values)
        case "methods":
            return is_one(call.method, values)
        case "ports" | "destination.port":
            return str(call.port) in values
        case "hosts":
            return is_one(call.host, values)
        case "request.headers[X-A]":
            return is_one(dict(call.headers).get("x-a"), values)
    claim = claims.get("aud" if name == "request.auth.audiences" else "role", [])
    return bool({claim} & set(values) if isinstance(claim, str) else set(claim) & set(values))


def all_hold(fields: dict[str, list[str]], call: Call) -> bool:
    return all(
        not is_attribute(name[3:4].lower() + name[4:], call, values)
        if name.startswith("not")
        else is_attribute(name, call, values)
        for name, values in fields.items()
    )


def speaks(rule: dict[str, Any], call: Call) -> bool:
    sources = [one["source"] for one in rule.get("from", [])] or [{}]
    called = [one["operation"] for one in rule.get("to", [])] or [{}]
    conditions = all(
        ("values" not in one or is_attribute(one["key"], call, one["values"]))
        and ("notValues" not in one or not is_attribute(one["key"], call, one["notValues"]))
        for one in rule.get("when", [])
    )
    return any(all_hold(one, call) for one in sources) and any(all_hold(one, call) for one in called) and conditions


def permits(policies: list[dict[str, Any]], call: Call) -> bool:
    """By Istio, where some ALLOW policy is there: without any it permits what we refuse."""
    spoken = [one["action"] for one in policies if any(speaks(rule, call) for rule in one["rules"])]
    return "DENY" not in spoken and "ALLOW" in spoken


# ---------------------------------------------------------------------------------------------------- properties


def imported(policies: list[dict[str, Any]]) -> Import:
    files = Files()
    objects: list[dict[str, Any]] = [ISSUER]
    for at, spec in enumerate(policies):
        metadata = {"name": f"p{at}", "namespace": "shop"}
        head = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
        objects.append({**head, "metadata": metadata, "spec": spec})
    for one in objects:
        files.read(json.dumps(one), "x.yaml")
    assert files.problems == []
    return import_objects(files.objects, Origin.ISTIO, Circumstances(trust_domain="own.example", permissive=True))


def world(made: Import) -> World:
    ports = {80: "http", 81: "http"}
    service = MeshService(ports=ports, permissive=frozenset(ports), spiffe_id=ORDERS, labels=())
    surroundings = Surroundings(
        services={"shop/orders": service}, trust_domain=OWN, root_namespace="ringfence-system", now=1.0
    )
    documents = []
    for one in made.documents:
        found, problems = read_documents(one.as_yaml(), "made.yaml")
        assert problems == []
        documents += found
    binding = bind(documents, surroundings)
    assert [str(problem) for problem in binding.problems if problem.is_error] == []
    bound = binding.policies.get("shop/orders")
    return World(
        trust_domain=OWN,
        services=(
            WorldService(
                namespace="shop",
                name="orders",
                spiffe_id=ORDERS,
                ports=tuple(WorldPort(port=port, protocol="http", permissive=True) for port in ports),
                **({"policy": bound.policy, "token_issuers": bound.issuers} if bound is not None else {}),
            ),
        ),
    )


@given(policies=POLICIES, calls=st.lists(CALLS, min_size=1, max_size=8))
def test_what_is_said_whole_permits_the_same_calls(policies: list[dict[str, Any]], calls: list[Call]) -> None:
    made = imported(policies)
    weights = {one.weight for one in made.unsaid}
    judge = Judge(world(made))
    for call in calls:
        ours, theirs = judge.judge(call).permitted, permits(policies, call)
        foreign = call.caller is not None and call.caller.trust_domain != OWN
        if ours and Weight.DENY not in weights:
            assert theirs, (policies, call)
        if theirs and Weight.ALLOW not in weights and not foreign:
            assert ours, (policies, call)
