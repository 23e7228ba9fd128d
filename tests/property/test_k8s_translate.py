"""Whatever a cluster holds: the order of its objects means nothing, and nobody outside the mesh becomes part of it."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from k8s.objects.namespaces import Namespace
from k8s.objects.pods import Container, ContainerPort, Owner, Pod
from k8s.objects.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from k8s.translate.cluster import Cluster
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.mesh import Mesh
from ringfence.spiffe import TrustDomain

_SETTINGS = MeshSettings(trust_domain=TrustDomain("shop.example"))
_NAMES = st.sampled_from(("a", "b", "c", "d"))
_SPACES = st.sampled_from(("shop", "bank", "ringfence-system"))
_PORTS = st.sampled_from((80, 8080, 9090, 15008))
_LABELS = st.dictionaries(st.sampled_from(("app", "tier")), _NAMES, max_size=2)
_MODES = st.dictionaries(st.just("ringfence.io/mode"), st.sampled_from(("strict", "permissive", "odd")), max_size=1)
_SIDECAR = Container(name="ringfence-sidecar", restarts=True)

_CONTAINERS = st.builds(
    lambda ports: Container(name="app", ports=tuple(ports)),
    st.lists(
        st.builds(
            lambda name, port, protocol: ContainerPort(name=name, port=port, protocol=protocol),
            _NAMES,
            _PORTS,
            st.sampled_from(("TCP", "UDP")),
        ),
        max_size=3,
    ),
)
_PODS = st.builds(
    Pod,
    namespace=_SPACES,
    name=_NAMES,
    labels=_LABELS,
    annotations=_MODES,
    service_account=st.sampled_from(("default", "cart")),
    addresses=st.integers(0, 6).map(lambda one: (f"10.0.0.{one}", f"fd00::{one}") if one else ()),
    phase=st.sampled_from(("Pending", "Running", "Succeeded")),
    ready=st.booleans(),
    deleting=st.booleans(),
    host_network=st.booleans(),
    owner=st.one_of(
        st.none(),
        st.builds(
            lambda kind, name: Owner(api_version="v1", kind=kind, name=name, uid="u"),
            st.sampled_from(("Job", "ReplicaSet")),
            _NAMES,
        ),
    ),
    containers=st.tuples(_CONTAINERS),
    init_containers=st.sampled_from(((), (_SIDECAR,))),
)
_SERVICES = st.builds(
    Service,
    namespace=_SPACES,
    name=_NAMES,
    labels=_LABELS,
    annotations=_MODES,
    selector=_LABELS,
    cluster_ips=st.sampled_from(((), ("10.96.0.1",), ("10.96.0.1", "fd00::1"))),
    ports=st.lists(
        st.one_of(
            st.builds(lambda port, target: ServicePort(port=port, target=target), _PORTS, _PORTS),
            st.builds(lambda port, name: ServicePort(port=port, target_name=name), _PORTS, _NAMES),
        ),
        max_size=3,
    ).map(tuple),
    external_name=st.sampled_from(("", "", "example.org")),
    publish_not_ready=st.booleans(),
)
_SLICES = st.builds(
    lambda space, name, service, pods: EndpointSlice(
        namespace=space,
        name=name,
        service=service,
        endpoints=tuple(SliceEndpoint(ready=fit, pod=pod) for pod, fit in pods),
    ),
    _SPACES,
    _NAMES,
    _NAMES,
    st.lists(st.tuples(_NAMES, st.booleans()), max_size=3),
)


def _unique(several: list, key=lambda one: (one.namespace, one.name)) -> list:  # type: ignore[no-untyped-def, type-arg]
    return list({key(one): one for one in several}.values())


@st.composite
def _clusters(draw: st.DrawFn) -> Cluster:
    labels = st.sampled_from(({}, {"ringfence.io/inject": "enabled"}))
    return Cluster(
        namespaces=[Namespace(name=one, labels=draw(labels), annotations=draw(_MODES)) for one in ("shop", "bank")],
        pods=_unique(draw(st.lists(_PODS, max_size=8))),
        services=_unique(draw(st.lists(_SERVICES, max_size=5))),
        slices=_unique(draw(st.lists(_SLICES, max_size=4))),
    )


def _shuffled(cluster: Cluster, seed: int) -> Cluster:
    chance = random.Random(seed)

    def mixed(several: object) -> list:  # type: ignore[type-arg]
        found = list(several)  # type: ignore[call-overload]
        chance.shuffle(found)
        return found

    return Cluster(
        namespaces=mixed(cluster.namespaces),
        pods=mixed(cluster.pods),
        services=mixed(cluster.services),
        slices=mixed(cluster.slices),
    )


def _mesh(cluster: Cluster) -> Mesh:
    return Translator(_SETTINGS).mesh(cluster)


@given(_clusters(), st.integers(0, 1000))
def test_the_order_of_objects_means_nothing(cluster: Cluster, seed: int) -> None:
    assert _mesh(cluster) == _mesh(_shuffled(cluster, seed))


@given(_clusters(), _clusters())
def test_what_a_translator_saw_before_means_nothing(before: Cluster, cluster: Cluster) -> None:
    translator = Translator(_SETTINGS)
    translator.mesh(before)
    assert translator.mesh(cluster) == _mesh(cluster)


@given(_clusters())
def test_instances_are_meshed_pods_and_every_meshed_pod_is_one(cluster: Cluster) -> None:
    mesh = _mesh(cluster)
    found = {(one.namespace, held.name): held for one, held in mesh.workloads}
    meshed = {
        (pod.namespace, pod.name): pod
        for pod in cluster.pods
        if pod.meshed and pod.addresses and not pod.ended and pod.namespace != "ringfence-system"
    }
    assert found.keys() <= meshed.keys()
    lost = {meshed[key].addresses[0] for key in meshed.keys() - found.keys()}
    assert lost <= {one.address for one in found.values()}, "only a pod whose address another has may be left out"


@given(_clusters())
def test_a_mesh_holds_what_the_control_plane_relies_on(cluster: Cluster) -> None:
    mesh = _mesh(cluster)
    names = [one.full_name for one in mesh.services]
    assert len(set(names)) == len(names)
    assert names == sorted(names)
    accounts = {(pod.namespace, pod.name): pod.service_account for pod in cluster.pods}
    for service in mesh.services:
        ports = [port.port for port in service.ports]
        assert len(set(ports)) == len(ports)
        assert not {15001, 15006, 15008, 15020} & set(ports)
        for instance in service.instances:
            assert len(instance.targets) == len(instance.apps) == len(ports)
            assert not {15001, 15006, 15008, 15020} & set(instance.targets)
            expected = f"spiffe://shop.example/ns/{service.namespace}/sa/{accounts[service.namespace, instance.name]}"
            assert str(service.identity_of(instance)) == expected


@given(_clusters())
def test_permissive_is_only_what_each_pod_stands_for(cluster: Cluster) -> None:
    strict = Cluster(
        namespaces=[replace(one, annotations={}) for one in cluster.namespaces],
        pods=[replace(one, annotations={}) for one in cluster.pods],
        services=[replace(one, annotations={}) for one in cluster.services],
        slices=cluster.slices,
    )
    assert all(port.mode.value == "strict" for one in _mesh(strict).services for port in one.ports)
