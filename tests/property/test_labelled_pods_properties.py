"""A denylist that chooses by labels is told to each pod that has them and to no other, whatever else there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from k8s.objects.pods import Container, ContainerPort, Pod
from k8s.objects.services import Service, ServicePort
from k8s.translate.cluster import Cluster
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.spiffe import TrustDomain
from tests.unit.test_hosting_judging import written
from tests.unit.test_labelled_pods import ANYONE, told

_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)
_CONTAINERS = (
    Container(name="app", ports=(ContainerPort(name="web", port=80),)),
    Container(name="ringfence-sidecar", restarts=True),
)


@given(
    st.lists(_LABELS, min_size=1, max_size=4),
    st.lists(st.tuples(_LABELS, _LABELS.filter(bool)), max_size=2),
    _LABELS.filter(bool),
    st.booleans(),
)
def test_a_denial_by_labels_holds_where_they_are(
    pods: list[dict[str, str]],
    services: list[tuple[dict[str, str], dict[str, str]]],
    wanted: dict[str, str],
    ruling: bool,
) -> None:
    """``services``: labels and selector of each."""
    cluster = Cluster(
        pods=[
            Pod(
                namespace="shop",
                name=f"p{number}",
                labels=labels,
                addresses=(f"10.0.0.{number + 1}",),
                containers=_CONTAINERS,
            )
            for number, labels in enumerate(pods)
        ],
        services=[
            Service(
                namespace="shop",
                name=f"s{number}",
                labels=labels,
                selector=selector,
                cluster_ips=(f"10.96.0.{number + 1}",),
                ports=(ServicePort(port=80),),
            )
            for number, (labels, selector) in enumerate(services)
        ],
    )
    mesh = Translator(MeshSettings(trust_domain=TrustDomain("shop.example"))).mesh(cluster)
    labels = ", ".join(f"{name}: {value}" for name, value in wanted.items())
    namespace, scope = ("ringfence-system", "scope: mesh, ") if ruling else ("shop", "")
    deny = written("Denylist", "d", f"{{{scope}labels: {{{labels}}}, {ANYONE}}}", namespace)
    holds = {pod for pod, one in told(mesh, deny).items() if one.denylists}
    for number, own in enumerate(pods):
        if wanted.items() <= own.items():
            assert f"p{number}" in holds
            continue
        # A label of a Service is one of all of its pods.
        of_services = [held for held, selector in services if selector.items() <= own.items()]
        known = {*own.items(), *(label for held in of_services for label in held.items())}
        if not wanted.items() <= known:
            assert f"p{number}" not in holds
