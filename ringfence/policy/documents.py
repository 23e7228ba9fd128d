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

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from ringfence.policy.callers import PatternError, parse_spiffe_id_pattern
from ringfence.policy.model import (
    Allowlist,
    Callers,
    NamespaceCallers,
    Rule,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.paths import TemplateError, parse_template
from ringfence.policy.problems import Place, Problem, choose_from, nearest, shown
from ringfence.policy.yamlnodes import MappingReader, ValueReader, load_yaml
from ringfence.spiffe import SpiffeIdError, TrustDomain

T = TypeVar("T")

API_VERSION: Final = "ringfence.io/v1alpha1"
LIMIT_RULES: Final = 10_000
LIMIT_ITEMS: Final = 1_000

# What the HTTP/1.1 engine takes: a rule for any other method would never permit anything.
_SERVED: Final = """
GET HEAD POST PUT PATCH DELETE OPTIONS TRACE QUERY ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL
MOVE PROPFIND PROPPATCH REBIND REPORT SEARCH UNBIND UNLINK UNLOCK
"""
METHODS: Final = tuple(_SERVED.split())
_USUAL: Final = METHODS[:7]
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAME_MEND: Final = "use lower-case letters, digits and '-', at most 63, a letter or digit at both ends"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")


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
    """The policy documents of one file and all that is wrong with it, in the order of the text.

    When there is any problem the documents are good for nothing but finding more problems (``bind``).
    """
    problems: list[Problem] = []
    documents = []
    for node in load_yaml(text, file, problems):
        document = _read_document(MappingReader(node, file, problems), problems)
        if document is not None:
            documents.append(document)
    return documents, sorted(problems)


def _read_document(reader: MappingReader, problems: list[Problem]) -> Document | None:
    if not reader.present:
        return None
    reader.choice("apiVersion", [API_VERSION])
    kind = reader.text("kind")
    if kind != "Allowlist":
        if kind:
            reader.problem(f"kind {shown(kind)} is not known here", "use Allowlist", key="kind")
        return None
    metadata = reader.mapping("metadata")
    name = _name(metadata, "name", _SUBDOMAIN)
    namespace = _name(metadata, "namespace", _LABEL, default="default")
    for key in ("labels", "annotations"):
        metadata.text_mapping(key, default=None)
    metadata.finish()
    spec = reader.mapping("spec")
    service = _name(spec, "service", _LABEL)
    rules = _read_rules(spec, problems)
    spec.finish()
    reader.finish()
    return AllowlistDocument(
        allowlist=Allowlist(namespace=namespace, name=name, rules=tuple(rule for rule, _ in rules)),
        service=service,
        name_place=metadata.place("name"),
        service_place=spec.place("service"),
        places=tuple(places for _, places in rules),
    )


def _name(reader: MappingReader, key: str, pattern: re.Pattern[str], default: str | None = None) -> str:
    """A name of the form that Kubernetes and DNS take; an empty one stands in for what is wrong."""
    text = reader.text(key) if default is None else reader.text(key, default=default)
    if text and not pattern.fullmatch(text):
        reader.problem(f"{key} {shown(text)} is not a valid name", _NAME_MEND, key=key)
        return ""
    return text


def _read_rules(spec: MappingReader, problems: list[Problem]) -> list[tuple[Rule, RulePlaces]]:
    """The rules in which nothing is wrong; a name that comes twice is told at the second."""
    rules = []
    seen: dict[str, Place] = {}
    for item in _bounded(spec, "rules", LIMIT_RULES):
        before = len(problems)
        reader = item.mapping()
        name = _name(reader, "name", _LABEL)
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
    callers: list[tuple[Callers, Place]] = _read_list(
        reader, "from", lambda item: _read_callers(item, problems), problems, "name a caller, or remove the rule"
    )
    to = reader.mapping("to", default=None)
    if to.present and not list(to):
        reader.problem("to is empty", "remove it to leave all open, or add ports, methods or paths", key="to")
    mend = "remove it to leave it open, or name what is permitted"
    ports = _read_list(to, "ports", lambda item: item.integer(1, 65535), problems, mend)
    methods = _read_list(to, "methods", _read_method, problems, mend)
    paths = _read_list(to, "paths", _read_path, problems, mend)
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


def _bounded(reader: MappingReader, key: str, limit: int) -> list[ValueReader]:
    """The items of the list at ``key``, which must be there; none stand in for too many."""
    items = reader.sequence(key)
    if len(items) > limit:
        reader.problem(f"{key} has {len(items)} items", f"at most {limit}: split the list", key=key)
        return []
    return items


def _read_list(
    reader: MappingReader,
    key: str,
    read: Callable[[ValueReader], T | None],
    problems: list[Problem],
    empty_mend: str,
) -> list[tuple[T, Place]]:
    """The items of a list with their places; only ``from`` must be there. An empty list is refused, as it would read
    as "nothing" to its author and as "anything" to the judge; so is an item that is there twice."""
    if key != "from" and key not in reader:
        reader.known(key)
        return []
    before = len(problems)
    found: list[tuple[T, Place]] = []
    seen: dict[T, Place] = {}
    items = _bounded(reader, key, LIMIT_ITEMS)
    if not items and len(problems) == before:
        reader.problem(f"{key} is empty", empty_mend, key=key)
    for item in items:
        count = len(problems)
        value = read(item)
        if value is None or len(problems) != count:
            continue
        first = seen.setdefault(value, item.place)
        if first != item.place:
            item.problem(f"{item.what} is there twice", f"first on line {first.line}: remove one")
        found.append((value, item.place))
    return found


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
            if not _LABEL.fullmatch(text):
                raise PatternError(f"namespace {shown(text)} is not a valid name", _NAME_MEND)
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


def _read_method(item: ValueReader) -> str | None:
    text = item.text()
    if text in METHODS:
        return text
    if text:
        item.problem(
            f"method {shown(text)} is not known", choose_from(text, METHODS if nearest(text, METHODS) else _USUAL)
        )
    return None


def _read_path(item: ValueReader) -> str | None:
    text = item.text()
    try:
        return str(parse_template(text)) if text else None
    except TemplateError as error:
        item.problem(f"{error.message}: {shown(text)}", error.mend)
        return None
