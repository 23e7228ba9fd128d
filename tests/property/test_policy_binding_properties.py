"""Whatever is bound can be sent, and enforced; and the order of documents changes nothing."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.compile import compile_policy
from ringfence.policy.documents import read_documents
from ringfence.policy.model import PolicySet
from ringfence.snapshot import Snapshot, Workload
from ringfence.wire.convert import snapshot_from_wire, snapshot_to_wire
from ringfence.wire.gen import control_pb2 as pb
from tests.pki import TestCa
from tests.policy_documents import NOW, OWN, ROOT, SERVICES, document, read

BUNDLE = TestCa("shop.example").bundle()
NAMES = ("a", "b", "c")

_one = st.sampled_from


@st.composite
def _callers(draw: st.DrawFn, *more: str) -> str:
    items = [
        "web", "bank/vault", "shop/search", "{namespace: shop}", "{trustDomain: partner.example}", "{service: orders}",
        "{spiffeId: spiffe://shop.example/ns/*/sa/web}", "{serviceLabels: {data: pii}, namespace: shop}",
        "{authenticated: true}", "{service: web, cidrs: [10.0.0.0/8, 'fd00::/8']}", "{namespace: void}", "nobody",
        *more,
    ]  # fmt: skip
    return f"[{', '.join(draw(st.lists(_one(items), min_size=1, max_size=3, unique=True)))}]"


SETS = ("{callerSet: shop/a}", "{callerSet: shop/b, cidrs: [10.1.0.0/16]}", "{unauthenticated: true}")
WORDS = _one(
    [
        "", "ports: [8080]", "ports: [5432]", "ports: [443, 9090]", "methods: [GET]", "paths: ['/a/{id}', '/b/**']",
        "hosts: [a.example, '*.b.example']", "headers: [{name: x, values: [a]}, {name: y, present: false}]",
        "grpc: [a.B/C, a.D/*]", "ports: [8080], methods: [POST], paths: [/a], hosts: [a.example]",
    ]
)  # fmt: skip
TOKENS = _one(["", "token: {scopes: [a]}", "token: {issuers: [shop/a], claims: {c.d: [x]}, acr: [m], maxAge: 5m}"])
WHEN = _one(["", "when: 'source.namespace == \"shop\"'", "when: 'request.path.startsWith(\"/a\")'"])
SELECTORS = _one(["service: orders", "service: web", "service: gone", "labels: {data: pii}", "scope: namespace"])
MODES = _one(["", "mode: shadow, "])


@st.composite
def _rule(draw: st.DrawFn, number: int, *, denies: bool) -> str:
    callers = draw(_callers(*SETS, *(["{anyone: true}"] if denies else [])))
    words = draw(WORDS | _one(["roles: [shop/a]", "roles: [shop/b, shop/c]"]))
    parts = [f"to: {{{words}}}" if words else "", draw(TOKENS) if not denies else "", draw(WHEN)]
    return f"{{name: r{number}, from: {callers}{''.join(f', {part}' for part in parts if part)}}}"


@st.composite
def _listed(draw: st.DrawFn, kind: str) -> str:
    namespace, selector = draw(st.tuples(_one(["shop", "bank"]), SELECTORS) | st.just((ROOT, "scope: mesh")))
    rules = [draw(_rule(number, denies=kind == "Denylist")) for number in range(draw(st.integers(0, 3)))]
    spec = f"{{{selector}, {draw(MODES)}rules: [{', '.join(rules)}]}}"
    return document(kind, draw(_one(NAMES)), spec, namespace)


@st.composite
def _other(draw: st.DrawFn) -> str:
    kind, name = draw(_one(["Role", "CallerSet", "RoleBinding", "Posture", "TokenIssuer"])), draw(_one(NAMES))
    selector = draw(SELECTORS)
    if kind == "Role":
        parts = [part for part in (draw(WORDS), draw(TOKENS), draw(WHEN)) if part] or ["ports: [8080]"]
        return document(kind, name, f"{{permissions: [{{name: p, {', '.join(parts)}}}]}}")
    if kind == "CallerSet":
        return document(kind, name, f"{{callers: {draw(_callers())}}}")
    if kind == "RoleBinding":
        return document(kind, name, f"{{{selector}, {draw(MODES)}roles: [a, b], from: {draw(_callers(*SETS))}}}")
    if kind == "Posture":
        year = draw(_one(["2026-12-31", "2027-02-01", "2027-03-01", "2028-01-01"]))
        return document(kind, name, f'{{{selector}, posture: observe, until: "{year}T00:00:00Z"}}')
    keys = "jwks: {url: https://a.example/k}, header: x-token, claimHeaders: {x-user: sub}"
    return document(kind, name, f"{{{selector}, issuer: https://a.example, audiences: [a], {keys}}}")


DOCUMENTS = st.lists(_listed("Allowlist") | _listed("Denylist") | _other(), max_size=8)
AROUND = Surroundings(services=SERVICES, trust_domain=OWN, root_namespace=ROOT, now=NOW)


def _snapshot(name: str, policy: PolicySet, shadow: PolicySet | None) -> Snapshot:
    identity = SERVICES[name].spiffe_id
    assert identity is not None
    namespace, _, short = name.partition("/")
    workload = Workload(
        service=short, namespace=namespace, spiffe_id=identity, mesh_host="127.0.0.1", mesh_port=15008, ports=()
    )
    return Snapshot(
        revision=1,
        workload=workload,
        upstreams=(),
        allowlists=policy.allowlists,
        bundles=(BUNDLE,),
        denylists=policy.denylists,
        observe_until=policy.observe_until,
        shadow=shadow,
    )


def _without_errors(texts: list[str]) -> list[str]:
    """Of documents as many as can be in force together."""
    kept: list[str] = []
    for text in texts:
        if not bind(read(*kept, text), AROUND).errors:
            kept.append(text)
    return kept


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS)
def test_whatever_is_bound_can_be_sent_and_enforced(texts: list[str]) -> None:
    binding = bind(read(*_without_errors(texts)), AROUND)
    for name, bound in binding.policies.items():
        sent = _snapshot(name, bound.policy, bound.shadow)
        sent = Snapshot(**{**{f: getattr(sent, f) for f in sent.__slots__}, "token_issuers": bound.issuers})
        assert snapshot_from_wire(pb.Snapshot.FromString(snapshot_to_wire(sent).SerializeToString())) == sent
        service = SERVICES[name]
        for policy in (bound.policy, bound.shadow):
            if policy is not None:
                compile_policy(
                    policy,
                    trust_domain=OWN,
                    http_ports=[port for port, protocol in service.ports.items() if protocol != "tcp"],
                    service=name,
                    labels=service.labels,
                    issuers=bound.issuers,
                )


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_documents_changes_neither_what_is_bound_nor_what_is_told(
    texts: list[str], shuffle: random.Random
) -> None:
    documents = read(*texts)
    binding = bind(documents, AROUND)
    assert bind(shuffle.sample(documents, len(documents)), AROUND) == binding
    assert bool(binding.errors) <= (binding.policies == {})
    assert all(problem.line >= 1 and str(problem).isprintable() for problem in binding.problems)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS.filter(bool), st.data())
def test_mangled_documents_are_bound_or_told_with_places(texts: list[str], data: st.DataObject) -> None:
    text = "---\n".join(texts)
    start = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.text(st.sampled_from("\n :-[]{},'\"0az/*"), max_size=6))
    documents, problems = read_documents(text[:start] + junk + text[start + data.draw(st.integers(0, 12)) :], "f.yaml")
    binding = bind(documents, AROUND)
    assert binding.errors == [] or binding.policies == {}
    for problem in (*problems, *binding.problems):
        assert problem.file in ("f.yaml",)
        assert problem.line >= 1
        assert str(problem).isprintable()
