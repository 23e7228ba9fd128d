"""Policies and calls at random, from one small world; the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    Named,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

T = TypeVar("T")

OWN: Final = TrustDomain("shop.example")
OTHER: Final = TrustDomain("partner.example")
CALLERS: Final[tuple[SpiffeId | None, ...]] = (
    SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web"),
    SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders"),
    SpiffeId.parse("spiffe://shop.example/ns/billing/sa/web"),
    SpiffeId.parse("spiffe://shop.example/batch"),
    SpiffeId.parse("spiffe://partner.example/ns/shop/sa/web"),
    None,
)
ADDRESSES: Final = ("127.0.0.1", "127.0.0.2")
METHODS: Final = ("GET", "POST", "DELETE", "HEAD")
HOSTS: Final = ("api.example", "a.api.example", "b.a.api.example", "other.example", "API.example", "xapi.example")
TEMPLATES: Final = (
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/{x}",
    "/a/*/c",
    "/{x}/b",
    "/{x}/{y}",
    "/a/**",
    "/**",
    "/{x}/**",
    "/a/b/**",
    "/shop.Orders/Get",
    "/a.b/c",
    "/%C3%A9/b",
)
PATHS: Final = (
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/",
    "/a/b/c",
    "/a/x/c",
    "/b/b",
    "/b/",
    "/x/y",
    "/a/b/c/d",
    "/aXb/c",
    "/a.b/c",
    "/%C3%A9/b",
    "/shop.Orders/Get",
    "/shop.Orders/List",
    "/shop.Orders/",
    "/shopXOrders/Get",
    "/A/b",
    "/a?x=/b",
    "/a/b?",
)
GRPC: Final = (GrpcMethod(service="shop.Orders", method="Get"), GrpcMethod(service="shop.Orders"))
HEADERS: Final = ("x-tenant", "x-mode")
VALUES: Final = ("a", "b", "A", "a b")
_CIDRS: Final = (("127.0.0.1/32",), ("127.0.0.2/32",), ("127.0.0.0/8",), ("10.0.0.0/8", "127.0.0.2/31"))


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: ``caller`` is a place in CALLERS; ``port`` a place in the list of ports."""

    caller: int
    address: str
    port: int
    method: str
    target: str
    host: str
    headers: tuple[tuple[str, str], ...]


class Source:
    """Draws policies and calls."""

    def __init__(self, seed: int, ports: Sequence[int]) -> None:
        self._random = random.Random(seed)
        self._ports = ports

    def policy(self, number: int) -> PolicySet:
        draw = self._random
        allowlists = [
            Allowlist(namespace="shop", name=f"allow-{number}-{at}", rules=self._rules())
            for at in range(draw.randint(0, 3))
        ]
        denylists = [
            Denylist(namespace="shop", name=f"deny-{number}-{at}", rules=self._rules(narrow=True))
            for at in range(draw.choice((0, 0, 1, 1, 2)))
        ]
        return PolicySet(allowlists=tuple(allowlists), denylists=tuple(denylists))

    def call(self, policy: PolicySet) -> Call:
        """Mostly one that a rule of the policy may speak of."""
        draw = self._random
        rules = [rule for one in (*policy.allowlists, *policy.denylists) for rule in one.rules]
        near = draw.choice(rules) if rules and draw.random() < 0.8 else Rule(name="none", callers=())
        port = draw.choice(near.ports) if near.ports and draw.random() < 0.9 else draw.choice(self._ports)
        method = draw.choice(near.methods) if near.methods and draw.random() < 0.9 else draw.choice(METHODS)
        target = draw.choice(PATHS)
        if near.paths and draw.random() < 0.7:
            target = self._instance(draw.choice(near.paths))
        elif near.grpc and draw.random() < 0.8:
            target, method = f"/shop.Orders/{draw.choice(('Get', 'List'))}", draw.choice(("POST", "POST", "GET"))
        host = draw.choice(HOSTS)
        if near.hosts and draw.random() < 0.7:
            host = draw.choice(near.hosts).replace("*", draw.choice(("x", "y.x")))
        headers = {name: draw.choice(VALUES) for name in HEADERS if draw.random() < 0.5}
        for match in near.headers:
            if match.values and draw.random() < 0.8:
                headers[match.name] = draw.choice(match.values)
            elif not match.values and not match.present and draw.random() < 0.7:
                headers.pop(match.name, None)
        return Call(
            caller=draw.randrange(len(CALLERS)),
            address=draw.choice(ADDRESSES),
            port=self._ports.index(port),
            method=method,
            target=target,
            host=host,
            headers=tuple(sorted(headers.items())),
        )

    def _rules(self, *, narrow: bool = False) -> tuple[Rule, ...]:
        return tuple(self._rule(f"rule-{at}", narrow=narrow) for at in range(self._random.randint(1, 4)))

    def _rule(self, name: str, *, narrow: bool) -> Rule:
        draw = self._random
        paths, grpc = self._some(TEMPLATES, 0.8 if narrow else 0.6), self._some(GRPC, 0.15)
        return Rule(
            name=name,
            callers=tuple(dict.fromkeys(self._callers() for _ in range(draw.randint(1, 3)))),
            ports=self._some(self._ports, 0.3),
            methods=self._some(METHODS, 0.7 if narrow else 0.4),
            paths=paths,
            hosts=self._some(("api.example", "*.api.example", "*.example", "other.example"), 0.25),
            headers=tuple(self._header(name) for name in HEADERS if draw.random() < 0.2),
            grpc=grpc,
        )

    def _some(self, values: Sequence[T], chance: float) -> tuple[T, ...]:
        draw = self._random
        if draw.random() >= chance:
            return ()
        return tuple(draw.sample(list(values), draw.randint(1, min(3, len(values)))))

    def _header(self, name: str) -> HeaderMatch:
        draw = self._random
        if draw.random() < 0.6:
            return HeaderMatch(name=name, values=tuple(draw.sample(VALUES, draw.randint(1, 2))))
        return HeaderMatch(name=name, present=draw.random() < 0.5)

    def _callers(self) -> Callers:
        draw = self._random
        kinds: tuple[Named, ...] = (
            SpiffeIdPattern(
                trust_domain=OWN,
                segments=("ns", draw.choice(("shop", "billing", "*")), "sa", draw.choice(("web", "orders", "*"))),
            ),
            SpiffeIdPattern(trust_domain=OTHER, segments=("ns", "*", "sa", "web")),
            SpiffeIdPattern(trust_domain=OWN, segments=("*",)),
            NamespaceCallers(namespace=draw.choice(("shop", "billing"))),
            TrustDomainCallers(trust_domain=draw.choice((OWN, OTHER))),
            AuthenticatedCallers(),
            UnauthenticatedCallers(),
        )
        named = draw.choice(kinds)
        return NarrowedCallers(callers=named, cidrs=draw.choice(_CIDRS)) if draw.random() < 0.2 else named

    def _instance(self, template: str) -> str:
        draw = self._random
        words = ["x" if word == "*" or word.startswith("{") else word for word in template.split("/")]
        if words[-1] == "**":
            words[-1:] = draw.choice(([], ["x"], ["x", "y"], [""]))
        return "/".join(words) or "/"
