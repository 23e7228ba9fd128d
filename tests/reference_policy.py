"""A second judge, which says what policy means: slow, obvious, one rule at a time, with no code of the engine.

It reads ``ringfence.policy.model`` as its words say. The engine must agree with it on every call
(``tests/property/test_policy_engine.py``). All that it takes from the product are the values, the spelling of paths
(which has a second reader of its own in ``tests/property/test_policy_properties.py``) and the closed set of reasons.

A denial names its nearest rule where the meaning alone tells which one that is; for ``caller_not_allowed`` and
``path_not_allowed`` it is None, and ``agrees`` does not look at it.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cel_expr_python import cel

from ringfence.policy.decision import Decision, Deny, Permit, StepUp
from ringfence.policy.facts import NO_FACTS, Facts, TokenRefused, VerifiedToken
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
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
from ringfence.policy.paths import judged_path
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

ORDER = list(DenyReason)
Rank = tuple[int, ...]  # segment by segment: 0 literal, 1 any one, 2 the rest; less is more specific
PATHLESS: Rank = (3,)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One call: a request, or with ``method`` None a connection of opaque TCP."""

    caller: SpiffeId | None
    port: int
    method: str | None
    target: bytes = b""
    address: str = ""
    facts: Facts = NO_FACTS


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The meaning of one policy at one workload."""

    policy: PolicySet
    trust_domain: TrustDomain
    http_ports: Collection[int] = ()
    maybe_http_ports: Collection[int] = ()
    service: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    issuers: Collection[TokenIssuer] = ()

    def decide(self, asked: Asked) -> Decision:
        """The verdict, in the order of its steps."""
        observed = self.policy.observe_until is not None and 0 < asked.facts.now < self.policy.observe_until
        allow = [
            (f"{each.full_name}/{rule.name}", rule, each.full_name)
            for each in self.policy.allowlists
            for rule in each.rules
        ]
        if asked.caller is not None and not asked.caller.path:
            return Deny(DenyReason.UNAUTHENTICATED)
        named = [entry for entry in allow if any(self.names(callers, asked) for callers in entry[1].callers)]
        if asked.caller is None and not named and not observed:
            return Deny(DenyReason.UNAUTHENTICATED)
        path: str | None = None
        if asked.method is not None:
            judged = judged_path(asked.target)
            if judged is None or (judged == b"*" and asked.method != "OPTIONS"):
                return Deny(DenyReason.PATH_AMBIGUOUS)
            path = judged.decode("ascii")
        refusing = self.refusing(asked, path)
        if refusing is not None:
            return Deny(DenyReason.DENYLISTED, refusing)
        evaded = self.evaded(asked) if asked.method is None else None
        if observed and asked.method is None and (asked.port in self.http_ports or evaded is not None):
            return Deny(DenyReason.NOT_HTTP)  # nobody could say of these bytes what rule would refuse them
        if evaded is not None and self.reached(asked, named):
            return Deny(DenyReason.NOT_HTTP, evaded)
        decision = self.allowed(asked, path, sorted(named, key=lambda entry: (entry[2], entry[1].name)))
        if isinstance(decision, Deny) and observed:
            return Permit("", "", would_deny=decision.reason, nearest=decision.nearest)
        return decision

    # ------------------------------------------------------------------------------------------------- denylists

    def refusing(self, asked: Asked, path: str | None) -> str | None:
        """The full name of the rule of a denylist that speaks of the call; whatever is not known speaks for it."""
        found: list[tuple[bool, bool, Rank, str, str]] = []
        for denylist in self.policy.denylists:
            for rule in denylist.rules:
                if not any(
                    self.names(callers, asked) and self.near(callers, asked, unknown=True) for callers in rule.callers
                ):
                    continue
                if rule.ports and asked.port not in rule.ports:
                    continue
                rank, as_cut = PATHLESS, False
                if path is None:
                    if rule.speaks_http:
                        continue
                else:
                    ranks = list(places(rule, path, asked.method))
                    as_cut = not ranks
                    ranks = ranks or list(places(rule, cut(path), asked.method))
                    if not ranks:
                        continue
                    rank = min(ranks)
                    host = asked.facts.host.decode("latin-1").rstrip(".")
                    if rule.hosts and host and not any(host_matches(wanted, host) for wanted in rule.hosts):
                        continue
                    if not all(header_speaks(match, asked.facts) for match in rule.headers):
                        continue
                if rule.when and all(self.condition(rule.when, *one) is False for one in readings(asked, path)):
                    continue
                found.append((needs_facts(rule), as_cut, rank, denylist.full_name, rule.name))
        if not found:
            return None
        *_, policy, name = min(found)
        return f"{policy}/{name}"

    def evaded(self, asked: Asked) -> str | None:
        """The first rule of a denylist that speaks of requests of the caller's, on a port that may carry them: bytes
        that nobody reads would evade it."""
        if asked.port not in self.maybe_http_ports:
            return None
        found = [
            (denylist.full_name, rule.name)
            for denylist in self.policy.denylists
            for rule in denylist.rules
            if (rule.speaks_http or any(word in rule.when for word in ("request.", "token")))
            and (not rule.ports or asked.port in rule.ports)
            and any(self.names(callers, asked) and self.near(callers, asked, unknown=True) for callers in rule.callers)
        ]
        return "/".join(min(found)) if found else None

    def reached(self, asked: Asked, named: list[tuple[str, Rule, str]]) -> bool:
        """Whether any allow rule is for the caller at its address and for the port."""
        return any(
            (not rule.ports or asked.port in rule.ports)
            and any(self.names(callers, asked) and self.near(callers, asked, unknown=False) for callers in rule.callers)
            for _, rule, _ in named
        )

    # ------------------------------------------------------------------------------------------------- allowlists

    def allowed(self, asked: Asked, path: str | None, named: list[tuple[str, Rule, str]]) -> Decision:
        """The verdict of the allowlists by ``named``, the rules that name the caller, in order of their names."""
        if not named:
            reason = DenyReason.UNAUTHENTICATED if asked.caller is None else DenyReason.CALLER_NOT_ALLOWED
            return Deny(reason)
        permitted: list[tuple[bool, Rank, int, Permit]] = []
        failed: list[tuple[int, Rank, int, Deny]] = []
        for number, (full_name, rule, policy) in enumerate(named):
            rank, reason = self.fails(rule, asked, path)
            if reason is None:
                permitted.append((needs_facts(rule), rank, number, Permit(policy, rule.name)))
                continue
            step_up = None
            if reason is DenyReason.STEP_UP_REQUIRED:
                assert rule.token is not None
                step_up = StepUp(rule.token.acr, rule.token.max_age_seconds)
            failed.append((-ORDER.index(reason), rank, number, Deny(reason, full_name, step_up)))
        if permitted:
            return min(permitted, key=lambda entry: entry[:3])[3]
        decision = min(failed, key=lambda entry: entry[:3])[3]
        return Deny(decision.reason) if decision.reason is DenyReason.PATH_NOT_ALLOWED else decision

    def fails(self, rule: Rule, asked: Asked, path: str | None) -> tuple[Rank, DenyReason | None]:
        """Why ``rule`` does not permit the call, first of all, None if it does; and how specific its path is."""
        if not any(self.names(c, asked) and self.near(c, asked, unknown=False) for c in rule.callers):
            return (), DenyReason.ADDRESS_NOT_ALLOWED
        if rule.ports and asked.port not in rule.ports:
            return (), DenyReason.PORT_NOT_ALLOWED
        if path is None:
            reads = any(word in rule.when for word in ("request.", "token"))
            if asked.port in self.http_ports or rule.speaks_http or reads:
                return (), DenyReason.NOT_HTTP
            holds = not rule.when or self.condition(rule.when, asked, path) is True
            return (), None if holds else DenyReason.CONDITION_NOT_MET
        ranks = list(places(rule, path, None))
        if not ranks:
            return (), DenyReason.PATH_NOT_ALLOWED
        rank = min(ranks)
        ranks = list(places(rule, path, asked.method))
        if not ranks:
            return rank, DenyReason.METHOD_NOT_ALLOWED
        rank = min(ranks)
        host = asked.facts.host.decode("latin-1")
        if rule.hosts and not any(host_matches(wanted, host) for wanted in rule.hosts):
            return rank, DenyReason.HOST_NOT_ALLOWED
        if not all(header_matches(match, asked.facts) for match in rule.headers):
            return rank, DenyReason.HEADER_NOT_ALLOWED
        if rule.token is not None and (reason := token_fails(rule.token, asked.facts, self.issuers)):
            return rank, reason
        if rule.when and self.condition(rule.when, asked, path) is not True:
            return rank, DenyReason.CONDITION_NOT_MET
        return rank, None

    # ------------------------------------------------------------------------------------------------- callers

    def names(self, callers: Callers, asked: Asked) -> bool:
        """Whether the caller is meant, wherever it calls from."""
        if isinstance(callers, NarrowedCallers):
            return self.names(callers.callers, asked)
        caller = asked.caller
        if caller is None or isinstance(callers, UnauthenticatedCallers):
            return caller is None and isinstance(callers, UnauthenticatedCallers)
        words = caller.path.split("/")[1:]
        if isinstance(callers, AuthenticatedCallers):
            return True
        if isinstance(callers, TrustDomainCallers):
            return caller.trust_domain == callers.trust_domain
        if isinstance(callers, NamespaceCallers):
            own = caller.trust_domain == self.trust_domain
            return own and len(words) == 4 and words[:3] == ["ns", callers.namespace, "sa"]
        assert isinstance(callers, SpiffeIdPattern)
        return (
            caller.trust_domain == callers.trust_domain
            and len(words) == len(callers.segments)
            and all(wanted in ("*", word) for wanted, word in zip(callers.segments, words, strict=True))
        )

    @staticmethod
    def near(callers: Callers, asked: Asked, *, unknown: bool) -> bool:
        """Whether the caller's address is one to which ``callers`` is narrowed; ``unknown`` if there is none."""
        if not isinstance(callers, NarrowedCallers):
            return True
        if not asked.address:
            return unknown
        return any(plain(asked.address) in ipaddress.ip_network(cidr) for cidr in callers.cidrs)

    # ------------------------------------------------------------------------------------------------- conditions

    def condition(self, text: str, asked: Asked, path: str | None) -> bool | None:
        """Whether the condition holds; None where it cannot be told."""
        namespace, _, service = self.service.rpartition("/")
        caller, facts = asked.caller, asked.facts
        words = caller.path.split("/")[1:] if caller is not None else []
        is_workload = len(words) == 4 and words[0] == "ns" and words[2] == "sa"
        source = {
            "spiffe_id": str(caller) if caller is not None else "",
            "trust_domain": str(caller.trust_domain) if caller is not None else "",
            "namespace": words[1] if is_workload else "",
            "service_account": words[3] if is_workload else "",
            "authenticated": caller is not None,
        }
        if asked.address:
            source["address"] = str(plain(asked.address))
        request: dict[str, object] = {"method": "", "path": "", "host": "", "headers": {}}
        if path is not None:
            request = {"method": asked.method, "path": path, "host": facts.host.decode("latin-1")}
            with contextlib.suppress(UnicodeDecodeError):
                request["headers"] = AllHeaders(facts).read(text)
        given = facts.token() if path is not None else None
        token: object = None
        if isinstance(given, VerifiedToken) and not facts.now > given.expires:
            token = {"issuer": given.issuer, "scopes": sorted(scopes(given)), "claims": dict(given.claims)}
            if isinstance(given.claims.get("sub"), str):
                token = {**token, "subject": given.claims["sub"]}
        values: dict[str, object] = {
            "source": source,
            "destination": {
                "service": service,
                "namespace": namespace,
                "port": asked.port,
                "labels": dict(self.labels),
            },
            "request": request,
            "token": token,
        }
        if facts.now > 0:
            values["now"] = datetime.datetime.fromtimestamp(facts.now, datetime.UTC)
        try:
            value = program(text).eval(data=values).value()
        except RuntimeError:
            return None
        return value if isinstance(value, bool) else None


def plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; one of IPv4 in the form of IPv6 is what it is."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@functools.cache
def program(text: str) -> cel.Expression:
    kinds = dict.fromkeys(("source", "destination", "request", "token"), cel.Type.DYN)
    return cel.NewEnv(variables={**kinds, "now": cel.Type.TIMESTAMP}).compile(text)


@dataclass(frozen=True)
class AllHeaders:
    """Headers as a condition sees them; facts do not list their names, so those in its text are asked for."""

    facts: Facts

    def read(self, text: str) -> dict[str, str]:
        found = {}
        for word in text.replace(".", " ").replace('"', " ").replace("'", " ").replace(")", " ").split():
            values = self.facts.header(word.encode()) if word.isascii() else ()
            if values:
                found[word] = b",".join(values).decode()
        return found


def needs_facts(rule: Rule) -> bool:
    """Whether it says more than callers, ports, methods and paths; of rules that permit, one that does not is named."""
    return bool(rule.hosts or rule.headers or rule.token is not None or rule.when)


class Picked:
    """Facts as an app reads them that looks at one of several values of a header."""

    def __init__(self, facts: Facts, at: int) -> None:
        self.now, self.host, self.token = facts.now, facts.host, facts.token
        self.all, self.at = facts.header, at

    def header(self, name: bytes) -> Sequence[bytes]:
        return [self.all(name)[self.at]] if self.all(name) else []


def readings(asked: Asked, path: str | None) -> Iterator[tuple[Asked, str | None]]:
    """All that an app may take a call for."""
    yield asked, path
    if path is not None:
        for facts in (asked.facts, Picked(asked.facts, 0), Picked(asked.facts, -1)):
            yield replace(asked, facts=facts), path
            yield replace(asked, facts=facts), cut(path)


def cut(path: str) -> str:
    """The path to a server that takes no parameters."""
    return re.split(";|%3B", path, maxsplit=1)[0]


def places(rule: Rule, path: str, method: str | None) -> Iterator[Rank]:
    """How specific each of the rule's paths is that matches, and that is open to ``method`` (None: whichever)."""
    open_to_method = method is None or not rule.methods or method in rule.methods
    if not rule.paths and not rule.grpc and open_to_method:
        yield PATHLESS
    for template in rule.paths:
        rank = matched(template, path)
        if rank is not None and open_to_method:
            yield rank
    for grpc in rule.grpc:
        rank = matched(f"/{grpc.service}/{grpc.method or '*'}", path)
        if rank is not None and open_to_method and method in (None, "POST"):
            yield rank


def matched(template: str, path: str) -> Rank | None:
    """How specific the match is; None if there is none."""
    if path == "*":
        return None
    wanted, given = template[1:].split("/"), path[1:].split("/")
    ranks: list[int] = []
    for at, word in enumerate(wanted):
        if word == "**":
            return (*ranks, 2)
        if at >= len(given):
            return None
        if word == "*" or word.startswith("{"):
            if given[at] == "":
                return None
            ranks.append(1)
        elif word == given[at]:
            ranks.append(0)
        else:
            return None
    return tuple(ranks) if len(wanted) == len(given) else None


def host_matches(wanted: str, host: str) -> bool:
    if wanted.startswith("*."):
        return host.endswith(wanted[1:]) and len(host) > len(wanted) - 1
    return host == wanted


def header_matches(match: HeaderMatch, facts: Facts) -> bool:
    """For an allow rule: there exactly once with a value of those, or simply there, or not."""
    values = facts.header(match.name.encode())
    if match.values:
        return len(values) == 1 and values[0] in [value.encode() for value in match.values]
    return bool(values) == match.present


def header_speaks(match: HeaderMatch, facts: Facts) -> bool:
    """For a deny rule: one that is there twice has each of its values, so that a second one is no way round it."""
    values = facts.header(match.name.encode())
    if match.values:
        return any(value in [wanted.encode() for wanted in match.values] for value in values)
    return bool(values) == match.present


# ----------------------------------------------------------------------------------------------------- tokens


def token_fails(match: TokenMatch, facts: Facts, issuers: Collection[TokenIssuer]) -> DenyReason | None:
    token = facts.token()
    if token is None:
        return DenyReason.TOKEN_MISSING
    if isinstance(token, TokenRefused) or facts.now > token.expires:
        return DenyReason.TOKEN_INVALID
    if match.issuers and token.issuer not in match.issuers:
        return DenyReason.TOKEN_INSUFFICIENT
    if not set(match.scopes) <= scopes(token):
        return DenyReason.TOKEN_INSUFFICIENT
    for name, wanted in match.claims:
        if not set(wanted) & set(claim_texts(claim(token.claims, name))):
            return DenyReason.TOKEN_INSUFFICIENT
    if match.acr and token.claims.get("acr") not in match.acr:
        return DenyReason.STEP_UP_REQUIRED
    given = token.claims.get("amr")
    if not set(match.amr) <= set(claim_texts(given) if isinstance(given, list) else ()):
        return DenyReason.STEP_UP_REQUIRED
    if match.max_age_seconds is not None:
        at = token.claims.get("auth_time")
        if isinstance(at, bool) or not isinstance(at, int | float) or facts.now <= 0:
            return DenyReason.STEP_UP_REQUIRED
        leeway = next((each.leeway_seconds for each in issuers if each.name == token.issuer), 30)
        if not -leeway <= facts.now - at <= match.max_age_seconds:
            return DenyReason.STEP_UP_REQUIRED
    return None


def scopes(token: VerifiedToken) -> set[str]:
    """Words of ``scope`` (RFC 8693) and of ``scp``, each a text of words or a list of them."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        given = token.claims.get(name)
        if isinstance(given, str):
            found |= set(given.split(" ")) - {""}
        elif isinstance(given, list):
            found |= {word for word in given if isinstance(word, str)}
    return found


def claim(claims: Mapping[str, object], name: str) -> object:
    """The claim of that very name, else the one to which its dots lead."""
    if name in claims:
        return claims[name]
    value: object = claims
    for word in name.split("."):
        value = value.get(word) if isinstance(value, Mapping) else None
    return value


def claim_texts(value: object) -> list[str]:
    """What a claim may be compared with: texts, whole numbers and truth, or those in a list."""
    if isinstance(value, list):
        return [text for part in value if not isinstance(part, list) for text in claim_texts(part)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)] if isinstance(value, str | int) else []


def agrees(ours: Decision, reference: Decision) -> bool:
    """Whether two verdicts are the same, as far as the reference says."""
    if isinstance(reference, Permit) != isinstance(ours, Permit):
        return False
    if isinstance(ours, Permit) and isinstance(reference, Permit):
        if reference.nearest is None and reference.would_deny is not None:
            return (ours.policy, ours.rule, ours.would_deny) == ("", "", reference.would_deny)
        return ours == reference
    assert isinstance(ours, Deny)
    assert isinstance(reference, Deny)
    if reference.nearest is None:
        return (ours.reason, ours.step_up) == (reference.reason, reference.step_up)
    return ours == reference
