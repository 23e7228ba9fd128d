"""AuthorizationPolicy of Linkerd, with the Server or HTTPRoute that it is for and the authentications it asks. Pure.

What a policy asks of is spread over objects that name each other; they are looked for among all that are imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ringfence.policy.importing.imported import (
    CannotSayError,
    Import,
    Made,
    Unsaid,
    Weight,
    Words,
    checked,
    checked_rule,
    selector_of,
)
from ringfence.policy.importing.istio_sources import networks
from ringfence.policy.importing.objects import KubeObject, match_labels
from ringfence.policy.problems import Place
from ringfence.policy.yamlnodes import MappingReader

GROUP: Final = "policy.linkerd.io"
_NAMED: Final = ("Server", "HTTPRoute", "MeshTLSAuthentication", "NetworkAuthentication")
_IDENTITY: Final = ".serviceaccount.identity."

Known = Mapping[tuple[str, str, str], KubeObject]
"""Objects by kind, namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is called: the services selected, and one ``to`` for each way (an empty one: everything)."""

    selector: Words
    calls: tuple[Words, ...]


def import_linkerd(objects: Iterable[KubeObject], made: Import, *, trust_domain: str) -> None:
    """Add what the objects say."""
    objects = list(objects)
    known = {(one.kind, one.namespace, one.name): one for one in objects}
    for found in objects:
        if found.kind == "AuthorizationPolicy":
            try:
                _import(found, known, trust_domain, made)
            except CannotSayError as error:
                found.problems.clear()
                made.unsaid.append(Unsaid(place=error.place, source=str(found), why=error.why, weight=Weight.ALLOW))
        elif found.kind not in _NAMED:
            permits = found.kind == "ServerAuthorization"
            why = "write it as AuthorizationPolicy first" if permits else "it says nothing of who may call what"
            weight = Weight.ALLOW if permits else Weight.NOTE
            made.unsaid.append(Unsaid(place=found.place, source=str(found), why=why, weight=weight))


def _import(found: KubeObject, known: Known, trust_domain: str, made: Import) -> None:
    target = _target(found.spec.mapping("targetRef"), found, known)
    callers = _callers(found, known, trust_domain)
    found.spec.finish()
    found.take_problem()
    rules = []
    for number, call in enumerate(target.calls, 1):
        rule: Words = {"name": f"rule-{number}", "from": callers} | ({"to": call} if call else {})
        rules.append(checked_rule("Allowlist", rule, found.place))
    spec = {**target.selector, "rules": rules}
    document = Made(kind="Allowlist", namespace=found.namespace, name=found.name, spec=spec)
    made.add(checked(document, found.place), found.place, str(found))


def _find(reference: MappingReader, namespace: str, known: Known) -> KubeObject:
    """The object that a reference names. Raises CannotSayError."""
    kind, name = reference.text("kind"), reference.text("name")
    there = reference.text("namespace", default=namespace)
    reference.known("group")
    reference.finish()
    found = known.get((kind, there, name))
    if found is None:
        raise CannotSayError(
            reference.place("name"), f"{kind} {there}/{name} is not among the files (give its file, too)"
        )
    return found


def _target(reference: MappingReader, found: KubeObject, known: Known) -> Target:
    if reference.text("kind") == "Namespace":
        if reference.text("name") != found.namespace:
            raise CannotSayError(reference.place("name"), "a policy speaks of the services of its own namespace")
        return Target(selector=selector_of({}), calls=({},))
    target = _find(reference, found.namespace, known)
    if target.kind == "Server":
        return _server(target)
    if target.kind == "HTTPRoute":
        return _route(target, known)
    raise CannotSayError(reference.place("kind"), f"{target.kind} is nothing that is called")


def _server(server: KubeObject) -> Target:
    spec = server.spec
    labels = match_labels(spec.mapping("podSelector", default=None), server)
    port = spec.integer("port", 1, 65535)
    if server.problems:
        server.problems.clear()
        raise CannotSayError(spec.place("port"), "a port must be a number here: names of ports are not known")
    if "accessPolicy" in spec and spec.text("accessPolicy") != "deny":
        raise CannotSayError(spec.place("accessPolicy"), "what no rule permits is refused here, with no other default")
    spec.known("proxyProtocol")
    spec.finish()
    server.take_problem()
    return Target(selector=selector_of(labels), calls=({"ports": [port]},))


def _route(route: KubeObject, known: Known) -> Target:
    parents = route.spec.mappings("parentRefs")
    if len(parents) != 1:
        raise CannotSayError(route.spec.place("parentRefs"), "several parents: one document selects one")
    parents[0].known("port", "sectionName")
    server = _find(parents[0], route.namespace, known)
    if server.kind != "Server":
        raise CannotSayError(parents[0].place("kind"), f"{server.kind} is no Server")
    target = _server(server)
    hosts = [host.lower() for host in route.spec.texts("hostnames", default=())]
    calls: list[Words] = []
    for rule in route.spec.mappings("rules"):
        rule.known("backendRefs", "timeouts")
        base = {**target.calls[0], **({"hosts": hosts} if hosts else {})}
        matches = rule.mappings("matches", default=None)
        # A rule without matches takes everything.
        calls += [{**base, **_match(match)} for match in matches] or [base]
        if "filters" in rule:
            raise CannotSayError(rule.place("filters"), "filters change requests before they are judged")
        rule.finish()
    route.spec.finish()
    route.take_problem()
    if not calls:
        raise CannotSayError(route.spec.place("rules"), "the route matches nothing that could be said")
    return Target(selector=target.selector, calls=tuple(calls))


def _match(match: MappingReader) -> Words:
    words: Words = {}
    path = match.mapping("path", default=None)
    if path.present:
        value, how = path.text("value"), path.text("type", default="PathPrefix")
        if how not in ("Exact", "PathPrefix"):
            raise CannotSayError(path.place("type"), f"{how}: paths are literal here, with * and ** for segments")
        if "*" in value or "{" in value:
            raise CannotSayError(path.place("value"), "a star or brace in a literal path (escape it)")
        words["paths"] = [value if how == "Exact" else f"{value.rstrip('/')}/**"]
        path.finish()
    if "method" in match:
        words["methods"] = [match.text("method")]
    headers = []
    for header in match.mappings("headers", default=None):
        if header.text("type", default="Exact") != "Exact":
            raise CannotSayError(header.place("type"), "values of headers are literal here")
        headers.append({"name": header.text("name").lower(), "values": [header.text("value")]})
        header.finish()
    if headers:
        words["headers"] = headers
    if "queryParams" in match:
        raise CannotSayError(match.place("queryParams"), "the query is not judged")
    match.finish()
    return words


def _callers(found: KubeObject, known: Known, trust_domain: str) -> list[Words]:
    """Who satisfies all that is required."""
    callers: list[Words] | None = None
    cidrs: list[str] | None = None
    for reference in found.spec.mappings("requiredAuthenticationRefs", default=None):
        place = reference.place()
        if reference.text("kind") == "ServiceAccount":
            named = [_account(reference, found.namespace, trust_domain)]
            authentication = None
        else:
            authentication = _find(reference, found.namespace, known)
            named = _identities(authentication, trust_domain) if authentication.kind == "MeshTLSAuthentication" else []
        if authentication is not None and authentication.kind == "NetworkAuthentication":
            if cidrs is not None:
                raise CannotSayError(place, "two networks at once: name those that are in both")
            cidrs = _networks(authentication)
        elif callers is not None or not named:
            raise CannotSayError(place, "two identities at once, or none: name those that are in both")
        else:
            callers = named
    everyone: list[Words] = [{"authenticated": True}, {"unauthenticated": True}]
    chosen = callers if callers is not None else everyone
    return [{**caller, "cidrs": cidrs} for caller in chosen] if cidrs is not None else chosen


def _account(reference: MappingReader, namespace: str, trust_domain: str) -> Words:
    name, there = reference.text("name"), reference.text("namespace", default=namespace)
    reference.known("group", "kind")
    reference.finish()
    return _spiffe_id(there, name, trust_domain, reference.place())


def _spiffe_id(namespace: str, account: str, trust_domain: str, place: Place) -> Words:
    if not trust_domain:
        raise CannotSayError(place, "identities need the mesh's trust domain (name it by --trust-domain)")
    return {"spiffeId": f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"}


def _identities(authentication: KubeObject, trust_domain: str) -> list[Words]:
    spec = authentication.spec
    callers: list[Words] = []
    for text in spec.texts("identities", default=()):
        place = spec.place("identities")
        if text == "*":
            callers.append({"authenticated": True})
            continue
        names, dot, _ = text.partition(_IDENTITY)
        account, _, namespace = names.partition(".")
        if not dot or not account or not namespace or "*" in namespace or "." in namespace:
            mend = f"write it like web.shop{_IDENTITY}linkerd.cluster.local"
            raise CannotSayError(place, f"{text!a} is no identity of one service account ({mend})")
        callers.append(_spiffe_id(namespace, account, trust_domain, place))
    for reference in spec.mappings("identityRefs", default=None):
        kind, place = reference.text("kind"), reference.place()
        if kind == "ServiceAccount":
            callers.append(_account(reference, authentication.namespace, trust_domain))
        elif kind == "Namespace":
            callers.append({"namespace": reference.text("name")})
            reference.known("group")
            reference.finish()
        else:
            raise CannotSayError(place, f"{kind} is no identity")
    spec.finish()
    authentication.take_problem()
    if not callers:
        raise CannotSayError(authentication.place, f"{authentication} names nobody")
    return callers


def _networks(authentication: KubeObject) -> list[str]:
    found: list[str] = []
    for network in authentication.spec.mappings("networks"):
        if "except" in network:
            why = "except takes addresses out of a network (name those that are left)"
            raise CannotSayError(network.place("except"), why)
        found += networks([network.text("cidr")], network.place("cidr"))
        network.finish()
    authentication.take_problem()
    return found
