"""Policy documents: YAML text to checked values with their places. Pure; next stop ``bind``.

A document is read to its end whatever is wrong with it, so that its author sees every error at once. A rule with an
error is left out, never read in part: a rule that lost a bad path would permit every path.

    apiVersion: ringfence.io/v1alpha1
    kind: Allowlist
    metadata: {name: orders-callers, namespace: shop}
    spec:
      service: orders                       # in metadata.namespace
      rules:
        - name: web-reads
          from:                             # any one of them
            - spiffeId: spiffe://shop.example/ns/shop/sa/web
            - namespace: shop
            - trustDomain: partner.example
            - unauthenticated: true         # who shows no identity, on permissive ports
          to:                               # all of them; what is absent is open
            ports: [8080]
            methods: [GET, POST]
            paths: ["/orders", "/orders/{id}"]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.callers import PatternError, parse_spiffe_id_pattern
from ringfence.policy.envelope import LABEL, NAME_MEND, Envelope, read_kinds, read_label
from ringfence.policy.lists import read_items, read_list, read_method, read_path, read_port
from ringfence.policy.model import (
    Allowlist,
    Callers,
    NamespaceCallers,
    Rule,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.yamlnodes import MappingReader, ValueReader
from ringfence.spiffe import SpiffeIdError, TrustDomain

KIND: Final = "Allowlist"
LIMIT_RULES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePlaces:
    """Where the parts of a rule stand: its name, each of its ports, and, if it has them, its first HTTP word and its
    ``unauthenticated``."""

    name: Place
    ports: tuple[Place, ...]
    http: Place | None
    unauthenticated: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowlistDocument:
    """An allowlist as written, ``places`` one for each rule; ``service`` is a name in the allowlist's namespace."""

    allowlist: Allowlist
    service: str
    name_place: Place
    service_place: Place
    places: tuple[RulePlaces, ...]

    @property
    def service_full_name(self) -> str:
        """``<namespace>/<service>``."""
        return f"{self.allowlist.namespace}/{self.service}"


Document = AllowlistDocument


def read_documents(text: str | bytes, file: str) -> tuple[list[Document], list[Problem]]:
    """The allowlists of one file and all that is wrong with it, in the order of the text.

    When there is any problem the documents are good for nothing but finding more problems (``bind``).
    """
    return read_kinds(text, file, {KIND: read_allowlist})


def read_allowlist(envelope: Envelope, problems: list[Problem]) -> Document:
    """The allowlist in an envelope of its kind."""
    spec = envelope.spec
    service = read_label(spec, "service")
    rules = _read_rules(spec, problems)
    return AllowlistDocument(
        allowlist=Allowlist(namespace=envelope.namespace, name=envelope.name, rules=tuple(rule for rule, _ in rules)),
        service=service,
        name_place=envelope.name_place,
        service_place=spec.place("service"),
        places=tuple(places for _, places in rules),
    )


def _read_rules(spec: MappingReader, problems: list[Problem]) -> list[tuple[Rule, RulePlaces]]:
    """The rules in which nothing is wrong; a name that comes twice is told at the second."""
    rules = []
    seen: dict[str, Place] = {}
    for item in read_items(spec, "rules", LIMIT_RULES):
        before = len(problems)
        reader = item.mapping()
        name = read_label(reader, "name")
        place = reader.place("name")
        if name and seen.setdefault(name, place) is not place:
            mend = f"first used on line {seen[name].line}: rename one"
            reader.problem(f"duplicate rule name {shown(name)}", mend, key="name")
        rule = _read_rule(reader, name, problems)
        reader.finish()
        if len(problems) == before:
            rules.append(rule)
    return rules


def _read_rule(reader: MappingReader, name: str, problems: list[Problem]) -> tuple[Rule, RulePlaces]:
    callers: list[tuple[Callers, Place]] = read_list(
        reader,
        "from",
        lambda item: _read_callers(item, problems),
        problems,
        "name a caller, or remove the rule",
        required=True,
    )
    to = reader.mapping("to", default=None)
    if to.present and not list(to):
        reader.problem("to is empty", "remove it to leave all open, or add ports, methods or paths", key="to")
    mend = "remove it to leave it open, or name what is permitted"
    ports = read_list(to, "ports", read_port, problems, mend)
    methods = read_list(to, "methods", read_method, problems, mend)
    paths = read_list(to, "paths", read_path, problems, mend)
    to.finish()
    rule = Rule(
        name=name,
        callers=tuple(value for value, _ in callers),
        ports=tuple(value for value, _ in ports),
        methods=tuple(value for value, _ in methods),
        paths=tuple(value for value, _ in paths),
    )
    http = next((place for _, place in (*methods, *paths)), None)
    unauthenticated = next((place for value, place in callers if isinstance(value, UnauthenticatedCallers)), None)
    return rule, RulePlaces(
        name=reader.place("name"),
        ports=tuple(place for _, place in ports),
        http=http,
        unauthenticated=unauthenticated,
    )


def _read_callers(item: ValueReader, problems: list[Problem]) -> Callers | None:
    reader = item.mapping()
    if not reader.present:
        return None
    which = reader.one_of("spiffeId", "namespace", "trustDomain", "unauthenticated")
    if which == "unauthenticated":
        return _read_unauthenticated(reader, problems)
    callers: Callers | None = None
    text = reader.text(which) if which is not None else ""
    try:
        if which == "spiffeId" and text:
            callers = parse_spiffe_id_pattern(text)
        elif which == "trustDomain" and text:
            callers = TrustDomainCallers(trust_domain=TrustDomain.parse(text))
        elif which == "namespace" and text:
            if not LABEL.fullmatch(text):
                raise PatternError(f"namespace {shown(text)} is not a valid name", NAME_MEND)
            callers = NamespaceCallers(namespace=text)
    except PatternError as error:
        reader.problem(error.message, error.mend, key=which)
    except SpiffeIdError as error:
        reader.problem(str(error), key=which)
    reader.finish()
    return callers


def _read_unauthenticated(reader: MappingReader, problems: list[Problem]) -> Callers | None:
    before = len(problems)
    permitted = reader.boolean("unauthenticated")
    if not permitted and len(problems) == before:
        mend = "remove it: whom no rule names is refused"
        reader.problem("unauthenticated must be true, not false", mend, key="unauthenticated")
    reader.finish()
    return UnauthenticatedCallers() if permitted else None
