"""Over the wire: format and parse are each other's inverse, and no bytes do more than be refused."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from controlplane.control.reports import ReportError, read_report
from controlplane.mesh.document import read_mesh
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    Introspection,
    Named,
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
from ringfence.policy.words import ALGORITHMS, FRAMING_HEADERS
from ringfence.routing.bounds import BURST_SECONDS
from ringfence.routing.model import (
    UNPROCESSED,
    CircuitBreaker,
    Outliers,
    Per,
    Rate,
    RateLimit,
    RequestTimeouts,
    Retries,
    RetryOn,
    Route,
    RouteMatch,
    Timeouts,
)
from ringfence.snapshot import (
    EgressRule,
    Endpoint,
    ForwardedFor,
    ForwardProxy,
    Intercept,
    Port,
    PortMode,
    Protocol,
    Snapshot,
    Transport,
    Upstream,
    Workload,
)
from ringfence.spiffe import SpiffeId, TrustDomain
from ringfence.wire.convert import WireError, snapshot_from_wire, snapshot_to_wire
from ringfence.wire.gen import control_pb2 as pb
from tests.mesh_files import mesh_text
from tests.pki import TestCa

BUNDLE = TestCa("shop.example").bundle()
SEGMENT = st.text("abcXYZ019.-_", min_size=1, max_size=12).filter(lambda text: text not in (".", ".."))
NAME = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True)
DOMAINS = st.sampled_from(["shop.example", "partner.example", "a_b"]).map(TrustDomain)
PORTS = st.integers(1, 65535)
HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str).filter(lambda text: "%" not in text)
WORKLOADS = st.builds(lambda ns, sa: SpiffeId.workload(TrustDomain("shop.example"), ns, sa), SEGMENT, SEGMENT)
NAMED: st.SearchStrategy[Named] = st.one_of(
    st.builds(
        SpiffeIdPattern,
        trust_domain=DOMAINS,
        segments=st.lists(st.one_of(SEGMENT, st.just("*")), min_size=1, max_size=5).map(tuple),
    ),
    st.builds(NamespaceCallers, namespace=NAME),
    st.builds(TrustDomainCallers, trust_domain=DOMAINS),
    st.builds(UnauthenticatedCallers),
    st.builds(AuthenticatedCallers),
)
CIDRS = st.lists(
    st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "::/0", "fd00::/8"]), min_size=1, max_size=2, unique=True
).map(tuple)
CALLERS: st.SearchStrategy[Callers] = NAMED | st.builds(NarrowedCallers, callers=NAMED, cidrs=CIDRS)
VALUE = st.text("abcXYZ019:/=", min_size=1, max_size=8)
VALUES = st.lists(VALUE, max_size=2).map(tuple)
SOME_VALUES = st.lists(VALUE, min_size=1, max_size=2).map(tuple)
HEADERS = st.builds(HeaderMatch, name=NAME, values=VALUES) | st.builds(HeaderMatch, name=NAME, present=st.just(False))
IDENTIFIER = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
GRPC = st.builds(
    GrpcMethod, service=st.lists(IDENTIFIER, min_size=1, max_size=3).map(".".join), method=st.none() | IDENTIFIER
)
FULL_NAMES = st.builds("{}/{}".format, NAME, NAME)
TOKENS = st.builds(
    TokenMatch,
    issuers=st.lists(FULL_NAMES, max_size=2).map(tuple),
    scopes=VALUES,
    claims=st.lists(
        st.tuples(st.sampled_from(["sub", "realm.roles", "https://x/y"]), SOME_VALUES),
        max_size=2,
        unique_by=lambda claim: claim[0],
    ).map(tuple),
    acr=VALUES,
    amr=VALUES,
    max_age_seconds=st.none() | st.integers(1, 86_400),
)
OPEN_RULES = st.builds(
    Rule,
    name=NAME,
    callers=st.lists(CALLERS, min_size=1, max_size=3).map(tuple),
    ports=st.lists(PORTS, max_size=3).map(tuple),
    methods=st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), max_size=2).map(tuple),
    paths=st.lists(st.sampled_from(["/", "/orders/{id}", "/a/**", "/*/b"]), max_size=2).map(tuple),
    hosts=st.lists(st.sampled_from(["a.example", "*.example"]), max_size=2).map(tuple),
    headers=st.lists(HEADERS, max_size=2).map(tuple),
    grpc=st.lists(GRPC, max_size=2).map(tuple),
    when=st.sampled_from(["", 'request.host == "a"', "source.authenticated\n\t|| now > now"]),
)
RULES = st.builds(lambda rule, token: replace(rule, token=token), OPEN_RULES, st.none() | TOKENS)
ALLOWLISTS = st.builds(
    Allowlist,
    namespace=NAME,
    name=NAME,
    rules=st.lists(RULES, max_size=4, unique_by=lambda rule: rule.name).map(tuple),
)
DENYLISTS = st.builds(
    Denylist,
    namespace=NAME,
    name=NAME,
    rules=st.lists(OPEN_RULES, max_size=4, unique_by=lambda rule: rule.name).map(tuple),
)
POLICIES = st.builds(
    PolicySet,
    allowlists=st.lists(ALLOWLISTS, max_size=3, unique_by=lambda found: found.full_name).map(tuple),
    denylists=st.lists(DENYLISTS, max_size=3, unique_by=lambda found: found.full_name).map(tuple),
    observe_until=st.none() | st.floats(1, 4e9),
)
ISSUERS = st.builds(
    lambda place, **parts: TokenIssuer(header=place[0], cookie=place[1], **parts),
    st.sampled_from([("authorization", ""), ("", "Session")]),
    name=FULL_NAMES,
    issuer=NAME,
    audiences=SOME_VALUES,
    algorithms=st.lists(st.sampled_from(ALGORITHMS), min_size=1, max_size=3).map(tuple),
    keys=st.sampled_from(["", '{"keys":\n\t[]}']),
    claim_headers=st.lists(st.tuples(NAME, NAME), max_size=2, unique_by=lambda pair: pair[0])
    .filter(lambda pairs: all(name not in FRAMING_HEADERS for name, _ in pairs))
    .map(tuple),
    leeway_seconds=st.integers(0, 300),
    introspection=st.none()
    | st.builds(
        Introspection,
        url=st.sampled_from(["https://a.example/i?b=c", "http://[::1]:9/"]),
        client_id=NAME,
        secret=NAME,
        cache_seconds=st.integers(0, 3600),
    ),
)
LABELS = st.dictionaries(NAME | st.just("app.example/x_Y"), st.sampled_from(["", "pii", "A.b_c"]), max_size=3)
ENDPOINTS = st.builds(
    Endpoint,
    mesh_host=HOSTS,
    mesh_port=PORTS,
    address=HOSTS,
    spiffe_id=WORKLOADS,
    ready=st.booleans(),
    transport=st.sampled_from(Transport),
    port=st.just(0) | PORTS,
)
SECONDS = st.none() | st.floats(1, 60)
ON = st.lists(st.sampled_from(RetryOn), min_size=1, max_size=5, unique=True).map(tuple)
RETRIES = st.builds(Retries, attempts=st.integers(0, 10), on=ON, idempotent=st.just(True), per_try_seconds=SECONDS)
PLAIN_RETRIES = st.builds(
    Retries, attempts=st.integers(0, 10), on=st.just(UNPROCESSED), budget_percent=st.integers(0, 100)
)
OPEN = st.none() | st.integers(1, 1_000_000)
OUTLIERS = st.none() | st.builds(
    Outliers,
    consecutive=st.integers(1, 10_000),
    interval_seconds=st.floats(0.1, 3600),
    ejection_seconds=st.floats(0.1, 3600),
    max_ejected_percent=st.integers(0, 100),
)
MATCHES = st.builds(
    RouteMatch,
    name=NAME,
    methods=st.sampled_from([("GET",), ("GET", "PUT")]),
    paths=st.sampled_from([(), ("/a",), ("/a/{id}", "/**")]),
    timeouts=st.none() | st.builds(RequestTimeouts, response_head_seconds=SECONDS, request_seconds=SECONDS),
    retries=st.none() | RETRIES,
)
COMMON = {"name": NAME, "max_age_seconds": SECONDS, "outliers": OUTLIERS, "panic_percent": st.integers(0, 100)}
OPAQUE_ROUTES = st.builds(
    Route,
    **COMMON,
    timeouts=st.builds(Timeouts, connect_seconds=SECONDS, idle_seconds=SECONDS),
    retries=PLAIN_RETRIES,
    circuit_breaker=st.builds(CircuitBreaker, connections=OPEN, pending=OPEN),
)
HTTP_ROUTES = st.builds(
    Route,
    **COMMON,
    timeouts=st.builds(Timeouts, response_head_seconds=SECONDS, request_seconds=SECONDS),
    retries=RETRIES,
    circuit_breaker=st.builds(CircuitBreaker, requests=OPEN),
    matches=st.lists(MATCHES, max_size=1).map(tuple),
)
RATES = st.builds(Rate, amount=st.integers(1, 2**50), seconds=st.sampled_from([1, 60, 3600]))
COUNTED_LIMITS = st.builds(RateLimit, name=NAME, per=st.sampled_from(Per), connections=RATES, bytes=st.none() | RATES)
REQUEST_LIMITS = st.builds(
    RateLimit,
    name=NAME,
    per=st.sampled_from(Per),
    methods=st.sampled_from([(), ("GET",)]),
    paths=st.sampled_from([(), ("/a/{id}",)]),
    requests=RATES,
    burst=st.none() | st.integers(1, 1_000_000_000),
).filter(lambda limit: limit.burst_seconds <= BURST_SECONDS)


def _limits(protocol: Protocol) -> st.SearchStrategy[tuple[RateLimit, ...]]:
    limits = COUNTED_LIMITS | REQUEST_LIMITS if protocol.may_be_http else COUNTED_LIMITS
    return st.lists(limits, max_size=3, unique_by=lambda limit: limit.name).map(tuple)


LISTENERS = st.one_of(st.just(("", 0)), st.tuples(HOSTS, PORTS))
UPSTREAMS = st.builds(
    lambda listener, speaks, **parts: Upstream(
        listen_host=listener[0], listen_port=listener[1], protocol=speaks[0], route=speaks[1], **parts
    ),
    LISTENERS,
    st.sampled_from(Protocol).flatmap(
        lambda protocol: st.tuples(
            st.just(protocol), st.none() | OPAQUE_ROUTES | (HTTP_ROUTES if protocol.may_be_http else st.nothing())
        )
    ),
    service=NAME,
    namespace=NAME,
    port=PORTS,
    endpoints=st.lists(ENDPOINTS, max_size=3, unique=True).map(tuple),
    addresses=st.lists(HOSTS, max_size=3, unique=True).map(tuple),
)
EGRESS = st.builds(
    EgressRule,
    name=NAME,
    hosts=st.lists(st.sampled_from(["a.example", "*.example", "xn--a"]), max_size=2).map(tuple),
    cidrs=st.lists(st.sampled_from(["10.0.0.0/8", "::/0"]), min_size=1, max_size=2).map(tuple),
    ports=st.lists(PORTS, max_size=2).map(tuple),
)


def _identity(upstream: Upstream) -> object:
    """What no two upstreams of a snapshot share."""
    if upstream.has_listener:
        return upstream.listen_host, upstream.listen_port
    return upstream.namespace, upstream.service, upstream.port


def _dialled_once(upstreams: list[Upstream]) -> bool:
    dialled = [(address, upstream.port) for upstream in upstreams for address in upstream.addresses]
    return len(dialled) == len(set(dialled))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    spiffe_id = draw(WORKLOADS)
    protocol = draw(st.sampled_from(Protocol))
    port = st.builds(
        Port,
        port=PORTS,
        protocol=st.just(protocol),
        address=HOSTS,
        app_host=HOSTS,
        app_port=PORTS,
        mode=st.sampled_from(PortMode),
        proxy_protocol=st.booleans() if protocol is Protocol.TCP else st.just(False),
        forwarded_for=st.sampled_from(ForwardedFor),
        limits=_limits(protocol),
    )
    mesh_port, inbound, outbound = draw(st.lists(PORTS, min_size=3, max_size=3, unique=True))
    upstreams = draw(st.lists(UPSTREAMS, max_size=3, unique_by=_identity))
    intercept = Intercept(inbound_port=inbound, outbound_port=outbound)
    policy = draw(POLICIES)
    return Snapshot(
        revision=draw(st.integers(1, 2**53 - 1)),
        workload=Workload(
            service=draw(NAME),
            namespace=spiffe_id.namespace or "",
            spiffe_id=spiffe_id,
            mesh_host=draw(HOSTS),
            mesh_port=mesh_port,
            ports=tuple(draw(st.lists(port, max_size=3, unique_by=lambda found: (found.address, found.port)))),
            intercept=intercept if draw(st.booleans()) and _dialled_once(upstreams) else None,
            forward_proxy=draw(st.sampled_from([None, ForwardProxy(host="::1", port=3128)])),
            labels=tuple(sorted(draw(LABELS).items())),
        ),
        upstreams=tuple(upstreams),
        allowlists=policy.allowlists,
        bundles=(BUNDLE,),
        egress=tuple(draw(st.lists(EGRESS, max_size=2, unique_by=lambda rule: rule.name))),
        denylists=policy.denylists,
        observe_until=policy.observe_until,
        shadow=draw(st.none() | POLICIES),
        token_issuers=tuple(draw(st.lists(ISSUERS, max_size=2, unique_by=lambda issuer: issuer.name))),
    )


@given(snapshots())
def test_snapshot_that_is_sent_arrives(snapshot: Snapshot) -> None:
    assert snapshot_from_wire(pb.Snapshot.FromString(snapshot_to_wire(snapshot).SerializeToString())) == snapshot


@given(snapshots(), st.data())
def test_mangled_snapshot_is_refused_or_holds_together(snapshot: Snapshot, data: st.DataObject) -> None:
    sent = bytearray(snapshot_to_wire(snapshot).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        received = snapshot_from_wire(pb.Snapshot.FromString(bytes(sent)))
    except (DecodeError, WireError):
        return
    # What passed is a snapshot like any other: it can be sent on and is taken as the same.
    assert snapshot_from_wire(snapshot_to_wire(received)) == received


@given(st.binary(max_size=200))
def test_no_bytes_for_a_report_do_more_than_be_refused(content: bytes) -> None:
    try:
        message = pb.SidecarReport.FromString(content)
        read_report(message)
    except (DecodeError, ReportError):
        return
    assert message.WhichOneof("report") is not None


@given(st.data())
def test_mangled_mesh_file_is_read_or_refused_with_places(data: st.DataObject) -> None:
    text = mesh_text("web", "orders", "payments", extra="identities: {lifetime: 30m}")
    text += (
        "      intercept: {inbound: 16006}\n      virtualAddresses: [10.0.0.7]\n"
        '      egress: [{name: a, hosts: ["*.a.example"], cidrs: [10.0.0.0/8], ports: [443]}]\n'
    )
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 12))
    junk = data.draw(st.text(st.sampled_from("\n\t :-[]{},&*!|>'\"%@`#0az\x00\u202e"), max_size=6))
    broken = text[:start] + junk + text[start + length :]
    document, problems = read_mesh(broken, "m")
    assert (document is None) == bool(problems)
    lines = broken.count("\n") + 2
    for problem in problems:
        assert 1 <= problem.line <= lines, (problem, broken)
        assert problem.column >= 1
        assert str(problem).isascii(), (problem, broken)
