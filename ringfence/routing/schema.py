"""What a Route may say, in the table's words (``ringfence.policy.schema``), held against the reader by a test. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.policy.lists import LIMIT_ITEMS, METHODS
from ringfence.policy.schema import texts
from ringfence.policy.schema.shapes import Choice, Field, Flag, Kind, Many, Number, Object, Text
from ringfence.routing import bounds
from ringfence.routing.model import Per, RetryOn

_RATE: Final = Text(name="rate", pattern=r"[1-9][0-9]{0,14}/[smh]")
_BYTE_RATE: Final = Text(name="rate of bytes", pattern=r"[1-9][0-9]{0,14}(?:B|kB|MB|GB|KiB|MiB|GiB)/[smh]")
_PERCENT: Final = Text(name="share in percent", pattern=r"(?:0|[1-9][0-9]?|100)%")

_NAME: Final = Field(name="name", shape=texts.WORD, summary="unique in its list", required=True)
_METHODS: Final = Field(
    name="methods",
    shape=Many(item=Choice(words=METHODS), most=LIMIT_ITEMS),
    summary="HTTP methods",
    default="every method",
)
_PATHS: Final = Field(
    name="paths", shape=Many(item=texts.PATH, most=LIMIT_ITEMS), summary="path templates", default="every path"
)


def _wait(name: str, summary: str, default: str = "") -> Field:
    return Field(name=name, shape=texts.DURATION, summary=summary, default=default)


def _open(name: str, summary: str) -> Field:
    return Field(name=name, shape=Number(low=bounds.OPEN[0], high=bounds.OPEN[1]), summary=summary)


_RESPONSE_HEAD: Final = _wait("responseHead", "from a request's end to the beginning of its response")
_REQUEST: Final = _wait("request", "from a request's head to the last byte of its response")
TIMEOUTS: Final = Object(
    name="Timeouts",
    summary="How long a caller waits.",
    fields=(
        _wait("connect", "for a connection to the endpoint, and again for the handshake"),
        _RESPONSE_HEAD,
        _REQUEST,
        _wait("idle", "a connection on which nothing moves"),
    ),
    any_of=("connect", "responseHead", "request", "idle"),
)
REQUEST_TIMEOUTS: Final = Object(
    name="RequestTimeouts",
    summary="How long a caller waits for the requests named.",
    fields=(_RESPONSE_HEAD, _REQUEST),
    any_of=("responseHead", "request"),
)
_RETRY_FIELDS: Final = (
    Field(
        name="attempts",
        shape=Number(low=bounds.ATTEMPTS[0], high=bounds.ATTEMPTS[1]),
        summary="how often a request is tried again; 0: never",
        default="2",
    ),
    Field(
        name="on",
        shape=Many(item=Choice(words=tuple(RetryOn)), most=LIMIT_ITEMS),
        summary="what it is tried again after",
        default="connect_failure, refused",
    ),
    Field(
        name="idempotent",
        shape=Flag(),
        summary="requests of idempotent methods may be sent again although an app may have seen them",
        default="false",
    ),
    _wait("perTryTimeout", "the longest that one try may take"),
)
_BUDGET: Final = Field(name="budget", shape=_PERCENT, summary="of the requests, how many may be retries", default="20%")
RETRIES: Final = Object(
    name="Retries",
    summary="When a request is tried again.",
    fields=(*_RETRY_FIELDS, _BUDGET),
    any_of=(*(one.name for one in _RETRY_FIELDS), "budget"),
)
REQUEST_RETRIES: Final = Object(
    name="RequestRetries",
    summary="When a request of those named is tried again.",
    fields=_RETRY_FIELDS,
    any_of=tuple(one.name for one in _RETRY_FIELDS),
)
CIRCUIT_BREAKER: Final = Object(
    name="CircuitBreaker",
    summary="What one caller's sidecar may have open to the service at once.",
    fields=(
        _open("connections", "connections of the app"),
        _open("pending", "waits for a mesh connection"),
        _open("requests", "requests in flight"),
    ),
    any_of=("connections", "pending", "requests"),
)
OUTLIERS: Final = Object(
    name="Outliers",
    summary="When an endpoint is left out.",
    fields=(
        Field(
            name="consecutive",
            shape=Number(low=bounds.CONSECUTIVE[0], high=bounds.CONSECUTIVE[1]),
            summary="after so many failures in a row",
            default="5",
        ),
        _wait("interval", "none of them longer than this after the one before", "30s"),
        _wait("ejection", "for how long, longer each time", "30s"),
        Field(name="maxEjected", shape=_PERCENT, summary="never more of the endpoints than this", default="50%"),
    ),
    any_of=("consecutive", "interval", "ejection", "maxEjected"),
)
MATCH: Final = Object(
    name="RouteMatch",
    summary="Other settings for some requests; the most specific holds.",
    fields=(
        _NAME,
        _METHODS,
        _PATHS,
        Field(name="timeouts", shape=REQUEST_TIMEOUTS, summary="how long a caller waits"),
        Field(name="retries", shape=REQUEST_RETRIES, summary="when a request is tried again"),
    ),
)
LIMIT: Final = Object(
    name="Limit",
    summary="How much of its callers the service takes.",
    fields=(
        _NAME,
        Field(name="per", shape=Choice(words=tuple(Per)), summary="what shares the limit", required=True),
        _METHODS,
        _PATHS,
        Field(name="requests", shape=_RATE, summary="requests, like `100/s`"),
        Field(
            name="burst",
            shape=Number(low=bounds.BURST[0], high=bounds.BURST[1]),
            summary="of requests, how many at once",
        ),
        Field(name="connections", shape=_RATE, summary="connections, like `10/s`"),
        Field(name="bytes", shape=_BYTE_RATE, summary="bytes, like `1MiB/s`"),
    ),
    any_of=("requests", "connections", "bytes"),
)
_GROUPS: Final = (
    Field(name="timeouts", shape=TIMEOUTS, summary="how long a caller waits"),
    _wait("maxAge", "the longest life of a mesh connection"),
    Field(name="retries", shape=RETRIES, summary="when a request is tried again"),
    Field(name="circuitBreaker", shape=CIRCUIT_BREAKER, summary="what a caller may have open at once"),
    Field(name="outliers", shape=OUTLIERS, summary="when an endpoint is left out"),
    Field(name="panicThreshold", shape=_PERCENT, summary="fewer healthy endpoints: all are used", default="50%"),
    Field(name="routes", shape=Many(item=MATCH, most=bounds.MATCH_LIMIT), summary="other settings for some requests"),
    Field(name="limits", shape=Many(item=LIMIT, most=bounds.LIMIT_LIMIT), summary="how much the service takes"),
)
_EXAMPLE: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Route
metadata: {name: orders, namespace: shop}
spec:
  service: orders
  ports: [8080]
  timeouts: {connect: 2s, responseHead: 30s, request: 60s, idle: 10m}
  maxAge: 1h
  retries: {attempts: 2, on: [connect_failure, refused], budget: "20%", perTryTimeout: 5s}
  circuitBreaker: {connections: 1000, pending: 100, requests: 500}
  outliers: {consecutive: 5, interval: 10s, ejection: 30s, maxEjected: "50%"}
  panicThreshold: "50%"
  routes:
    - name: reads
      methods: [GET]
      paths: ["/orders/{id}"]
      timeouts: {request: 2s}
      retries: {attempts: 3, on: [connect_failure, refused, reset_before_response], idempotent: true, perTryTimeout: 1s}
  limits:
    - {name: each, per: caller, requests: "100/s", burst: 200}
    - {name: all, per: route, connections: "10/s", bytes: "1MiB/s"}
    - {name: orders, per: route, methods: [POST], paths: ["/orders"], requests: "600/m"}
"""
ROUTE: Final = Kind(
    name="Route",
    summary="Says how callers reach a service: waits, retries, limits.",
    spec=Object(
        name="RouteSpec",
        summary="How callers reach one service of the namespace.",
        fields=(
            Field(name="service", shape=texts.WORD, summary="the service, of the document's namespace", required=True),
            Field(
                name="ports",
                shape=Many(item=Number(low=1, high=65535), most=LIMIT_ITEMS),
                summary="ports of the service",
                default="every port",
            ),
            *_GROUPS,
        ),
        any_of=tuple(one.name for one in _GROUPS),
    ),
    examples=(_EXAMPLE,),
)
