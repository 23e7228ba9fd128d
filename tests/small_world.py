"""A world so small that every call in it can be judged: what cells, diff and prove say of it is held against that.

The verdict here has no code in common with ``ringfence.policy.analysis`` nor with the engine: for each rule and each
value of each dimension ``tests.reference_policy`` says whether the one takes the other, and a call is permitted as the
rules that take all of it say. So judging a hundred thousand calls takes a moment.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
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
from tests.reference_policy import Asked, Reference, header_matches, header_speaks, host_matches, places, token_fails

OWN = TrustDomain("own.example")
FOREIGN = TrustDomain("foreign.example")
NOW = 1_000_000.0
ISSUERS = ("n/users", "n/robots")

NAMES = ("web", "orders", "ledger")
PORTS = (
    WorldPort(port=80, protocol="http"),
    WorldPort(port=90, protocol="tcp", permissive=True),
    WorldPort(port=95, protocol="auto", permissive=True),
)
CONDITIONS = ("source.authenticated", "request.method == 'GET'")

CALLERS: tuple[SpiffeId | None, ...] = (
    *(SpiffeId.workload(OWN, "n", name) for name in NAMES),
    SpiffeId.workload(OWN, "n", "job"),
    SpiffeId.workload(OWN, "m", "web"),
    SpiffeId(OWN, "/odd"),
    SpiffeId.workload(FOREIGN, "n", "web"),
    None,
)
ADDRESSES = ("10.0.0.1", "10.1.0.1", "192.0.2.1")
PATHS = (
    "/",
    "/a",
    "/a/",
    "/b",
    "/a/a",
    "/a/b",
    "/b/a",
    "/a/b/",
    "/a/b/c",
    "/c/c/c",
    "/a/a/a/a",
    "/p.S/M",
    "/p.S/N",
    "*",
)
METHODS = ("GET", "POST", "OPTIONS")
HOSTS = ("", "x.test", "deep.x.test", "other.test", "x.test.")
LINES: tuple[tuple[str, ...], ...] = ((), ("1",), ("2",), ("3",), ("1", "1"), ("1", "2"), ("3", "3"))
OTHER_LINES: tuple[tuple[str, ...], ...] = ((), ("1",))


def verified(issuer: str = ISSUERS[0], **claims: object) -> VerifiedToken:
    return VerifiedToken(issuer=issuer, claims=claims, expires=NOW + 60)


TOKENS: tuple[Token, ...] = (
    None,
    TokenRefused("a bad signature"),
    verified(),
    verified(scope="read", acr="high", auth_time=int(NOW) - 5),
    verified(ISSUERS[1], scope="read write", team="red"),
    verified(ISSUERS[1], team=["red", "blue"], amr=["otp"], auth_time=int(NOW) - 500),
)


def _complete_paths() -> tuple[str, ...]:
    """One of each class of paths that templates can tell apart, and many more."""
    words = [word for size in (1, 2, 3) for word in itertools.product(("a", "b", "c", "z", "p.S", "M"), repeat=size)]
    paths = ["/" + "/".join(word) for word in words]
    return ("/", *paths, *(f"{path}/" for path in paths), *PATHS[-4:])


def _complete_tokens() -> Iterator[Token]:
    yield None
    yield TokenRefused("a bad signature")
    parts: list[list[dict[str, object]]] = [
        [{}, {"scope": "read"}, {"scope": "write"}, {"scope": "read write"}],
        [{}, {"team": "red"}, {"team": "blue"}, {"team": ["red", "blue"]}],
        [{}, {"acr": "high"}],
        [{}, {"amr": ["otp"]}],
        [{}, {"auth_time": int(NOW) - 10}, {"auth_time": int(NOW) - 1000}],
    ]
    for issuer, claims in itertools.product(ISSUERS, itertools.product(*parts)):
        yield verified(issuer, **{name: value for part in claims for name, value in part.items()})


@dataclass(frozen=True)
class Axis:
    """The values of each dimension; a draw takes some of each, so that all together stay few."""

    callers: Sequence[SpiffeId | None] = CALLERS
    addresses: Sequence[str] = ADDRESSES[:1]
    paths: Sequence[str] = PATHS
    methods: Sequence[str] = METHODS
    hosts: Sequence[str] = HOSTS[:1]
    lines: Sequence[tuple[str, ...]] = LINES[:1]
    other_lines: Sequence[tuple[str, ...]] = OTHER_LINES[:1]
    tokens: Sequence[Token] = TOKENS[:1]
    conditions: Sequence[str] = ()


# Where only the outcomes count, and not which calls have them, each dimension can be complete.
COMPLETE = Axis(
    callers=(
        *(
            SpiffeId.workload(domain, space, name)
            for domain in (OWN, FOREIGN)
            for space in "nmo"
            for name in (*NAMES, "job")
        ),
        SpiffeId(OWN, "/odd"),
        SpiffeId.workload(TrustDomain("third.example"), "n", "web"),
        None,
    ),
    addresses=("10.0.0.1", "10.1.0.2", "10.1.0.1", "192.0.2.1", "2001:db8::1"),
    paths=_complete_paths(),
    hosts=(*HOSTS, "other", "deep.x.test.", "other.test.", "other."),
    lines=(*LINES, ("2", "2"), ("2", "3")),
    other_lines=(*OTHER_LINES, ("3",), ("1", "1"), ("3", "3")),
    tokens=tuple(_complete_tokens()),
    conditions=CONDITIONS,
)


# -------------------------------------------------------------------------------------------------------- policies


def some(values: st.SearchStrategy[object], size: int = 2, least: int = 0) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(values, min_size=least, max_size=size, unique=True).map(tuple)


NAMED = st.one_of(
    st.builds(
        lambda domain, space, name: SpiffeIdPattern(trust_domain=domain, segments=("ns", space, "sa", name)),
        st.sampled_from([OWN, OWN, FOREIGN]),
        st.sampled_from(["n", "m", "*"]),
        st.sampled_from(["web", "orders", "ledger", "*"]),
    ),
    st.sampled_from([NamespaceCallers(namespace="n"), NamespaceCallers(namespace="m")]),
    st.sampled_from([TrustDomainCallers(trust_domain=OWN), TrustDomainCallers(trust_domain=FOREIGN)]),
    st.just(UnauthenticatedCallers()),
    st.just(AuthenticatedCallers()),
)
ORIGINS: st.SearchStrategy[Callers] = st.one_of(
    NAMED,
    NAMED,
    st.builds(
        lambda callers, cidrs: NarrowedCallers(callers=callers, cidrs=cidrs),
        NAMED,
        some(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32", "2001:db8::/32"]), least=1),
    ),
)
TEMPLATES = st.sampled_from(
    ["/", "/a", "/a/", "/b", "/a/{id}", "/{x}/b", "/*/*", "/a/**", "/**", "/a/b/**", "/{x}/{y}/c", "/a/a", "/*"]
)
HEADERS = st.one_of(
    st.builds(lambda values: HeaderMatch(name="x", values=values), some(st.sampled_from(["1", "2"]), least=1)),
    st.builds(lambda present: HeaderMatch(name="x", present=present), st.booleans()),
    st.builds(lambda present: HeaderMatch(name="y", present=present), st.booleans()),
    st.just(HeaderMatch(name="y", values=("1",))),
)
TOKEN_MATCHES = st.builds(
    TokenMatch,
    issuers=some(st.sampled_from(ISSUERS), 1),
    scopes=some(st.sampled_from(["read", "write"])),
    claims=some(st.sampled_from([("team", ("red",)), ("team", ("blue", "green"))]), 1),
    acr=some(st.sampled_from(["high"]), 1),
    amr=some(st.sampled_from(["otp"]), 1),
    max_age_seconds=st.sampled_from([None, None, 10, 1000]),
)
GRPC = st.sampled_from([GrpcMethod(service="p.S"), GrpcMethod(service="p.S", method="M")])


@dataclass(frozen=True)
class Language:
    """Which words rules may have, so that the sum of a draw's dimensions stays small; callers, ports, methods and paths
    they always may."""

    narrowed: bool = False
    hosts: bool = False
    headers: bool = False
    tokens: bool = False
    conditions: bool = False
    denylists: bool = True

    @property
    def axis(self) -> Axis:
        few = self.headers or self.tokens
        return Axis(
            callers=(CALLERS[0], CALLERS[3], *CALLERS[6:]) if few else CALLERS,
            addresses=ADDRESSES if self.narrowed else ADDRESSES[:1],
            paths=PATHS[1:7] + PATHS[11:] if few else PATHS,
            hosts=HOSTS if self.hosts else HOSTS[:1],
            lines=LINES if self.headers else LINES[:1],
            other_lines=OTHER_LINES if self.headers else OTHER_LINES[:1],
            tokens=TOKENS if self.tokens else TOKENS[:1],
            conditions=CONDITIONS if self.conditions else (),
        )


WHOLE = Language(narrowed=True, hosts=True, headers=True, tokens=True, conditions=True)
LANGUAGES = (
    Language(),
    Language(narrowed=True, hosts=True),
    Language(headers=True, conditions=True),
    Language(tokens=True, hosts=True),
    Language(tokens=True, conditions=True),
)


@st.composite
def rules(draw: st.DrawFn, language: Language, names: str, effect: type) -> tuple[Rule, ...]:
    made = []
    for name in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)):
        callers = draw(some(ORIGINS if language.narrowed else NAMED, least=1))
        rule = Rule(name=name, callers=callers)  # type: ignore[arg-type]
        # A denylist that says little says it of many calls, so that its other words come to matter.
        if effect is Allowlist or draw(st.booleans()):
            rule = replace(
                rule,
                ports=draw(some(st.sampled_from([80, 90, 95]), 1)),
                methods=draw(some(st.sampled_from(["GET", "POST"]))),
                paths=draw(some(TEMPLATES)),
            )
        if language.hosts:
            rule = replace(rule, hosts=draw(some(st.sampled_from(["x.test", "*.x.test", "*.test"]))))
        if language.headers:
            rule = replace(rule, headers=draw(some(HEADERS)))
        if language.tokens and effect is Allowlist:
            rule = replace(rule, token=draw(st.none() | TOKEN_MATCHES), grpc=draw(some(GRPC, 1)))  # type: ignore[arg-type]
        if language.conditions:
            rule = replace(rule, when=draw(st.sampled_from(["", *CONDITIONS])))
        made.append(rule)
    return tuple(made)


@st.composite
def policies(draw: st.DrawFn, language: Language) -> PolicySet:
    allowlists = tuple(
        Allowlist(namespace="n", name=name, rules=draw(rules(language, "abcd", Allowlist)))
        for name in draw(st.lists(st.sampled_from(["p", "q"]), max_size=2, unique=True))
    )
    if not language.denylists:
        return PolicySet(allowlists=allowlists)
    denied = draw(rules(language, "ab", Denylist))
    until = draw(st.sampled_from([None, None, None, NOW - 1, NOW + 1]))
    denylists = (Denylist(namespace="n", name="d", rules=denied),) if denied else ()
    return PolicySet(allowlists=allowlists, denylists=denylists, observe_until=until)


def world(given: Mapping[str, PolicySet], issuers: Sequence[str] = ISSUERS) -> World:
    """Three services; those that ``given`` does not speak of permit nothing. Each believes tokens of ``issuers``."""
    services = tuple(
        WorldService(
            namespace="n",
            name=name,
            spiffe_id=SpiffeId.workload(OWN, "n", name),
            ports=PORTS,
            policy=given.get(name, PolicySet()),
            token_issuers=tuple(
                TokenIssuer(name=issuer, issuer=f"https://{issuer}.test", audiences=("mesh",)) for issuer in issuers
            ),
        )
        for name in NAMES
    )
    return World(trust_domain=OWN, services=services)


# --------------------------------------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Judged:
    """A call where just the conditions ``true`` are, and whether each policy permits it."""

    call: Call
    true: frozenset[str]
    permitted: tuple[bool, ...]


@dataclass
class Brute:
    """Judges every call of a service by each of some policies."""

    sets: Sequence[PolicySet]
    axis: Axis
    service: str = "n/ledger"
    believed: Sequence[Sequence[str]] = ()  # whose tokens, by policy; without: everybody's
    _rules: list[tuple[int, bool, Rule]] = field(init=False)
    _said_masks: list[set[int]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._rules = [
            (at, refuses, rule)
            for at, policy in enumerate(self.sets)
            for refuses, lists in ((False, policy.allowlists), (True, policy.denylists))
            for one in lists
            for rule in one.rules
        ]

    def all(self) -> Iterator[Judged]:
        """Every call with every outcome of the conditions."""
        axis = self.axis
        conditions = self._conditions()
        said = self._said()
        verdicts: dict[int, tuple[bool, ...]] = {}
        for caller, address in itertools.product(axis.callers, axis.addresses):
            by_caller = self._calling(caller, address)
            for port, opaque in self._entries(caller):
                start = by_caller & self._entering(port, opaque)
                met_by = [(true, self._met(true, opaque, port)) for true in conditions]
                call = Call(caller=caller, service=self.service, port=port, address=address, opaque=opaque, time=NOW)
                for request, mask in [(call, start)] if opaque else self._requests(call, start, said):
                    for true, met in met_by:
                        if mask & met not in verdicts:
                            verdicts[mask & met] = self._verdicts(mask & met)
                        yield Judged(request, true, verdicts[mask & met])

    def outcomes(self, caller: SpiffeId | None) -> set[tuple[bool, ...]]:
        """All that calls of ``caller`` come to, each call once however many are alike."""
        calling = {self._calling(caller, address) for address in self.axis.addresses}
        found: set[int] = set()
        for port, opaque in self._entries(caller):
            masks = {one & self._entering(port, opaque) for one in calling}
            for said in [{-1}] if opaque else self._masks():
                masks = {one & other for one in masks for other in said}
            met = {self._met(true, opaque, port) for true in self._conditions()}
            found |= {one & other for one in masks for other in met}
        return {self._verdicts(mask) for mask in found}

    def _masks(self) -> Iterator[set[int]]:
        """For each part of a request, the rules that take it, each set once."""
        if self._said_masks is None:
            self._said_masks = [{mask for _, mask in part} for part in self._parts()]
        yield from self._said_masks

    def one(self, call: Call, true: frozenset[str]) -> tuple[bool, ...]:
        """Whether each policy permits one call, where just the conditions ``true`` are; it may be any call."""
        mask = self._calling(call.caller, call.address) & self._entering(call.port, call.opaque)
        if not call.opaque:
            mask &= self._mask(lambda _, rule: any(True for _ in places(rule, call.path, call.method)))
            mask &= self._mask(lambda refuses, rule: _asks(rule, call.host, refuses))
            mask &= self._mask(lambda refuses, rule: _carries(rule, call, refuses))
            mask &= self._showing(call.token)
        return self._verdicts(mask & self._met(true, call.opaque, call.port))

    def _calling(self, caller: SpiffeId | None, address: str) -> int:
        reference = Reference(policy=PolicySet(), trust_domain=OWN)
        asked = Asked(caller=caller, port=0, method=None, address=address)
        return self._mask(
            lambda refuses, rule: any(
                reference.names(one, asked) and reference.near(one, asked, unknown=refuses) for one in rule.callers
            )
        )

    def _entering(self, port: int, opaque: bool) -> int:
        """On an auto port a rule that refuses requests refuses whatever nobody reads."""

        def takes(refuses: bool, rule: Rule) -> bool:
            if rule.ports and port not in rule.ports:
                return False
            if opaque and refuses:
                return port == 95 or not rule.speaks_http
            return not opaque or not (rule.speaks_http or "request." in rule.when)

        return self._mask(takes)

    def _showing(self, token: Token) -> int:
        """A token of whom a policy does not believe is none."""
        found = 0
        for at, (side, _, rule) in enumerate(self._rules):
            unknown = isinstance(token, VerifiedToken) and self.believed and token.issuer not in self.believed[side]
            found |= _shows(rule, None if unknown else token) << at
        return found

    def _met(self, true: frozenset[str], opaque: bool, port: int) -> int:
        def met(refuses: bool, rule: Rule) -> bool:
            unread = opaque and refuses and port == 95
            return (
                rule.when in ("", *true)
                or (opaque and refuses and rule.speaks_http)
                or (unread and any(word in rule.when for word in ("request.", "token")))
            )

        return self._mask(met)

    @staticmethod
    def _entries(caller: SpiffeId | None) -> Iterator[tuple[int, bool]]:
        for port in PORTS:
            if caller is None and not port.permissive:
                continue
            if port.protocol != "tcp":
                yield port.port, False
            if port.protocol != "http":
                yield port.port, True

    def _conditions(self) -> list[frozenset[str]]:
        texts = self.axis.conditions
        return [frozenset(true) for size in range(len(texts) + 1) for true in itertools.combinations(texts, size)]

    def _said(self) -> list[tuple[tuple[str, str, str, tuple[tuple[str, str], ...], Token], int]]:
        """Every method, path, host, headers and token, with the rules that take them."""
        return [
            ((method, path, host, headers, token), one & two & three & four)
            for ((method, path), one), (host, two), (headers, three), (token, four) in itertools.product(*self._parts())
        ]

    def _parts(self) -> tuple[list[tuple[Any, int]], ...]:
        """Places, hosts, headers and tokens, each with the rules that take it."""
        axis = self.axis
        return (
            [
                ((method, path), self._mask(lambda _, rule, p=path, m=method: any(True for _ in places(rule, p, m))))
                for path, method in itertools.product(axis.paths, axis.methods)
                if path != "*" or method == "OPTIONS"
            ],
            [(host, self._mask(lambda refuses, rule, host=host: _asks(rule, host, refuses))) for host in axis.hosts],
            [
                (call.headers, self._mask(lambda refuses, rule, call=call: _carries(rule, call, refuses)))
                for call in itertools.starmap(carrying, itertools.product(axis.lines, axis.other_lines))
            ],
            [(token, self._showing(token)) for token in axis.tokens],
        )

    @staticmethod
    def _requests(call: Call, start: int, said: list[Any]) -> Iterator[tuple[Call, int]]:
        for (method, path, host, headers, token), mask in said:
            request = Call(
                caller=call.caller,
                service=call.service,
                port=call.port,
                address=call.address,
                method=method,
                path=path,
                host=host,
                headers=headers,
                token=token,
                time=NOW,
            )
            yield request, start & mask

    def _mask(self, takes: Callable[[bool, Rule], bool]) -> int:
        return sum(1 << at for at, (_, refuses, rule) in enumerate(self._rules) if takes(refuses, rule))

    def _verdicts(self, met: int) -> tuple[bool, ...]:
        verdicts = []
        for at, policy in enumerate(self.sets):
            mine = [(refuses, met >> number & 1) for number, (side, refuses, _) in enumerate(self._rules) if side == at]
            observed = policy.observe_until is not None and policy.observe_until > NOW
            denied = any(refuses and hit for refuses, hit in mine)
            verdicts.append(not denied and (observed or any(hit and not refuses for refuses, hit in mine)))
        return tuple(verdicts)


def _asks(rule: Rule, host: str, refuses: bool) -> bool:
    if refuses:
        host = host.removesuffix(".")
        return not rule.hosts or not host or any(host_matches(wanted, host) for wanted in rule.hosts)
    return not rule.hosts or any(host_matches(wanted, host) for wanted in rule.hosts)


def carrying(x: tuple[str, ...], y: tuple[str, ...]) -> Call:
    """A call with these lines of the two headers."""
    headers = (*(("x", value) for value in x), *(("y", value) for value in y))
    return Call(caller=None, service="", port=0, headers=headers)


def _carries(rule: Rule, call: Call, refuses: bool) -> bool:
    return all((header_speaks if refuses else header_matches)(match, call.facts) for match in rule.headers)


def _shows(rule: Rule, token: Token) -> bool:
    facts = Call(caller=None, service="", port=0, token=token, time=NOW).facts
    return rule.token is None or token_fails(rule.token, facts, ()) is None
