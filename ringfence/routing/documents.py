"""Route documents: how callers reach a service. Pure; next stop ``bind``.

apiVersion: ringfence.io/v1alpha1
kind: Route
metadata: {name: orders, namespace: shop}
spec:
  service: orders                         # in metadata.namespace, never in another
  ports: [8080]                           # without: every port
  timeouts: {connect: 2s, responseHead: 30s, request: 60s, idle: 10m}
  maxAge: 1h                              # of a mesh connection
  retries: {attempts: 2, on: [connect_failure, refused], budget: "20%", perTryTimeout: 5s}
  circuitBreaker: {connections: 1000, pending: 100, requests: 500}
  outliers: {consecutive: 5, interval: 10s, ejection: 30s, maxEjected: "50%"}
  panicThreshold: "50%"
  routes:                                 # other settings for some requests; the most specific holds
    - name: reads
      methods: [GET]
      paths: ["/orders/{id}"]
      timeouts: {request: 2s}
      retries: {attempts: 3, on: [connect_failure, refused, reset_before_response], idempotent: true}
  limits:                                 # what the service takes
    - {name: each, per: caller, requests: "100/s", burst: 200}
    - {name: all, per: route, connections: "10/s", bytes: "1MiB/s"}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.envelope import Envelope, read_label
from ringfence.policy.lists import read_items, read_list, read_method, read_path, read_port
from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.yamlnodes import MappingReader
from ringfence.routing import bounds
from ringfence.routing.groups import (
    HttpWords,
    check_path_count,
    check_tries,
    read_circuit_breaker,
    read_outliers,
    read_percent,
    read_request_timeouts,
    read_retries,
    read_timeouts,
)
from ringfence.routing.limits import read_limits
from ringfence.routing.model import RateLimit, Retries, Route, RouteMatch
from ringfence.routing.specificity import Claims

KIND: Final = "Route"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDocument:
    """A route as written; ``http``: its fields that speak of requests, each by its name and place."""

    namespace: str
    service: str
    ports: tuple[tuple[int, Place], ...]
    route: Route
    limits: tuple[RateLimit, ...]
    name_place: Place
    service_place: Place
    http: tuple[tuple[str, Place], ...]

    @property
    def service_full_name(self) -> str:
        """``<namespace>/<service>``."""
        return f"{self.namespace}/{self.service}"


def read_route(envelope: Envelope, problems: list[Problem]) -> RouteDocument:
    """The route in an envelope of its kind."""
    spec = envelope.spec
    words = HttpWords()
    service = read_label(spec, "service")
    ports = read_list(spec, "ports", read_port, problems, "remove it to name every port, or name one")
    timeouts = read_timeouts(spec, words)
    retries = read_retries(spec, words, problems, whole=True)
    check_tries(spec, retries, timeouts.request_seconds)
    route = Route(
        name=f"{envelope.namespace}/{envelope.name}",
        timeouts=timeouts,
        max_age_seconds=spec.duration("maxAge", default=None, low=bounds.AGE_SECONDS[0], high=bounds.AGE_SECONDS[1]),
        retries=retries if retries is not None else Retries(),
        circuit_breaker=read_circuit_breaker(spec, words),
        outliers=read_outliers(spec),
        panic_percent=read_percent(spec, "panicThreshold", Route(name="").panic_percent),
        matches=_read_matches(spec, words, problems),
    )
    limits = read_limits(spec, words, problems)
    if spec.present and not set(spec) - {"service", "ports"}:
        spec.problem("route sets nothing", "add timeouts, retries, limits or another group, or remove the document")
    return RouteDocument(
        namespace=envelope.namespace,
        service=service,
        ports=tuple(ports),
        route=route,
        limits=limits,
        name_place=envelope.name_place,
        service_place=spec.place("service"),
        http=tuple(words.found),
    )


def _read_matches(spec: MappingReader, words: HttpWords, problems: list[Problem]) -> tuple[RouteMatch, ...]:
    """``routes``, ordered by name; two that nothing tells apart are an error, as order never decides."""
    if "routes" not in spec:
        spec.known("routes")
        return ()
    words.found.append(("routes", spec.place("routes")))
    before = len(problems)
    items = read_items(spec, "routes", bounds.MATCH_LIMIT)
    if not items and len(problems) == before:
        spec.problem("routes is empty", "remove it, or name some requests", key="routes")
    found: dict[str, tuple[RouteMatch, Place]] = {}
    claims = Claims()
    for item in items:
        count = len(problems)
        reader = item.mapping()
        match = _read_match(reader, problems)
        place = reader.place("name")
        if len(problems) != count:
            continue
        held, first = found.setdefault(match.name, (match, place))
        if held is not match:
            mend = f"first used on line {first.line}: rename one"
            reader.problem(f"duplicate route name {shown(match.name)}", mend, key="name")
        clash = claims.take(match)
        if clash is not None:
            other, both = clash
            mend = f"{other.name} on line {found[other.name][1].line} names them as precisely: merge the two"
            reader.problem(f"{match.name} is for {both}, which another route names", mend, key="name")
    matches = tuple(sorted((match for match, _ in found.values()), key=lambda match: match.name))
    check_path_count(spec, "routes", matches)
    return matches


def _read_match(reader: MappingReader, problems: list[Problem]) -> RouteMatch:
    mend = "remove it to leave it open, or name what is meant"
    timeouts = read_request_timeouts(reader)
    retries = read_retries(reader, HttpWords(), problems, whole=False)
    check_tries(reader, retries, timeouts.request_seconds if timeouts is not None else None)
    match = RouteMatch(
        name=read_label(reader, "name"),
        methods=tuple(value for value, _ in read_list(reader, "methods", read_method, problems, mend)),
        paths=tuple(value for value, _ in read_list(reader, "paths", read_path, problems, mend)),
        timeouts=timeouts,
        retries=retries,
    )
    if reader.present and "methods" not in reader and "paths" not in reader:
        reader.problem("route names no requests", "add methods or paths, or set it for the whole service")
    if reader.present and "timeouts" not in reader and "retries" not in reader:
        reader.problem("route sets nothing", "add timeouts or retries")
    reader.finish()
    return match
