"""A snapshot that says everything a policy can say, and changes to its message, for tests of the wire."""

from __future__ import annotations

from collections.abc import Callable

from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    Introspection,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenIssuer,
    TokenMatch,
    UnauthenticatedCallers,
)
from ringfence.snapshot import Snapshot, Workload
from ringfence.spiffe import SpiffeId, TrustDomain
from ringfence.wire.gen import control_pb2 as pb
from tests.pki import TestCa

CA = TestCa("shop.example")
WEB = SpiffeIdPattern(trust_domain=TrustDomain("shop.example"), segments=("ns", "shop", "sa", "web"))
SECRET = "v3ry-secret"

TOKEN = TokenMatch(
    issuers=("shop/login", "ringfence-system/staff"),
    scopes=("orders:read", "openid"),
    claims=(("realm.roles", ("clerk", "manager")), ("email_verified", ("true",))),
    acr=("urn:mfa",),
    amr=("otp", "pwd"),
    max_age_seconds=900,
)
ALLOWLIST = Allowlist(
    namespace="shop",
    name="orders-callers",
    rules=(
        Rule(
            name="clerk.read",
            callers=(
                NarrowedCallers(callers=WEB, cidrs=("10.1.0.0/16", "2001:db8::/32")),
                AuthenticatedCallers(),
                NarrowedCallers(callers=UnauthenticatedCallers(), cidrs=("10.2.0.0/16",)),
            ),
            ports=(8080,),
            methods=("GET",),
            paths=("/orders/{id}",),
            hosts=("orders.shop.example", "*.orders.example"),
            headers=(
                HeaderMatch(name="x-tenant", values=("a", "b c")),
                HeaderMatch(name="x-trace"),
                HeaderMatch(name="x-debug", present=False),
            ),
            grpc=(GrpcMethod(service="shop.v1.Orders", method="Get"), GrpcMethod(service="shop.v1.Stock")),
            token=TOKEN,
            when='source.namespace == "shop"\n\t&& now > timestamp("2026-01-01T00:00:00Z")',
        ),
        Rule(name="any-token", callers=(NamespaceCallers(namespace="shop"),), token=TokenMatch()),
    ),
)
DENYLIST = Denylist(
    namespace="ringfence-system",
    name="no-admin",
    rules=(Rule(name="admin", callers=(AuthenticatedCallers(), UnauthenticatedCallers()), paths=("/admin/**",)),),
)
JWT = TokenIssuer(
    name="shop/login",
    issuer="https://login.example",
    audiences=("orders", "https://orders.example"),
    algorithms=("ES256", "EdDSA"),
    keys='{"keys": []}\n',
    claim_headers=(("x-user", "sub"), ("x-roles", "realm.roles")),
    leeway_seconds=0,
)
OPAQUE = TokenIssuer(
    name="ringfence-system/staff",
    issuer="https://staff.example",
    audiences=("orders",),
    header="",
    cookie="Session",
    introspection=Introspection(
        url="https://staff.example:8443/introspect?x=1", client_id="orders", secret=SECRET, cache_seconds=0
    ),
)


def full_snapshot() -> Snapshot:
    """Each word of a policy somewhere, and each issuer's."""
    return Snapshot(
        revision=7,
        workload=Workload(
            service="orders",
            namespace="shop",
            spiffe_id=SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders"),
            mesh_host="127.0.0.1",
            mesh_port=15008,
            ports=(),
            labels=(("app.example/tier", "back"), ("data", "pii"), ("empty", "")),
        ),
        upstreams=(),
        allowlists=(ALLOWLIST,),
        bundles=(CA.bundle(),),
        denylists=(DENYLIST,),
        observe_until=1_800_000_000.5,
        shadow=PolicySet(allowlists=(ALLOWLIST,), denylists=(DENYLIST,), observe_until=1_900_000_000.0),
        token_issuers=(JWT, OPAQUE),
    )


Change = Callable[[pb.Snapshot], None]


def at(path: str, message: object) -> object:
    """What stands at ``path``, named as in a WireError: ``allowlists[0].rules[0]``."""
    for name in path.replace("[", ".").replace("]", "").split("."):
        message = message[int(name)] if name.isdigit() else getattr(message, name)  # type: ignore[index]
    return message


def put(path: str, value: object) -> Change:
    """Sets a field, or an item of a list."""

    def change(message: pb.Snapshot) -> None:
        parent, _, last = path.replace("[", ".").replace("]", "").rpartition(".")
        target = at(parent, message) if parent else message
        if last.isdigit():
            target[int(last)] = value  # type: ignore[index]
        else:
            setattr(target, last, value)

    return change


def cleared(path: str) -> Change:
    """Takes a field away, or all items of a list."""

    def change(message: pb.Snapshot) -> None:
        parent, _, last = path.rpartition(".")
        (at(parent, message) if parent else message).ClearField(last)  # type: ignore[attr-defined]

    return change


def repeated(path: str, times: int = 2) -> Change:
    """Makes a list hold its first item so many times."""

    def change(message: pb.Snapshot) -> None:
        items = at(path, message)
        first = items[0]  # type: ignore[index]
        del items[:]  # type: ignore[attr-defined]
        items.extend([first] * times)  # type: ignore[attr-defined]

    return change
