"""Small policies that use every word of the model, and calls that meet them; for property tests (hypothesis)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import DecisionTable
from ringfence.policy.decision import Decision
from ringfence.policy.facts import KnownFacts, Token, TokenRefused, VerifiedToken
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
    TokenIssuer,
    TokenMatch,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain
from tests.reference_policy import Asked, Reference

OWN = TrustDomain("own.example")
OTHER = TrustDomain("other.example")
HTTP_PORTS = (80, 81)
MAYBE_HTTP_PORTS = (99,)
SERVICE = "w/orders"
LABELS = {"data": "pii"}
ISSUERS = (TokenIssuer(name="w/idp", issuer="https://idp", audiences=("orders",), leeway_seconds=5),)
NOW = 1_800_000_000.0
OBSERVED_UNTIL = NOW + 100

CONDITIONS = [
    "source.authenticated",
    "source.namespace == 'n' && source.service_account != 's'",
    "source.address == '10.0.0.1' || request.method == 'GET'",
    "source.spiffe_id.startsWith('spiffe://own.example/') && destination.port == 80",
    "destination.labels.data == 'pii' && destination.service == 'orders' && destination.namespace == 'w'",
    "destination.labels['absent'] == 'x'",
    "request.path.matches('^/a(/.*)?$')",
    "request.headers['x-a'] == '1'",
    "'x-a' in request.headers && request.host == 'a.example'",
    "!has(request.headers.x_b)",
    "token == null",
    "token != null && token.claims.level == 2",
    "'read' in token.scopes && token.issuer == 'w/idp'",
    "token.subject == 'me' || source.trust_domain == 'other.example'",
    "token.claims.groups.exists(g, g == 'ops')",
    "now > timestamp('2027-01-01T00:00:00Z')",
    "1 / (destination.port - 80) > 0",
]

PATTERNS = st.builds(
    lambda domain, namespace, account: SpiffeIdPattern(trust_domain=domain, segments=("ns", namespace, "sa", account)),
    st.sampled_from([OWN, OTHER]),
    st.sampled_from(["n", "m", "*"]),
    st.sampled_from(["s", "t", "*"]),
)
NAMED = st.one_of(
    PATTERNS,
    st.builds(AuthenticatedCallers),
    st.builds(NamespaceCallers, namespace=st.sampled_from(["n", "m"])),
    st.builds(TrustDomainCallers, trust_domain=st.sampled_from([OWN, OTHER])),
    st.builds(AuthenticatedCallers),
    st.builds(UnauthenticatedCallers),
)
CIDRS = st.sampled_from(["10.0.0.0/8", "10.0.0.1/32", "fd00::/8", "0.0.0.0/0", "::/0"])


def some(values: st.SearchStrategy[Any], size: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=size, unique=True).map(tuple)


def seldom(values: st.SearchStrategy[Any], otherwise: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([True, False, False]).flatmap(lambda here: values if here else st.just(otherwise))


CALLERS: st.SearchStrategy[Callers] = st.one_of(
    NAMED,
    NAMED,
    st.builds(NarrowedCallers, callers=NAMED, cidrs=st.lists(CIDRS, min_size=1, max_size=2, unique=True).map(tuple)),
)
TEMPLATES = st.sampled_from(
    ["/", "/a", "/a/", "/a/b", "/{x}", "/a/*", "/*/b", "/**", "/a/**", "/a/{x}/**", "/p.S/M", "/p.S/*"]
)
GRPC = st.builds(GrpcMethod, service=st.just("p.S"), method=st.sampled_from([None, "M", "N"]))
HOSTS = st.sampled_from(["a.example", "b.example", "*.example", "*.b.example"])
HEADERS = st.one_of(
    st.builds(HeaderMatch, name=st.sampled_from(["x-a", "x-b"]), values=st.sampled_from([("1",), ("1", "2"), ("3",)])),
    st.builds(HeaderMatch, name=st.sampled_from(["x-a", "x-b"]), present=st.booleans()),
)
TOKENS = st.builds(
    TokenMatch,
    issuers=seldom(st.sampled_from([("w/idp",), ("w/other",)]), ()),
    scopes=seldom(some(st.sampled_from(["read", "write"])), ()),
    claims=seldom(
        st.sampled_from([(("level", ("2", "3")),), (("org.unit", ("x",)),), (("groups", ("ops",)), ("ok", ("true",)))]),
        (),
    ),
    acr=seldom(st.just(("gold", "silver")), ()),
    amr=seldom(st.sampled_from([("otp",), ("otp", "pwd")]), ()),
    max_age_seconds=seldom(st.sampled_from([0, 60]), None),
)


@st.composite
def rules(draw: st.DrawFn, *, denies: bool) -> Rule:
    return Rule(
        name=draw(st.sampled_from("abcdef")),
        callers=draw(st.lists(CALLERS, min_size=0 if denies else 1, max_size=3, unique=True).map(tuple)),
        ports=draw(seldom(some(st.sampled_from([80, 81, 90])), ())),
        methods=draw(seldom(some(st.sampled_from(["GET", "POST", "OPTIONS"])), ())),
        paths=draw(seldom(some(TEMPLATES, 3), ())),
        hosts=draw(seldom(some(HOSTS), ())),
        headers=draw(seldom(some(HEADERS), ())),
        grpc=draw(seldom(some(GRPC), ())),
        token=None if denies else draw(seldom(TOKENS, None)),
        when=draw(st.sampled_from([*CONDITIONS, *[""] * (len(CONDITIONS) // 2 if denies else 2 * len(CONDITIONS))])),
    )


def lists(kind: type[Allowlist] | type[Denylist]) -> st.SearchStrategy[tuple[Any, ...]]:
    denies = kind is Denylist
    of_rules = st.lists(
        rules(denies=denies), min_size=1, max_size=2 if denies else 6, unique_by=lambda rule: rule.name
    ).map(tuple)
    made = st.builds(kind, namespace=st.just("w"), name=st.sampled_from(["p", "q", "r"]), rules=of_rules)
    some_lists = st.lists(made, min_size=0 if denies else 1, max_size=2, unique_by=lambda each: each.name).map(tuple)
    return st.booleans().flatmap(lambda here: some_lists if here else st.just(())) if denies else some_lists


POLICIES = st.builds(
    PolicySet,
    allowlists=lists(Allowlist),
    denylists=lists(Denylist),
    observe_until=seldom(st.just(OBSERVED_UNTIL), None),
)

IDS = [
    SpiffeId(domain, path)
    for domain in (OWN, OTHER)
    for path in ("/ns/n/sa/s", "/ns/n/sa/s", "/ns/n/sa/s", "/ns/n/sa/t", "/ns/m/sa/s", "/ns/n/sa/t", "/ns/n", "")
]
TARGETS = [
    b"/", b"/a", b"/a/", b"/b", b"/a/a", b"/a/b", b"/b/c", b"/a/b/", b"/c/a/b", b"/%61/b?q=1", b"/a/../b", b"*",
    b"/p.S/M", b"/p.S/N", b"/p.S/N/x", b"/a;v=1", b"/a/b%3Bv", b"/p.S/M;v",
]  # fmt: skip
CLAIMS: dict[str, list[object]] = {
    "sub": ["me", 7],
    "scope": ["read", "read write", ""],
    "scp": [["write"], "write", [1]],
    "level": [2, 2, "2", 4, True],
    "org": [{"unit": "x"}, "x", {}],
    "org.unit": ["x", "y"],
    "groups": [["ops", "dev"], ["dev"], "ops", [["ops"]], [1]],
    "ok": [True, "true", False],
    "acr": ["gold", "bronze"],
    "amr": [["pwd", "otp"], ["pwd"], "otp"],
    "auth_time": [NOW - 10, NOW, NOW + 20, NOW + 4, NOW - 100, "now"],
}
HEADER_VALUES: dict[bytes, list[tuple[bytes, ...]]] = {
    b"x-a": [(b"1",), (b"1",), (b"2",), (b"1", b"2"), (b"1", b"1"), (b"",), (b"\xff",)],
    b"x-b": [(b"1",), (b"3",)],
}


HOSTS_ASKED = [b"", b"a.example", b"a.example", b"a.example.", b"b.example", b"x.b.example", b".example", b"."]


def a_token(dice: random.Random) -> Token:
    kind = dice.random()
    if kind < 0.25:
        return None
    if kind < 0.35:
        return TokenRefused("a defect")
    return VerifiedToken(
        issuer=dice.choice(["w/idp", "w/idp", "w/other"]),
        claims={name: dice.choice(values) for name, values in CLAIMS.items() if dice.random() < 0.7},
        expires=dice.choice([NOW + 10, NOW + 1e6, NOW + 1e6, NOW - 10]),
    )


def a_call(dice: random.Random) -> Asked:
    caller = dice.choice([*IDS, None, None, None, None])
    return Asked(
        caller=caller,
        port=dice.choice([80, 80, 80, 80, 81, 90, 99]),
        method=dice.choice(["GET", "GET", "GET", "POST", "POST", "POST", "PUT", "OPTIONS", None]),
        target=dice.choice(TARGETS),
        address=dice.choice(["", "10.0.0.1", "10.9.9.9", "192.0.2.1", "fd00::1", "::ffff:10.0.0.1"]),
        facts=KnownFacts(
            now=dice.choice([0.0, NOW, NOW, NOW, OBSERVED_UNTIL]),
            host=dice.choice(HOSTS_ASKED),
            headers={name: dice.choice(values) for name, values in HEADER_VALUES.items() if dice.random() < 0.6},
            known_token=a_token(dice),
        ),
    )


def calls(count: int) -> st.SearchStrategy[list[Asked]]:
    """So many calls, all from one seed: drawn one by one they would take far longer than being judged."""

    def made(seed: int) -> list[Asked]:
        dice = random.Random(seed)
        return [a_call(dice) for _ in range(count)]

    return st.integers(0, 2**32).map(made)


def compiled(policy: PolicySet) -> DecisionTable:
    return compile_policy(
        policy,
        trust_domain=OWN,
        http_ports=HTTP_PORTS,
        maybe_http_ports=MAYBE_HTTP_PORTS,
        service=SERVICE,
        labels=tuple(LABELS.items()),
        issuers=ISSUERS,
    )


def meaning(policy: PolicySet) -> Reference:
    return Reference(
        policy=policy,
        trust_domain=OWN,
        http_ports=HTTP_PORTS,
        maybe_http_ports=MAYBE_HTTP_PORTS,
        service=SERVICE,
        labels=LABELS,
        issuers=ISSUERS,
    )


def ask(table: DecisionTable, asked: Asked) -> Decision:
    view = table.caller(asked.caller, asked.address)
    if asked.method is None:
        return view.connection(asked.port, asked.facts)
    return view.request(asked.port, asked.method.encode(), asked.target, asked.facts)
