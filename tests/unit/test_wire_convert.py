"""Snapshots over the wire: what is sent arrives, and what does not hold together is refused."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence

import pytest

from ringfence.policy.bounds import PORT_LIMIT
from ringfence.policy.model import (
    Allowlist,
    NamespaceCallers,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
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
from ringfence.spiffe import SpiffeId, TrustBundle, TrustDomain
from ringfence.wire import convert
from ringfence.wire.convert import WireError, snapshot_from_wire, snapshot_to_wire
from ringfence.wire.gen import control_pb2 as pb
from tests.pki import TestCa

CA = TestCa("shop.example")
DOMAIN = TrustDomain("shop.example")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
PAYMENTS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/payments")


def snapshot() -> Snapshot:
    return Snapshot(
        revision=7,
        workload=Workload(
            service="orders",
            namespace="shop",
            spiffe_id=ORDERS,
            mesh_host="127.0.0.1",
            mesh_port=15008,
            ports=(
                Port(port=8080, protocol=Protocol.HTTP, address="127.0.0.1", app_host="127.0.0.1", app_port=9002),
                Port(
                    port=7000,
                    protocol=Protocol.TCP,
                    address="127.0.0.1",
                    app_host="::1",
                    app_port=9003,
                    mode=PortMode.PERMISSIVE,
                    proxy_protocol=True,
                    forwarded_for=ForwardedFor.OFF,
                ),
            ),
            intercept=Intercept(inbound_port=15006, outbound_port=15001),
            forward_proxy=ForwardProxy(host="127.0.0.1", port=3128),
            instance="b",
        ),
        upstreams=(
            Upstream(
                service="payments",
                namespace="shop",
                port=8080,
                protocol=Protocol.HTTP,
                listen_host="127.0.0.1",
                listen_port=9102,
                endpoints=(
                    Endpoint(mesh_host="10.0.0.2", mesh_port=15008, address="10.0.0.2", spiffe_id=PAYMENTS),
                    Endpoint(
                        mesh_host="10.0.0.3",
                        mesh_port=15008,
                        address="10.0.0.3",
                        spiffe_id=PAYMENTS,
                        ready=False,
                        port=8081,
                    ),
                ),
                addresses=("10.0.0.2", "10.96.0.2"),
            ),
            Upstream(
                service="payments",
                namespace="shop",
                port=9090,
                protocol=Protocol.GRPC,
                listen_host="",
                listen_port=0,
                endpoints=(
                    Endpoint(
                        mesh_host="10.0.0.3",
                        mesh_port=8443,
                        address="10.0.0.3",
                        spiffe_id=PAYMENTS,
                        transport=Transport.DIRECT,
                    ),
                ),
                addresses=("10.0.0.2", "2001:db8::2"),
            ),
        ),
        allowlists=(
            Allowlist(
                namespace="shop",
                name="orders-callers",
                rules=(
                    Rule(
                        name="web",
                        callers=(
                            SpiffeIdPattern(trust_domain=DOMAIN, segments=("ns", "*", "sa", "web")),
                            NamespaceCallers(namespace="shop"),
                            TrustDomainCallers(trust_domain=TrustDomain("partner.example")),
                        ),
                        ports=(8080,),
                        methods=("GET", "POST"),
                        paths=("/orders/{id}", "/orders/**"),
                    ),
                    Rule(name="all", callers=(NamespaceCallers(namespace="ops"), UnauthenticatedCallers())),
                ),
            ),
        ),
        bundles=(CA.bundle(), TrustBundle(TrustDomain("partner.example"), (TestCa("partner.example").root.der,))),
        egress=(
            EgressRule(name="api", hosts=("api.example.org", "*.example.net"), ports=(443,)),
            EgressRule(name="net", cidrs=("10.1.0.0/16", "2001:db8::/32")),
        ),
    )


def test_what_is_sent_arrives() -> None:
    sent = snapshot()
    received = pb.Snapshot.FromString(snapshot_to_wire(sent).SerializeToString())
    arrived = snapshot_from_wire(received)
    assert arrived == sent
    assert [end.ready for end in arrived.upstreams[0].endpoints] == [True, False]  # no part of equality


def test_endpoint_of_a_sender_that_knows_no_readiness_is_ready() -> None:
    message = snapshot_to_wire(snapshot())
    message.upstreams[0].endpoints[1].ClearField("not_ready")
    assert all(end.ready for end in snapshot_from_wire(message).upstreams[0].endpoints)


def _set(path: str, value: object) -> Callable[[pb.Snapshot], None]:
    """Sets a field, named as in a WireError: ``workload.ports[0].port``."""

    def change(message: pb.Snapshot) -> None:
        *parents, last = path.replace("[", ".").replace("]", "").split(".")
        target: object = message
        for name in parents:
            target = target[int(name)] if name.isdigit() else getattr(target, name)  # type: ignore[index]
        if last.isdigit():
            target[int(last)] = value  # type: ignore[index]
        else:
            setattr(target, last, value)

    return change


def _repeat(path: str, times: int = 2) -> Callable[[pb.Snapshot], None]:
    """Makes a list hold its first item so many times."""

    def change(message: pb.Snapshot) -> None:
        target: object = message
        for name in path.replace("[", ".").replace("]", "").split("."):
            target = target[int(name)] if name.isdigit() else getattr(target, name)  # type: ignore[index]
        first = target[0]  # type: ignore[index]
        del target[:]  # type: ignore[attr-defined]
        target.extend([first] * times)  # type: ignore[attr-defined]

    return change


def _clear(name: str, of: Callable[[pb.Snapshot], object] = lambda message: message) -> Callable[[pb.Snapshot], None]:
    return lambda message: of(message).ClearField(name)  # type: ignore[attr-defined, no-any-return]


def _at_one_place(endpoints: MutableSequence[pb.Endpoint]) -> None:
    """Two that differ in their readiness alone, which makes nothing another endpoint."""
    endpoints[1].CopyFrom(endpoints[0])
    endpoints[1].not_ready = not endpoints[0].not_ready


def _rule(message: pb.Snapshot) -> pb.Rule:
    return message.allowlists[0].rules[0]


REFUSED: list[tuple[str, Callable[[pb.Snapshot], None]]] = [
    ("revision", _set("revision", 0)),
    ("revision", _set("revision", 2**63)),
    ("workload", _clear("workload")),
    ("workload.namespace", _set("workload.namespace", "bank")),
    ("workload.service", _set("workload.service", "")),
    ("workload.service", _set("workload.service", "or\nders")),
    ("workload.instance", _set("workload.instance", "../b")),
    ("workload.instance", _set("workload.instance", "B")),
    ("workload.instance", _set("workload.instance", "b" * 254)),
    ("workload.instance", _set("workload.instance", "b..c")),
    ("workload.instance", _set("workload.instance", "b.")),
    ("workload.instance", _set("workload.instance", ".".join(["b" * 60] * 5))),
    ("workload.spiffe_id", _set("workload.spiffe_id", "spiffe://shop.example/ns/shop/sa/a%2fb")),
    ("workload.spiffe_id", _set("workload.spiffe_id", "https://shop.example/ns/shop/sa/orders")),
    ("workload.namespace", _set("workload.spiffe_id", "spiffe://shop.example/orders")),
    ("bundles", _set("workload.spiffe_id", "spiffe://other.example/ns/shop/sa/orders")),
    ("workload.mesh_host", _set("workload.mesh_host", "orders.local")),
    ("workload.mesh_port", _set("workload.mesh_port", 0)),
    ("workload.mesh_port", _set("workload.mesh_port", 65536)),
    ("workload.ports[1]", _repeat("workload.ports")),
    ("workload.ports", _repeat("workload.ports", PORT_LIMIT + 1)),
    ("workload.ports[0].port", _set("workload.ports[0].port", 70_000)),
    ("workload.ports[1].protocol", _set("workload.ports[1].protocol", "quic")),
    ("workload.ports[1].protocol", _set("workload.ports[1].protocol", "")),
    ("workload.ports[0].address", _set("workload.ports[0].address", "127.0.0.01")),
    ("workload.ports[0].app_host", _set("workload.ports[0].app_host", "")),
    ("workload.ports[0].app_port", _set("workload.ports[0].app_port", 0)),
    ("upstreams[1]", _repeat("upstreams")),
    ("upstreams[0].service", _set("upstreams[0].service", "")),
    ("upstreams[0].listen_host", _set("upstreams[0].listen_host", "localhost")),
    ("upstreams[0].listen_port", _set("upstreams[0].listen_port", 0)),
    ("upstreams[0].listen_host", _set("upstreams[0].listen_host", "")),
    ("upstreams[1].listen_host", _set("upstreams[1].listen_port", 9103)),
    ("upstreams[1].listen_port", _set("upstreams[1].listen_host", "127.0.0.1")),
    ("upstreams[1].listen_port", _set("upstreams[1].listen_host", "0.0.0.0")),
    ("upstreams[2]", lambda message: message.upstreams.append(message.upstreams[1])),
    ("upstreams[1].addresses[0]", _set("upstreams[1].port", 8080)),
    ("upstreams[0].addresses[1]", _repeat("upstreams[0].addresses")),
    ("upstreams[0].addresses", _repeat("upstreams[0].addresses", convert.ADDRESS_LIMIT + 1)),
    ("upstreams[0].addresses[1]", _set("upstreams[0].addresses[1]", "payments.shop")),
    ("upstreams[0].addresses[1]", _set("upstreams[0].addresses[1]", "")),
    ("workload.ports[0].mode", _set("workload.ports[0].mode", "open")),
    ("workload.ports[0].mode", _set("workload.ports[0].mode", "Permissive")),
    ("workload.ports[0].proxy_protocol", _set("workload.ports[0].proxy_protocol", True)),
    ("workload.ports[1].proxy_protocol", _set("workload.ports[1].protocol", "grpc")),
    ("workload.forward_proxy.host", _set("workload.forward_proxy.host", "10.0.0.1")),
    ("workload.forward_proxy.host", _set("workload.forward_proxy.host", "0.0.0.0")),
    ("workload.forward_proxy.host", _set("workload.forward_proxy.host", "localhost")),
    ("workload.forward_proxy.port", _set("workload.forward_proxy.port", 0)),
    ("workload.intercept.inbound_port", _set("workload.intercept.inbound_port", 0)),
    ("workload.intercept.outbound_port", _set("workload.intercept.outbound_port", 65536)),
    ("workload.intercept", _set("workload.intercept.outbound_port", 15006)),
    ("workload.intercept", _set("workload.intercept.inbound_port", 15008)),
    ("egress[1]", _repeat("egress")),
    ("egress", _repeat("egress", convert.EGRESS_LIMIT + 1)),
    ("egress[0].name", _set("egress[0].name", "")),
    ("egress[0]", _clear("hosts", lambda message: message.egress[0])),
    ("egress[0].hosts[0]", _set("egress[0].hosts[0]", "*")),
    ("egress[0].hosts[0]", _set("egress[0].hosts[0]", "API.example.org")),
    ("egress[0].hosts[0]", _set("egress[0].hosts[0]", "")),
    ("egress[0].hosts[1]", _set("egress[0].hosts[1]", "*.*.net")),
    ("egress[0].hosts", _repeat("egress[0].hosts", convert.WORD_LIMIT + 1)),
    ("egress[0].ports[0]", _set("egress[0].ports[0]", 0)),
    ("egress[1].cidrs[0]", _set("egress[1].cidrs[0]", "10.1.0.1/16")),
    ("egress[1].cidrs[0]", _set("egress[1].cidrs[0]", "10.1.0.0")),
    ("egress[1].cidrs[1]", _set("egress[1].cidrs[1]", "2001:db8::/129")),
    ("upstreams[0].endpoints[1]", _repeat("upstreams[0].endpoints")),
    ("upstreams[0].endpoints[1]", lambda message: _at_one_place(message.upstreams[0].endpoints)),
    ("upstreams[0].endpoints[0].spiffe_id", _set("upstreams[0].endpoints[0].spiffe_id", "")),
    ("workload.ports[0].forwarded_for", _set("workload.ports[0].forwarded_for", "keep")),
    ("upstreams[0].endpoints[0].transport", _set("upstreams[0].endpoints[0].transport", "plain")),
    ("upstreams[0].endpoints[0].mesh_port", _set("upstreams[0].endpoints[0].mesh_port", 0)),
    ("upstreams[0].endpoints[1].port", _set("upstreams[0].endpoints[1].port", 65536)),
    ("upstreams[0].endpoints[0].address", _set("upstreams[0].endpoints[0].address", "10.0.0.2:80")),
    ("allowlists[1]", _repeat("allowlists")),
    ("allowlists[0].name", _set("allowlists[0].name", "")),
    ("allowlists[0].rules[1]", _repeat("allowlists[0].rules")),
    ("allowlists[0].rules[0].from", _clear("from", _rule)),
    ("allowlists[0].rules[0].from[0]", lambda message: getattr(_rule(message), "from")[0].Clear()),
    (
        "allowlists[0].rules[0].from[0]",
        lambda message: setattr(getattr(_rule(message), "from")[0], "unauthenticated", False),
    ),
    ("allowlists[0].rules[0].ports[0]", _set("allowlists[0].rules[0].ports[0]", 65536)),
    ("allowlists[0].rules[0].methods[0]", _set("allowlists[0].rules[0].methods[0]", "get")),
    ("allowlists[0].rules[0].methods[0]", _set("allowlists[0].rules[0].methods[0]", "GET /")),
    ("allowlists[0].rules[0].methods[0]", _set("allowlists[0].rules[0].methods[0]", "")),
    ("allowlists[0].rules[0].paths[0]", _set("allowlists[0].rules[0].paths[0]", "orders")),
    ("allowlists[0].rules[0].paths[0]", _set("allowlists[0].rules[0].paths[0]", "/a/../b")),
    ("bundles", _clear("bundles")),
    ("bundles[1]", _repeat("bundles")),
    ("bundles[0].roots", _clear("roots", lambda message: message.bundles[0])),
    ("bundles[0].roots[0]", _set("bundles[0].roots[0]", b"no certificate")),
    ("bundles[0].roots[0]", _set("bundles[0].roots[0]", b"x" * 20_000)),
    ("bundles[0].roots[0]", _set("bundles[0].roots[0]", CA.svid(str(ORDERS)).chain[0])),
    ("bundles[0].roots[1]", _repeat("bundles[0].roots")),
    ("bundles[0].trust_domain", _set("bundles[0].trust_domain", "Shop.example")),
]


@pytest.mark.parametrize(
    ("path", "change"), REFUSED, ids=[f"{number}-{path}" for number, (path, _) in enumerate(REFUSED)]
)
def test_what_does_not_hold_together_is_refused_with_its_path(path: str, change: Callable[[pb.Snapshot], None]) -> None:
    message = snapshot_to_wire(snapshot())
    change(message)
    with pytest.raises(WireError) as caught:
        snapshot_from_wire(message)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "pattern",
    [
        "spiffe://*/ns/shop/sa/web",
        "spiffe://shop.example/ns/shop/sa/w*",
        "spiffe://shop.example",
        "ns/shop/sa/web",
        "*",
    ],
)
def test_a_caller_pattern_wider_than_whole_segments_is_refused(pattern: str) -> None:
    message = snapshot_to_wire(snapshot())
    getattr(_rule(message), "from")[0].spiffe_id = pattern
    with pytest.raises(WireError, match=r"from\[0\]"):
        snapshot_from_wire(message)


def test_a_sender_that_knows_no_modes_means_strict_ports_and_no_more() -> None:
    message = snapshot_to_wire(snapshot())
    for name in ("mode", "proxy_protocol", "forwarded_for"):
        message.workload.ports[1].ClearField(name)
    message.workload.ClearField("intercept")
    message.workload.ClearField("forward_proxy")
    message.ClearField("egress")
    message.upstreams[0].endpoints[0].ClearField("transport")
    received = snapshot_from_wire(message)
    assert [endpoint.port for endpoint in received.upstreams[0].endpoints] == [0, 8081]
    assert received.workload.ports[1].mode is PortMode.STRICT
    assert not received.workload.ports[1].proxy_protocol
    assert received.workload.intercept is None
    assert received.workload.forward_proxy is None
    assert received.upstreams[0].endpoints[0].transport is Transport.TUNNEL
    assert received.workload.ports[1].forwarded_for is ForwardedFor.REPLACE
    assert received.egress == ()


def test_addresses_may_meet_where_nothing_is_intercepted() -> None:
    message = snapshot_to_wire(snapshot())
    message.workload.ClearField("intercept")
    message.upstreams[1].port = 8080
    assert [upstream.port for upstream in snapshot_from_wire(message).upstreams] == [8080, 8080]


def test_a_service_without_endpoints_or_rules_is_no_error() -> None:
    message = snapshot_to_wire(snapshot())
    del message.upstreams[0].endpoints[:]
    del message.allowlists[:]
    received = snapshot_from_wire(message)
    assert received.upstreams[0].endpoints == ()
    assert received.allowlists == ()


UNKNOWN_FIELD = b"\x9a\x06\x04when"  # number 99, four bytes of text


@pytest.mark.parametrize(
    "part",
    [
        lambda message: message,
        lambda message: message.workload,
        lambda message: message.workload.ports[0],
        lambda message: message.upstreams[0].endpoints[0],
        lambda message: message.allowlists[0],
        lambda message: message.allowlists[0].rules[0],
        lambda message: getattr(message.allowlists[0].rules[0], "from")[0],
        lambda message: message.bundles[0],
    ],
)
def test_what_a_newer_control_plane_says_more_is_not_left_out_but_refused(
    part: Callable[[pb.Snapshot], pb.Snapshot],
) -> None:
    # A condition or a denylist that an older sidecar reads past would permit what it denies.
    sent = snapshot()
    message = snapshot_to_wire(sent)
    assert snapshot_from_wire(pb.Snapshot.FromString(message.SerializeToString())) == sent
    part(message).MergeFromString(UNKNOWN_FIELD)
    with pytest.raises(WireError, match="this version does not know"):
        snapshot_from_wire(pb.Snapshot.FromString(message.SerializeToString()))


def test_a_root_of_a_version_that_does_not_exist_is_refused() -> None:
    message = snapshot_to_wire(snapshot())
    version = b"\xa0\x03\x02\x01"
    root = message.bundles[0].roots[0]
    place = root.index(version) + len(version)
    message.bundles[0].roots[0] = root[:place] + b"\x07" + root[place + 1 :]
    with pytest.raises(WireError, match=r"bundles\[0\].roots\[0\]: not a CA certificate"):
        snapshot_from_wire(message)


def test_an_instance_may_be_called_as_a_pod_may() -> None:
    message = snapshot_to_wire(snapshot())
    message.workload.instance = "web.v1-7c9f-x2x4q"
    assert snapshot_from_wire(message).workload.instance == "web.v1-7c9f-x2x4q"
