"""A cluster becomes the mesh that its own rules say: who stands behind a Service, on which port, and who they are."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.objects.namespaces import read_namespace
from k8s.objects.pods import read_pod
from k8s.objects.services import EndpointSlice, read_endpoint_slice, read_service
from k8s.translate.cluster import Cluster
from k8s.translate.meshing import MeshSettings, Translator
from k8s.translate.protocols import protocol_of
from ringfence.mesh import AccessLogMode, Mesh, Service
from ringfence.snapshot import PortMode, Protocol
from ringfence.spiffe import TrustDomain
from ringfence.wire.fields import read_name
from tests.cluster_objects import endpoint_slice, namespace, pod, service

_SETTINGS = MeshSettings(trust_domain=TrustDomain("shop.example"))


def cluster_of(*objects: dict[str, Any]) -> Cluster:
    """By what an object has: slices have endpoints, pods a status, Services a spec."""
    slices = [read_endpoint_slice(one) for one in objects if "endpoints" in one]
    return Cluster(
        slices=[one for one in slices if isinstance(one, EndpointSlice)],
        pods=[read_pod(one) for one in objects if "status" in one],
        services=[read_service(one) for one in objects if "spec" in one and "status" not in one],
        namespaces=[read_namespace(one) for one in objects if "endpoints" not in one and "spec" not in one],
    )


def mesh_of(*objects: dict[str, Any]) -> Mesh:
    return Translator(_SETTINGS).mesh(cluster_of(namespace("shop"), *objects))


def only(mesh: Mesh) -> Service:
    (found,) = mesh.services
    return found


def names(mesh: Mesh) -> list[str]:
    return [one.full_name for one in mesh.services]


def test_a_service_is_its_meshed_pods_at_its_cluster_address() -> None:
    cart = only(
        mesh_of(
            service("cart", {"port": 80, "targetPort": 8080}, ip=("10.96.0.7", "fd00::7")),
            pod("cart-1", "10.0.0.1", app="cart", account="cart"),
            pod("cart-2", "10.0.0.2", app="cart", account="cart"),
            pod("web-1", "10.0.0.3", app="web", meshed=False),
        )
    )
    assert cart.full_name == "shop/cart"
    assert str(cart.spiffe_id) == "spiffe://shop.example/ns/shop/sa/cart"
    assert cart.virtual_addresses == ("10.96.0.7", "fd00::7")
    assert [(one.name, one.address, one.mesh_port) for one in cart.instances] == [
        ("cart-1", "10.0.0.1", 15008),
        ("cart-2", "10.0.0.2", 15008),
    ]
    assert [(one.port, one.target) for one in cart.ports] == [(80, 8080)]
    assert [cart.targets_of(one) for one in cart.instances] == [(8080,), (8080,)]
    assert cart.pinned
    assert cart.intercept is not None


def test_a_named_target_is_found_in_each_pod_and_may_differ() -> None:
    cart = only(
        mesh_of(
            service("cart", {"port": 80, "targetPort": "web"}),
            pod("old", "10.0.0.1", app="cart", ports={"web": 8080}),
            pod("new", "10.0.0.2", app="cart", ports={"web": 9090}),
            pod("without", "10.0.0.3", app="cart"),
        )
    )
    assert {one.name: cart.targets_of(one)[0] for one in cart.instances} == {"old": 8080, "new": 9090, "without": 0}


def test_only_tcp_ports_are_of_the_mesh() -> None:
    dns = only(mesh_of(service("dns", {"port": 53, "protocol": "UDP"}, 53), pod("dns-1", "10.0.0.1", app="dns")))
    assert [one.port for one in dns.ports] == [53]


def test_a_declared_port_of_no_service_is_one_of_the_service_under_its_own_number() -> None:
    mesh = mesh_of(
        service("cart", {"port": 80, "targetPort": 8080}),
        service("admin", {"port": 81, "targetPort": 8081}, selector={"app": "cart"}),
        pod("cart-1", "10.0.0.1", app="cart", ports={"web": 8080, "admin": 8081, "http-metrics": 9090}),
        pod("cart-2", "10.0.0.2", app="cart", ports={"web": 8080}),
    )
    admin, cart = mesh.services
    assert [one.port for one in cart.ports] == [80, 9090]
    assert cart.ports[1].protocol is Protocol.HTTP
    assert [cart.targets_of(one) for one in cart.instances] == [(8080, 9090), (8080, 0)]
    assert [one.port for one in admin.ports] == [81, 9090], "the other Service's port is not this one's to open"


def test_a_pod_of_two_versions_of_ip_is_known_by_both_addresses() -> None:
    (instance,) = only(mesh_of(service("cart", 80), pod("cart-1", ("10.0.0.1", "fd00::1"), app="cart"))).instances
    assert (instance.address, instance.also) == ("10.0.0.1", ("fd00::1",))


def test_a_headless_service_has_no_address_of_its_own() -> None:
    base = only(mesh_of(service("db", 5432, ip="None"), pod("db-0", "10.0.0.1", app="db")))
    assert base.virtual_addresses == ()
    assert [one.name for one in base.instances] == ["db-0"]


@pytest.mark.parametrize(
    ("told", "ready", "deleting", "publish", "expected"),
    [
        (None, True, False, False, True),
        (None, False, False, False, False),
        (None, True, True, False, False),
        (None, False, False, True, True),
        (True, False, False, False, True),
        (False, True, False, False, False),
    ],
)
def test_the_slice_says_who_is_ready_and_before_there_is_one_the_pod(
    told: bool | None, ready: bool, deleting: bool, publish: bool, expected: bool
) -> None:
    objects = [
        service("cart", 80, publishNotReadyAddresses=publish),
        pod("cart-1", "10.0.0.1", app="cart", ready=ready, deleting=deleting),
    ]
    if told is not None:
        objects.append(endpoint_slice("cart", {"cart-1": told}))
    (instance,) = only(mesh_of(*objects)).instances
    assert instance.ready is expected


@pytest.mark.parametrize(
    ("meshed_ready", "other_ready", "led_outside"),
    [(False, True, True), (True, True, False), (True, False, False), (False, False, False)],
)
def test_while_a_rollout_goes_on_a_service_leads_to_whoever_is_ready(
    meshed_ready: bool, other_ready: bool, led_outside: bool
) -> None:
    mesh = mesh_of(
        service("cart", 80, ip=("10.96.0.7",)),
        pod("new", "10.0.0.1", app="cart", ready=meshed_ready),
        pod("old", "10.0.0.2", app="cart", meshed=False, ready=other_ready),
    )
    assert only(mesh).virtual_addresses == (() if led_outside else ("10.96.0.7",))
    assert [one.name for one in only(mesh).instances] == ["new"]


def test_a_slice_that_says_nothing_of_readiness_means_ready() -> None:
    mesh = mesh_of(
        service("cart", 80),
        pod("cart-1", "10.0.0.1", app="cart", ready=False),
        endpoint_slice("cart", {"cart-1": None}),
    )
    assert only(mesh).instances[0].ready


def test_a_service_without_selector_has_the_pods_that_its_slices_name() -> None:
    mesh = mesh_of(
        service("cart", 80, selector={}),
        pod("a", "10.0.0.1"),
        pod("b", "10.0.0.2"),
        endpoint_slice("cart", {"a": True}),
    )
    assert [one.name for one in mesh.services[1].instances] == ["a"]
    assert names(mesh) == ["shop/b", "shop/cart"]


def test_a_pod_in_several_services_stands_in_each() -> None:
    mesh = mesh_of(
        service("cart", 80),
        service("cart-canary", 81, selector={"app": "cart", "track": "canary"}),
        pod("one", "10.0.0.1", app="cart", labels={"track": "canary"}),
        pod("two", "10.0.0.2", app="cart"),
    )
    assert {one.name: [held.name for held in one.instances] for one in mesh.services} == {
        "cart": ["one", "two"],
        "cart-canary": ["one"],
    }


def test_services_share_an_account_and_one_service_has_several() -> None:
    mesh = mesh_of(
        service("cart", 80),
        service("web", 80),
        pod("c1", "10.0.0.1", app="cart", account="b"),
        pod("c2", "10.0.0.2", app="cart", account="a"),
        pod("w1", "10.0.0.3", app="web", account="a"),
    )
    cart, web = mesh.services
    assert [str(cart.identity_of(one)).rpartition("/")[2] for one in cart.instances] == ["b", "a"]
    assert cart.spiffe_id == web.spiffe_id


def test_a_pod_outside_the_mesh_is_never_an_instance_and_neither_is_its_service() -> None:
    mesh = mesh_of(
        service("cart", 80),
        service("old", 80),
        service("node", 80),
        pod("cart-1", "10.0.0.1", app="cart"),
        pod("cart-2", "10.0.0.2", app="cart", meshed=False),
        pod("old-1", "10.0.0.3", app="old", meshed=False),
        pod("node-1", "192.168.0.1", app="node", host_network=True),
    )
    assert names(mesh) == ["shop/cart"]
    assert [one.name for one in only(mesh).instances] == ["cart-1"]


def test_a_service_without_pods_is_of_the_mesh_where_its_namespace_is_and_nobody_bears_its_identity() -> None:
    mesh = Translator(_SETTINGS).mesh(
        cluster_of(
            namespace("shop"),
            namespace("other", inject=False),
            service("cart", 80, labels={"tier": "back"}),
            service("away", 80, ns="other"),
            service("manual", 80, selector={}),
        )
    )
    cart = only(mesh)
    assert cart.full_name == "shop/cart"
    assert [str(one) for one in cart.identities] == ["spiffe://shop.example/ns/shop/sa/_none"]
    assert cart.labels == (("app", "cart"), ("tier", "back"))


def test_an_alias_is_no_service_and_takes_no_pod_away() -> None:
    mesh = mesh_of(
        {**service("alias", 80, type="ExternalName", externalName="example.org", selector={"app": "cart"})},
        pod("cart-1", "10.0.0.1", app="cart"),
        endpoint_slice("alias", {"cart-1": True}),
    )
    assert names(mesh) == ["shop/cart-1"]


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (("ReplicaSet", "cart-5d4f"), {"pod-template-hash": "5d4f"}, "cart"),
        (("ReplicaSet", "bare"), {}, "bare"),
        (("StatefulSet", "db"), {}, "db"),
        (("Job", "migrate"), {"job-name": "migrate"}, "migrate"),
        (("Job", "report-29384710"), {}, "report"),
        (("DaemonSet", "agent"), {}, "agent"),
        (None, {}, "solo"),
    ],
)
def test_pods_of_no_service_are_named_after_their_workload(
    owner: tuple[str, str] | None, labels: dict[str, str], expected: str
) -> None:
    mesh = mesh_of(pod("solo", "10.0.0.1", owner=owner, labels=labels, ports={"http-admin": 8080}))
    found = only(mesh)
    assert found.name == expected
    assert [(one.port, one.protocol) for one in found.ports] == [(8080, Protocol.HTTP)]
    assert found.labels == ()


def test_a_workload_whose_name_is_taken_bears_its_kind() -> None:
    mesh = mesh_of(
        service("cart", 80),
        pod("cart-1", "10.0.0.1", app="cart"),
        pod("batch", "10.0.0.2", owner=("Job", "cart")),
        pod("a", "10.0.0.3", owner=("Job", "twice")),
        pod("b", "10.0.0.4", owner=("StatefulSet", "twice")),
        pod("job-cart", "10.0.0.5"),
    )
    assert names(mesh) == [
        "shop/cart",
        "shop/job-cart",
        "shop/job-cart-pods",
        "shop/job-twice",
        "shop/statefulset-twice",
    ]


def test_pods_that_have_ended_or_have_no_address_yet_are_not_there() -> None:
    mesh = mesh_of(
        service("cart", 80),
        pod("done", "10.0.0.1", app="cart", phase="Succeeded"),
        pod("failed", "10.0.0.2", app="cart", phase="Failed"),
        pod("early", (), app="cart", phase="Pending"),
    )
    assert only(mesh).instances == ()


def test_of_two_pods_with_one_address_the_one_that_is_going_is_gone() -> None:
    mesh = mesh_of(
        service("cart", 80),
        pod("z-old", "10.0.0.1", app="cart", deleting=True),
        pod("a-new", "10.0.0.1", app="cart", phase="Pending"),
    )
    assert [one.name for one in only(mesh).instances] == ["a-new"]


@pytest.mark.parametrize("where", ["kube-system", "ringfence-system"])
def test_namespaces_on_which_the_mesh_itself_depends_are_not_in_it(where: str) -> None:
    mesh = mesh_of(namespace(where), service("dns", 53, ns=where), pod("dns-1", "10.0.0.1", ns=where, app="dns"))
    assert mesh.services == ()


@pytest.mark.parametrize(
    ("by_namespace", "by_service", "by_pods", "expected"),
    [
        ("", "", ("", ""), PortMode.STRICT),
        ("permissive", "", ("", ""), PortMode.PERMISSIVE),
        ("permissive", "strict", ("", ""), PortMode.STRICT),
        ("", "permissive", ("", ""), PortMode.PERMISSIVE),
        ("", "permissive", ("strict", ""), PortMode.STRICT),
        ("", "", ("permissive", "permissive"), PortMode.PERMISSIVE),
        ("", "", ("permissive", ""), PortMode.STRICT),
        ("Permissive", "", ("", ""), PortMode.STRICT),
    ],
)
def test_plaintext_is_let_in_only_where_each_pod_says_so(
    by_namespace: str, by_service: str, by_pods: tuple[str, str], expected: PortMode
) -> None:
    def said(mode: str) -> dict[str, str]:
        return {"ringfence.io/mode": mode} if mode else {}

    mesh = mesh_of(
        {"metadata": {"name": "shop", "annotations": said(by_namespace)}},
        service("cart", 80, annotations=said(by_service)),
        *(pod(f"p{i}", f"10.0.0.{i}", app="cart", annotations=said(mode)) for i, mode in enumerate(by_pods)),
    )
    assert only(mesh).ports[0].mode is expected


def test_labels_are_those_that_all_pods_share_and_the_service_has() -> None:
    cart = only(
        mesh_of(
            service("cart", 80, labels={"team": "red", "tier": "front"}),
            pod("a", "10.0.0.1", app="cart", labels={"tier": "back", "version": "1", "pod-template-hash": "x"}),
            pod("b", "10.0.0.2", app="cart", labels={"tier": "back", "version": "2", "ringfence.io/injected": "true"}),
        )
    )
    assert cart.labels == (("app", "cart"), ("team", "red"), ("tier", "back"))
    assert {one.name: one.labels for one in cart.instances} == {"a": (("version", "1"),), "b": (("version", "2"),)}


def test_all_requests_are_logged_where_all_pods_ask_for_it() -> None:
    asked = {"ringfence.io/access-log": "all"}
    one = pod("a", "10.0.0.1", app="cart", annotations=asked)
    assert only(mesh_of(service("cart", 80), one)).access_log.mode is AccessLogMode.ALL
    both = mesh_of(service("cart", 80), one, pod("b", "10.0.0.2", app="cart"))
    assert only(both).access_log.mode is AccessLogMode.DENIED


@pytest.mark.parametrize(
    ("port", "name", "app_protocol", "expected"),
    [
        (80, "", "", Protocol.AUTO),
        (80, "web", "", Protocol.AUTO),
        (80, "http", "", Protocol.HTTP),
        (80, "http-web", "", Protocol.HTTP),
        (80, "httpx", "", Protocol.AUTO),
        (80, "http2-web", "", Protocol.HTTP2),
        (80, "grpc-web", "", Protocol.GRPC),
        (80, "http", "grpc", Protocol.GRPC),
        (80, "", "kubernetes.io/h2c", Protocol.HTTP2),
        (80, "", "kubernetes.io/ws", Protocol.HTTP),
        (443, "https", "", Protocol.TCP),
        (443, "", "HTTPS", Protocol.TCP),
        (80, "http", "example.com/own", Protocol.HTTP),
        (5432, "", "", Protocol.TCP),
        (5432, "http", "", Protocol.HTTP),
    ],
)
def test_what_a_port_speaks_is_said_by_its_protocol_or_its_name(
    port: int, name: str, app_protocol: str, expected: Protocol
) -> None:
    assert protocol_of(port, name, app_protocol) is expected


def test_what_did_not_change_is_the_same_object_again() -> None:
    cart = [service("cart", 80), pod("cart-1", "10.0.0.1", app="cart")]
    solo = [pod("solo", "10.0.0.2")]
    translator = Translator(_SETTINGS)
    before = translator.mesh(cluster_of(namespace("shop"), *cart, *solo))
    after = translator.mesh(cluster_of(namespace("shop"), *cart, *solo, pod("cart-2", "10.0.0.3", app="cart")))
    assert before.services[0] is not after.services[0]
    assert before.services[1] is after.services[1]


@pytest.mark.parametrize(
    "owner",
    [
        ("ReplicaSet", "a" * 254),
        ("ReplicaSet", "cart\n\x1b[2J"),
        ("ReplicaSet", "bank/vault"),
        ("Repl/icaSet", "cart"),
        ("K" * 300, "cart"),
        ("StatefulSet", ""),
    ],
)
def test_an_owner_that_is_no_name_is_no_part_of_what_callers_are_told(owner: tuple[str, str]) -> None:
    """Its author writes it, and no sidecar of a caller takes a snapshot with such a name."""
    mesh = mesh_of(pod("p-1", "10.0.0.1", owner=owner, ports={"http": 8080}))
    assert names(mesh) == ["shop/p-1"]
    assert only(mesh).name == read_name("service", "p-1")


def test_names_of_workloads_stay_within_what_sidecars_take() -> None:
    long = "x" * 150
    found = mesh_of(
        pod("y" * 253, "10.0.0.1", ports={"http": 8080}),
        *(
            pod(f"p-{number}", f"10.0.1.{number}", owner=(kind, long), ports={"http": 8080})
            for number, kind in enumerate(("K" * 63, "J" * 63, "Job"), 1)
        ),
    )
    assert len(found.services) == 4
    assert all(read_name("service", one.name) and one.namespace == "shop" for one in found.services)
