"""Documents in a few words and a mesh to bind them to, for tests of binding."""

from __future__ import annotations

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bound import Binding
from ringfence.policy.documents import read_documents
from ringfence.policy.services import MeshService
from ringfence.policy.written import PolicyDocument
from ringfence.spiffe import SpiffeId, TrustDomain

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
OWN = TrustDomain("shop.example")
ROOT = "ringfence-system"


def service(name: str, ports: dict[int, str], **more: object) -> tuple[str, MeshService]:
    """A service by its full name, with the identity that goes with it."""
    namespace, _, short = name.partition("/")
    return name, MeshService(
        ports=ports,
        spiffe_id=SpiffeId.workload(OWN, namespace, short),
        **more,  # type: ignore[arg-type]
    )


SERVICES = dict(
    [
        service("shop/web", {8080: "http"}, labels=(("tier", "edge"),), permissive=frozenset({8080})),
        service("shop/orders", {8080: "http", 9000: "tcp", 9090: "grpc"}, labels=(("data", "pii"), ("tier", "back"))),
        service("shop/ledger", {5432: "tcp"}, labels=(("data", "pii"),)),
        service("shop/search", {8443: "grpc"}, has_sidecar=False, labels=(("tier", "back"), ("kind", "direct"))),
        service("bank/vault", {443: "http2"}),
    ]
)


def document(kind: str, name: str, spec: str, namespace: str = "shop") -> str:
    """One document; ``spec`` in YAML's flow style."""
    return (
        f"apiVersion: ringfence.io/v1alpha1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


def read(*texts: str) -> list[PolicyDocument]:
    """The documents of ``texts``, each a file f0.yaml, f1.yaml and so on, in which nothing is wrong."""
    found: list[PolicyDocument] = []
    for number, text in enumerate(texts):
        documents, problems = read_documents(text, f"f{number}.yaml")
        assert problems == [], problems
        found += documents
    return found


def bound(*texts: str, services: dict[str, MeshService] = SERVICES, now: float = NOW) -> Binding:
    """What these documents are bound to."""
    return bind(read(*texts), Surroundings(services=services, trust_domain=OWN, root_namespace=ROOT, now=now))


def told(*texts: str) -> list[str]:
    """The problems, each as its line."""
    binding = bound(*texts)
    assert not binding.errors or binding.policies == {}
    return [str(problem) for problem in binding.problems]
