"""A route as values, after its document was read and checked: what is None was not set, and a default stands. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class RetryOn(StrEnum):
    """What a request may be tried again after.

    The first two are proof that no app has seen it; all others are not, so they need ``Retries.idempotent``.
    """

    CONNECT_FAILURE = "connect_failure"  # no mesh connection to the endpoint, or the app there refused one
    REFUSED = "refused"  # the endpoint's sidecar took the stream back unprocessed (RFC 9113 section 8.7)
    RESET_BEFORE_RESPONSE = "reset_before_response"  # the connection ended before the response began
    GATEWAY_ERROR = "gateway_error"  # the app answered 502, 503 or 504
    SERVER_ERROR = "5xx"  # the app answered 500 to 599

    @property
    def unprocessed(self) -> bool:
        """Whether no app has seen the request."""
        return self in (RetryOn.CONNECT_FAILURE, RetryOn.REFUSED)


UNPROCESSED: Final = (RetryOn.CONNECT_FAILURE, RetryOn.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds; None: the default."""

    connect_seconds: float | None = None  # for the TCP connection to the endpoint, and again for the handshake
    response_head_seconds: float | None = None  # from a request's end to the beginning of its response
    request_seconds: float | None = None  # from a request's head to its response's last byte
    idle_seconds: float | None = None  # an app connection on which nothing moves


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimeouts:
    """Of the requests that one match names."""

    response_head_seconds: float | None = None
    request_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """``attempts``: how often a request is tried again after the first time; 0: never.

    ``idempotent``: requests of idempotent methods (RFC 9110 section 9.2.2) may be sent again although an app may have
    seen them. ``budget_percent``: of the requests, how many may be retries that add to the load of the service.
    """

    attempts: int = 2
    on: tuple[RetryOn, ...] = UNPROCESSED
    idempotent: bool = False
    budget_percent: int = 20
    per_try_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """What one caller's sidecar may have open to the service at once; None: no limit but the sidecar's own."""

    connections: int | None = None  # of the app
    pending: int | None = None  # that wait for a mesh connection
    requests: int | None = None  # in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """When an endpoint is left out: after ``consecutive`` failures, none longer than ``interval_seconds`` after the one
    before, for ``ejection_seconds``, longer each time; never more than ``max_ejected_percent`` of the endpoints."""

    consecutive: int = 5
    interval_seconds: float = 30.0
    ejection_seconds: float = 30.0
    max_ejected_percent: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """Other settings for some requests; an empty tuple leaves that part open. What is None is the route's own."""

    name: str
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    timeouts: RequestTimeouts | None = None
    retries: Retries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How callers reach one port of a service; ``name`` is the document's, ``<namespace>/<name>``."""

    name: str
    timeouts: Timeouts = Timeouts()
    max_age_seconds: float | None = None  # of a mesh connection, then the next one is made
    retries: Retries = Retries()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    outliers: Outliers | None = None
    panic_percent: int = 50  # fewer healthy endpoints than this: all are used
    matches: tuple[RouteMatch, ...] = ()

    @property
    def speaks_http(self) -> bool:
        """Whether it has words that mean something only where requests are told apart."""
        return bool(
            self.matches
            or self.timeouts.request_seconds is not None
            or self.timeouts.response_head_seconds is not None
            or self.retries.idempotent
            or self.retries.per_try_seconds is not None
            or self.circuit_breaker.requests is not None
        )


class Per(StrEnum):
    """What shares one limit."""

    CALLER = "caller"  # each identity has its own
    ROUTE = "route"  # all callers together


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """``amount`` of something in ``seconds``, evenly: a bucket that fills at this rate."""

    amount: int
    seconds: int

    @property
    def per_second(self) -> float:
        return self.amount / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What a port of the callee takes; at least one rate is set. ``burst``: of requests, at once after a pause.

    With ``methods`` or ``paths`` it is a limit on the requests that match, and has no rate but ``requests``.
    ``bytes``: of the app's in either direction, as they come from the caller and go to it.
    """

    name: str
    per: Per
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    requests: Rate | None = None
    burst: int | None = None
    connections: Rate | None = None
    bytes: Rate | None = None

    @property
    def burst_seconds(self) -> float:
        """In how long a burst that was used is earned again."""
        return self.burst / self.requests.per_second if self.burst is not None and self.requests is not None else 0.0

    @property
    def speaks_http(self) -> bool:
        """Whether it can hold only where requests are told apart."""
        return bool(self.methods or self.paths) or self.requests is not None
