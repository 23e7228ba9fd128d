"""What must hold of policy whatever the input: agreement with a naive judge, order, spelling, parse and format."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.callers import format_spiffe_id_pattern, parse_spiffe_id_pattern
from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import Decision, DecisionTable, Deny, Permit
from ringfence.policy.documents import read_documents
from ringfence.policy.lists import METHODS
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
from ringfence.policy.paths import PathTemplate, Variable, judged_path, parse_template
from ringfence.policy.problems import Problem
from ringfence.policy.services import MeshService
from ringfence.policy.written import PolicyDocument
from ringfence.policy.yamlnodes import HostPort, MappingReader, load_yaml
from ringfence.spiffe import SpiffeId, TrustDomain

OWN = TrustDomain("own.example")
OTHER = TrustDomain("other.example")

# ------------------------------------------------------------------------------------------------- small worlds

TRUST_DOMAINS = st.sampled_from([OWN, OTHER])
SEGMENTS = st.sampled_from(["a", "b", "*", "{x}", "{y}"])


@st.composite
def templates(draw: st.DrawFn) -> str:
    words = draw(st.lists(SEGMENTS, max_size=3).filter(lambda words: words.count("{x}") < 2 and words.count("{y}") < 2))
    tail = draw(st.sampled_from(["", "", "/", "/**"]))
    return "".join("/" + word for word in words) + tail or "/"


PATTERNS = st.builds(
    lambda domain, namespace, account: SpiffeIdPattern(trust_domain=domain, segments=("ns", namespace, "sa", account)),
    TRUST_DOMAINS,
    st.sampled_from(["n", "m", "*"]),
    st.sampled_from(["s", "t", "*"]),
)
CALLERS: st.SearchStrategy[Callers] = st.one_of(
    PATTERNS,
    st.builds(lambda namespace: NamespaceCallers(namespace=namespace), st.sampled_from(["n", "m"])),
    st.builds(lambda domain: TrustDomainCallers(trust_domain=domain), TRUST_DOMAINS),
    st.builds(UnauthenticatedCallers),
)


def some(values: st.SearchStrategy[object], size: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(values, max_size=size, unique=True).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Allowlist, ...]:
    allowlists = []
    for name in draw(st.lists(st.sampled_from(["p", "q", "r"]), max_size=3, unique=True)):
        names = draw(st.lists(st.sampled_from("abcdef"), max_size=5, unique=True))
        rules = [
            Rule(
                name=rule_name,
                callers=draw(some(CALLERS)),  # type: ignore[arg-type]
                ports=draw(some(st.sampled_from([80, 81, 90]))),  # type: ignore[arg-type]
                methods=draw(some(st.sampled_from(["GET", "POST"]))),  # type: ignore[arg-type]
                paths=draw(some(templates(), 3)),  # type: ignore[arg-type]
            )
            for rule_name in names
        ]
        allowlists.append(Allowlist(namespace="w", name=name, rules=tuple(rules)))
    return tuple(allowlists)


IDS = [
    SpiffeId(domain, path)
    for domain in (OWN, OTHER)
    for path in ("/ns/n/sa/s", "/ns/n/sa/t", "/ns/m/sa/s", "/ns/n", "/x")
]
EVERYBODY: list[SpiffeId | None] = [*IDS, None]
TARGETS = [
    b"/", b"/a", b"/a/", b"/b", b"/a/a", b"/a/b", b"/b/c", b"/a/b/", b"/c/a/b", b"/a/b/c/d", b"/%61/b?q=1", b"/a/../b",
    b"*",
]  # fmt: skip
CALLS = [
    (port, method, target) for port in (80, 81, 99) for method in (b"GET", b"PUT", b"OPTIONS") for target in TARGETS
]
TCP_PORTS = (90, 91)

# ---------------------------------------------------------- an independent judge: slow, obvious, one rule at a time


def naive_names(callers: Callers, caller: SpiffeId | None) -> bool:
    if caller is None or isinstance(callers, UnauthenticatedCallers):
        return caller is None and isinstance(callers, UnauthenticatedCallers)
    words = caller.path.split("/")[1:]
    if isinstance(callers, TrustDomainCallers):
        return caller.trust_domain == callers.trust_domain
    if isinstance(callers, NamespaceCallers):
        return caller.trust_domain == OWN and len(words) == 4 and words[:3] == ["ns", callers.namespace, "sa"]
    return (
        caller.trust_domain == callers.trust_domain
        and len(words) == len(callers.segments)
        and all(wanted in ("*", word) for wanted, word in zip(callers.segments, words, strict=True))
    )


def naive_match(template: str, path: str) -> tuple[int, ...] | None:
    """How specific the match is, segment by segment (0 literal, 1 wildcard, 2 rest); None if there is none."""
    if path == "*":
        return None
    wanted, given_ = template[1:].split("/"), path[1:].split("/")
    ranks: list[int] = []
    for at, word in enumerate(wanted):
        if word == "**":
            return (*ranks, 2)
        if at >= len(given_):
            return None
        if word == "*" or word.startswith("{"):
            if given_[at] == "":
                return None
            ranks.append(1)
        elif word == given_[at]:
            ranks.append(0)
        else:
            return None
    return tuple(ranks) if len(wanted) == len(given_) else None


def naive_specific(rule: Rule, path: str) -> tuple[int, ...] | None:
    if not rule.paths:
        return (3,)
    found = [rank for rank in (naive_match(template, path) for template in rule.paths) if rank is not None]
    return min(found) if found else None


def naive_request(
    world: tuple[Allowlist, ...], caller: SpiffeId | None, port: int, method: bytes, target: bytes
) -> str:
    path = unquote_to_bytes(target.partition(b"?")[0]).decode()  # the targets above escape nothing but letters
    rules = [(allowlist.full_name, rule) for allowlist in world for rule in allowlist.rules]
    rules = [(policy, rule) for policy, rule in rules if any(naive_names(callers, caller) for callers in rule.callers)]
    if not rules and caller is None:
        return "unauthenticated"
    if ".." in path or (path == "*" and method != b"OPTIONS"):
        return "path_ambiguous"
    if not rules:
        return "caller_not_allowed"
    rules = [(policy, rule) for policy, rule in rules if not rule.ports or port in rule.ports]
    if not rules:
        return "port_not_allowed"
    ranked = [(rank, policy, rule) for policy, rule in rules if (rank := naive_specific(rule, path)) is not None]
    if not ranked:
        return "path_not_allowed"
    permitting = [
        (rank, policy, rule.name)
        for rank, policy, rule in ranked
        if not rule.methods or method.decode() in rule.methods
    ]
    if not permitting:
        return "method_not_allowed"
    _, policy, name = min(permitting)
    return f"{policy}/{name}"


def naive_connection(world: tuple[Allowlist, ...], caller: SpiffeId | None, port: int) -> str:
    rules = [(allowlist.full_name, rule) for allowlist in world for rule in allowlist.rules]
    rules = [(policy, rule) for policy, rule in rules if any(naive_names(callers, caller) for callers in rule.callers)]
    if not rules:
        return "unauthenticated" if caller is None else "caller_not_allowed"
    rules = [(policy, rule) for policy, rule in rules if not rule.ports or port in rule.ports]
    if not rules:
        return "port_not_allowed"
    quiet = sorted(f"{policy}/{rule.name}" for policy, rule in rules if not rule.methods and not rule.paths)
    return quiet[0] if quiet else "not_http"


def compiled(world: tuple[Allowlist, ...]) -> DecisionTable:
    return compile_policy(PolicySet(allowlists=world), trust_domain=OWN, http_ports=[80, 81])


def word(decision: Decision) -> str:
    return decision.rule_name if isinstance(decision, Permit) else decision.reason.value


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_the_judge_agrees_with_a_naive_one(world: tuple[Allowlist, ...]) -> None:
    """Each example judges 1,309 calls, so over 100,000 in all; every call twice: fresh, and as remembered."""
    table = compiled(world)
    known = {f"{allowlist.full_name}/{rule.name}" for allowlist in world for rule in allowlist.rules}
    for caller in EVERYBODY:
        view = table.caller(caller)
        for call in CALLS:
            decision = view.request(*call)
            assert word(decision) == naive_request(world, caller, *call), (caller, call)
            assert view.request(*call) == decision
            assert not isinstance(decision, Deny) or decision.nearest is None or decision.nearest in known
        for port in TCP_PORTS:
            assert word(view.connection(port)) == naive_connection(world, caller, port), (caller, port)


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_rules_and_documents_does_not_matter(world: tuple[Allowlist, ...], shuffle: random.Random) -> None:
    def shuffled(values: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(shuffle.sample(values, len(values)))

    other = shuffled(
        tuple(
            Allowlist(
                namespace=allowlist.namespace,
                name=allowlist.name,
                rules=shuffled(
                    tuple(
                        Rule(
                            name=rule.name,
                            callers=shuffled(rule.callers),  # type: ignore[arg-type]
                            ports=shuffled(rule.ports),  # type: ignore[arg-type]
                            methods=shuffled(rule.methods),  # type: ignore[arg-type]
                            paths=shuffled(rule.paths),  # type: ignore[arg-type]
                        )
                        for rule in allowlist.rules
                    )
                ),  # type: ignore[arg-type]
            )
            for allowlist in world
        )
    )
    first = compiled(world)
    second = compiled(other)  # type: ignore[arg-type]
    for caller in EVERYBODY:
        one, two = first.caller(caller), second.caller(caller)
        # Asked in another order, too: what is remembered must not colour what is asked next.
        answers = {call: two.request(*call) for call in shuffled(tuple(CALLS))}  # type: ignore[misc]
        assert {call: one.request(*call) for call in CALLS} == answers
        assert [one.connection(port) for port in TCP_PORTS] == [two.connection(port) for port in TCP_PORTS]


@settings(max_examples=40, deadline=None)
@given(worlds(), st.data())
def test_a_rule_more_never_turns_a_permit_into_a_denial(world: tuple[Allowlist, ...], data: st.DataObject) -> None:
    more = data.draw(worlds())
    added = tuple(Allowlist(namespace="w", name=f"more-{a.name}", rules=a.rules) for a in more)
    before = compiled(world)
    after = compiled(world + added)
    for caller in EVERYBODY:
        for call in CALLS:
            if before.caller(caller).request(*call).permitted:
                assert after.caller(caller).request(*call).permitted


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_rules_of_one_kind_of_callers_change_nothing_for_the_other(world: tuple[Allowlist, ...]) -> None:
    def only(unauthenticated: bool) -> tuple[Allowlist, ...]:
        return tuple(
            replace(
                allowlist,
                rules=tuple(
                    replace(
                        rule,
                        callers=tuple(
                            callers
                            for callers in rule.callers
                            if isinstance(callers, UnauthenticatedCallers) == unauthenticated
                        ),
                    )
                    for rule in allowlist.rules
                ),
            )
            for allowlist in world
        )

    whole, known, unknown = (compiled(lists) for lists in (world, only(False), only(True)))
    for caller in EVERYBODY:
        alone, other = (unknown, known) if caller is None else (known, unknown)
        view, expected, foreign = whole.caller(caller), alone.caller(caller), other.caller(caller)
        for call in CALLS:
            assert view.request(*call) == expected.request(*call)
            assert not foreign.request(*call).permitted
        for port in TCP_PORTS:
            assert view.connection(port) == expected.connection(port)
            assert not foreign.connection(port).permitted


# ------------------------------------------------------------------------------------------------- spelling of paths

UNRESERVED = b"abcXYZ019-._~"
WANTS_ESCAPE = b'"<>[]^`{|}'
PIECES = st.one_of(
    st.sampled_from([bytes((byte,)) for byte in UNRESERVED + b"/!$&'()*+,;=:@" + WANTS_ESCAPE]),
    st.sampled_from([b"/", b"..", b".", b"//", b";", b"%", b"%2", b"\\", b"#", b" ", b"\x00", b"\xc3", b"?"]),
    st.builds(lambda byte: b"%%%02x" % byte, st.integers(0, 255)),
    st.builds(lambda byte: b"%%%02X" % byte, st.integers(0, 255)),
)
PATHS = st.lists(PIECES, max_size=12).map(lambda pieces: b"/" + b"".join(pieces))


def meaning(path: bytes) -> list[list[tuple[str, int]]] | None:
    """A second reader of paths: segments of (kind, byte) tokens, or None if servers could differ. No code in common."""
    path = path.split(b"?")[0]
    tokens: list[tuple[str, int]] = []
    at = 0
    while at < len(path):
        byte = path[at]
        if byte == ord("%"):
            digits = path[at + 1 : at + 3].decode("latin-1")
            if len(digits) != 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                return None
            value = int(digits, 16)
            if value in (0, ord("/"), ord("\\")):
                return None
            character = chr(value)
            plain = (character.isascii() and character.isalnum()) or character in "-._~"
            tokens.append(("plain" if plain else "escaped", value))
            at += 3
            continue
        if byte <= 0x20 or byte >= 0x7F or byte in b"\\#":
            return None
        tokens.append(("escaped" if byte in WANTS_ESCAPE else "plain", byte))
        at += 1
    segments: list[list[tuple[str, int]]] = []
    for token in tokens:
        if token == ("plain", ord("/")):
            segments.append([])
        else:
            segments[-1].append(token)
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if (not segment and not last) or (("plain", ord(";")) in segment and not last):
            return None
        name: list[int] = []
        for _, byte in segment:
            if last and byte == ord(";"):
                break
            name.append(byte)
        if bytes(name) in (b".", b"..") or (segment and not name):
            return None
    return segments


@settings(max_examples=1000, deadline=None)
@given(PATHS)
def test_a_path_is_ambiguous_exactly_when_a_second_reader_says_so(path: bytes) -> None:
    assert (judged_path(path) is None) == (meaning(path) is None)


@settings(max_examples=1000, deadline=None)
@given(PATHS, st.randoms(use_true_random=False))
def test_a_path_has_one_spelling(path: bytes, dice: random.Random) -> None:
    """Escape what needs no escape, unescape it, change the case of digits: the judged path stays."""
    judged = judged_path(path)
    if judged is None:
        return
    respelled = bytearray()
    at = 0
    while at < len(judged):
        byte = judged[at]
        if byte == ord("%"):
            value = int(judged[at + 1 : at + 3], 16)
            spellings = [b"%%%02x" % value, b"%%%02X" % value]
            respelled += dice.choice([*spellings, bytes((value,))] if value in WANTS_ESCAPE else spellings)
            at += 3
            continue
        keep = chr(byte) in "/!$&'()*+,;=:@"
        respelled += (
            bytes((byte,)) if keep or dice.random() < 0.6 else dice.choice([b"%%%02x" % byte, b"%%%02X" % byte])
        )
        at += 1
    assert judged_path(bytes(respelled)) == judged
    assert judged_path(judged) == judged
    assert unquote_to_bytes(judged) == unquote_to_bytes(path.partition(b"?")[0])  # what the app reads after decoding


@settings(max_examples=1000, deadline=None)
@given(PATHS, PATHS)
def test_two_judged_paths_are_equal_exactly_when_they_mean_the_same(one: bytes, two: bytes) -> None:
    first, second = judged_path(one), judged_path(two)
    if first is not None and second is not None:
        assert (first == second) == (meaning(one) == meaning(two))


@settings(max_examples=200, deadline=None)
@given(PATHS, st.binary(max_size=8))
def test_the_query_is_not_judged(path: bytes, query: bytes) -> None:
    assert judged_path(path.partition(b"?")[0] + b"?" + query) == judged_path(path)


@given(st.binary(max_size=40))
def test_any_bytes_are_judged_or_refused(target: bytes) -> None:
    judged = judged_path(target)
    assert judged is None or judged == b"*" or (judged[:1] == b"/" and judged.isascii())


# ------------------------------------------------------------------------------------------------- parse and format

LITERALS = st.lists(PIECES.filter(lambda piece: b"?" not in piece and b"*" not in piece), min_size=1, max_size=4).map(
    b"".join
)


@st.composite
def path_templates(draw: st.DrawFn) -> PathTemplate:
    names = iter(draw(st.permutations(["a", "b_2", "C-d"])))
    segments: list[bytes | Variable] = []
    for kind in draw(st.lists(st.sampled_from(["literal", "one", "named"]), max_size=3)):
        if kind == "literal":
            judged = judged_path(b"/" + draw(LITERALS))
            if judged is not None and b"/" not in judged[1:] and len(judged) > 1 and b";" not in judged:
                segments.append(judged[1:])
        else:
            segments.append(Variable(next(names) if kind == "named" else None))
    return PathTemplate(tuple(segments) or (b"",), draw(st.booleans()) and bool(segments))


@given(path_templates())
def test_templates_parse_back_from_their_text(template: PathTemplate) -> None:
    assert parse_template(str(template)) == template


WORDS = st.text("abcXYZ019._-", min_size=1, max_size=6).filter(lambda text: text not in (".", ".."))


@given(st.text("abc019._-", min_size=1, max_size=9), st.lists(WORDS | st.just("*"), min_size=1, max_size=5))
def test_spiffe_id_patterns_parse_back_from_their_text(domain: str, segments: list[str]) -> None:
    pattern = SpiffeIdPattern(trust_domain=TrustDomain(domain), segments=tuple(segments))
    assert parse_spiffe_id_pattern(format_spiffe_id_pattern(pattern)) == pattern


@given(st.ip_addresses(), st.integers(1, 65535))
def test_addresses_parse_back_from_their_text(host: object, port: int) -> None:
    address = HostPort(str(host), port)
    problems: list[Problem] = []
    node = load_yaml(f"a: '{address}'", "f", problems)[0]
    assert MappingReader(node, "f", problems).address("a") == address
    assert problems == []


DOCUMENT_RULES = st.builds(
    lambda name, callers, ports, methods, paths: Rule(
        name=name, callers=callers, ports=ports, methods=methods, paths=paths
    ),
    st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True),  # the writer leaves 1e5 without quotes
    st.lists(CALLERS, min_size=1, max_size=3, unique=True).map(tuple),
    some(st.integers(1, 65535)),
    some(st.sampled_from(METHODS)),
    some(templates(), 3),
)


def unambiguous(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """``rules`` without those that documents refuse: for nobody, or for the same calls as another."""
    found: dict[frozenset[Callers], Rule] = {}
    for rule in rules:
        paths = {re.sub(r"\{.\}", "*", path): path for path in rule.paths}
        if rule.callers:
            found.setdefault(frozenset(rule.callers), replace(rule, paths=tuple(paths.values())))
    return tuple(found.values())


def as_document(allowlist: Allowlist, service: str) -> dict[str, object]:
    """The document that an author would write for ``allowlist``."""
    rules = []
    for rule in allowlist.rules:
        callers: list[dict[str, object]] = []
        for caller in rule.callers:
            if isinstance(caller, SpiffeIdPattern):
                callers.append({"spiffeId": format_spiffe_id_pattern(caller)})
            elif isinstance(caller, NamespaceCallers):
                callers.append({"namespace": caller.namespace})
            elif isinstance(caller, UnauthenticatedCallers):
                callers.append({"unauthenticated": True})
            else:
                callers.append({"trustDomain": str(caller.trust_domain)})
        to = {"ports": list(rule.ports), "methods": list(rule.methods), "paths": list(rule.paths)}
        to = {key: value for key, value in to.items() if value}
        rules.append({"name": rule.name, "from": callers, **({"to": to} if to else {})})
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": allowlist.name, "namespace": allowlist.namespace},
        "spec": {"service": service, "rules": rules},
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(DOCUMENT_RULES, max_size=4, unique_by=lambda rule: rule.name))
def test_an_allowlist_reads_back_from_its_document(rules: list[Rule]) -> None:
    allowlist = Allowlist(namespace="shop", name="orders.callers", rules=unambiguous(rules))
    documents, problems = read_documents(yaml.safe_dump(as_document(allowlist, "orders")), "f.yaml")
    assert problems == []
    ports = {port: "http" for rule in rules for port in rule.ports} or {80: "http"}
    binding = bind(
        documents, Surroundings(services={"shop/orders": MeshService(ports=ports, permissive=frozenset(ports))})
    )
    assert binding.errors == []
    assert binding.policies["shop/orders"].policy == PolicySet(allowlists=(allowlist,))


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter_when_bound(
    world: tuple[Allowlist, ...], shuffle: random.Random
) -> None:
    documents: list[PolicyDocument] = []
    for number, allowlist in enumerate(world):
        written = Allowlist(namespace="w", name=allowlist.name, rules=unambiguous(allowlist.rules))
        found, problems = read_documents(yaml.safe_dump(as_document(written, "orders")), f"f{number}.yaml")
        assert problems == []
        documents += found
    services = {"w/orders": MeshService(ports={80: "http", 81: "http2", 90: "tcp"}, permissive=frozenset({80}))}
    surroundings = Surroundings(services=services, trust_domain=OWN)
    assert bind(shuffle.sample(documents, len(documents)), surroundings) == bind(documents, surroundings)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    documents, problems = read_documents(text, "f.yaml")
    assert documents == [] or problems == []
    assert all(problem.line >= 1 and problem.column >= 1 and "\n" not in str(problem) for problem in problems)
