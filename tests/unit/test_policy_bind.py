"""Binding documents to services: what cannot be enforced is found, at its place."""

from __future__ import annotations

import pytest

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bound import Binding
from ringfence.policy.documents import read_documents
from ringfence.policy.services import MeshService
from ringfence.policy.written import PolicyDocument

SERVICES = {
    "shop/orders": MeshService(ports={8080: "http", 9000: "tcp"}),
    "shop/ledger": MeshService(ports={5432: "tcp"}),
    "bank/vault": MeshService(ports={}),
    "shop/search": MeshService(ports={8443: "grpc"}, has_sidecar=False),
    "shop/door": MeshService(ports={80: "http", 81: "http", 90: "tcp"}, permissive=frozenset({80})),
}


def documents(*texts: str) -> list[PolicyDocument]:
    found: list[PolicyDocument] = []
    for number, text in enumerate(texts):
        read, problems = read_documents(text, f"f{number}.yaml")
        assert problems == []
        found += read
    return found


def bound(found: list[PolicyDocument], services: dict[str, MeshService] = SERVICES) -> Binding:
    return bind(found, Surroundings(services=services))


def allowlist(name: str, service: str, to: str = "", namespace: str = "shop", caller: str = "namespace: shop") -> str:
    rule = f"{{name: r, from: [{{{caller}}}]{', to: ' + to if to else ''}}}"
    return (
        "apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n  service: {service}\n  rules:\n  - {rule}\n"
    )


def told(*texts: str) -> list[str]:
    binding = bound(documents(*texts))
    assert (binding.policies == {}) == bool(binding.errors)
    return [str(problem) for problem in binding.problems]


def test_allowlists_are_bound_to_their_services_in_the_order_of_their_names() -> None:
    texts = [
        allowlist("b", "orders"),
        allowlist("a", "orders", "{ports: [8080], methods: [GET]}"),
        allowlist("c", "ledger"),
    ]
    binding = bound(documents(*texts))
    assert binding.problems == ()
    assert {name: [a.full_name for a in one.policy.allowlists] for name, one in binding.policies.items()} == {
        "shop/orders": ["shop/a", "shop/b"],
        "shop/ledger": ["shop/c"],
    }
    assert bound(documents(*reversed(texts))).policies == binding.policies


def test_nothing_binds_to_nothing() -> None:
    assert bound([]) == Binding(policies={})


def test_an_unknown_service_is_told_with_the_nearest_or_where_it_is() -> None:
    assert told(allowlist("a", "ordrs"), allowlist("b", "vault"), allowlist("c", "orders", namespace="else")) == [
        "f0.yaml:5:12: namespace shop has no service 'ordrs' (did you mean orders?)",
        "f1.yaml:5:12: namespace shop has no service 'vault' "
        "(bank/vault exists: an allowlist stands in the namespace of the service)",
        "f2.yaml:5:12: namespace else has no service 'orders' "
        "(shop/orders exists: an allowlist stands in the namespace of the service)",
    ]
    assert told(allowlist("a", "zzz")) == [
        "f0.yaml:5:12: namespace shop has no service 'zzz' (use one of door, ledger, orders, search)"
    ]
    assert told(allowlist("a", "zzz", namespace="nowhere")) == [
        "f0.yaml:5:12: namespace nowhere has no service 'zzz' (no service of the mesh is in that namespace)"
    ]


def test_an_unknown_port_is_told_with_those_there_are() -> None:
    assert told(allowlist("a", "orders", "{ports: [8080, 8081]}"), allowlist("b", "vault", "{ports: [1]}", "bank")) == [
        "f0.yaml:7:61: shop/orders has no port 8081 (its ports: 8080, 9000)",
        "f1.yaml:7:55: bank/vault has no port 1 (its ports: none: it has no ports)",
    ]


def test_http_words_on_an_opaque_port_are_an_error() -> None:
    assert told(
        allowlist("a", "orders", "{ports: [8080, 9000], methods: [GET]}"),
        allowlist("b", "ledger", '{paths: ["/x"]}'),
        allowlist("c", "orders", '{paths: ["/x"]}'),
        allowlist("d", "orders", "{ports: [9000]}"),
    ) == [
        "f0.yaml:7:61: rule r speaks of HTTP, but port 9000 of shop/orders carries opaque TCP "
        "(remove the port, or remove methods from the rule)",
        "f1.yaml:7:55: rule r speaks of HTTP, but no port of shop/ledger is read as HTTP (remove paths from the rule)",
    ]


@pytest.mark.parametrize("protocol", ["http", "http2", "grpc"])
def test_http_words_are_at_home_on_every_form_of_http(protocol: str) -> None:
    services = {"shop/orders": MeshService(ports={8080: protocol})}
    texts = [allowlist("a", "orders", "{ports: [8080], methods: [POST]}"), allowlist("b", "orders", '{paths: ["/x"]}')]
    assert bound(documents(*texts), services).problems == ()


def unauthenticated(service: str, to: str = "") -> str:
    namespace, _, name = service.rpartition("/")
    return allowlist("a", name, to, namespace or "shop", "unauthenticated: true")


@pytest.mark.parametrize("to", ["", "{ports: [80]}", "{ports: [80, 81]}", '{ports: [90, 80], paths: ["/"]}'])
def test_unauthenticated_callers_are_at_home_where_an_addressed_port_is_permissive(to: str) -> None:
    expected = (
        [
            "f0.yaml:7:61: rule r speaks of HTTP, but port 90 of shop/door carries opaque TCP "
            "(remove the port, or remove paths from the rule)"
        ]
        if "90" in to
        else []
    )
    assert told(unauthenticated("door", to)) == expected


@pytest.mark.parametrize(
    ("service", "to", "expected"),
    [
        ("door", "{ports: [81]}", "port that it names"),
        ("door", "{ports: [81, 90]}", "port that it names"),
        ("orders", "", "port of shop/orders"),
        ("orders", "{ports: [8080]}", "port that it names"),
        ("bank/vault", "", "port of bank/vault"),
    ],
)
def test_unauthenticated_callers_where_no_addressed_port_is_permissive_are_an_error(
    service: str, to: str, expected: str
) -> None:
    assert told(unauthenticated(service, to)) == [
        f"f0.yaml:7:22: rule r permits unauthenticated callers, but no {expected} is permissive "
        "(give a port mode: permissive in the mesh file, or remove the caller)"
    ]


def test_a_port_that_is_not_there_is_told_once_whoever_may_call_it() -> None:
    assert told(unauthenticated("door", "{ports: [82]}")) == [
        "f0.yaml:7:61: shop/door has no port 82 (its ports: 80, 81, 90)"
    ]


def test_a_name_taken_twice_is_told_at_the_second_whatever_the_order() -> None:
    texts = (allowlist("a", "orders"), allowlist("a", "ledger"))
    expected = ["f1.yaml:3:18: duplicate allowlist 'shop/a' (first given at f0.yaml:3: rename one)"]
    assert told(*texts) == expected
    found = documents(*texts)
    assert [str(problem) for problem in bound(found[::-1]).problems] == expected


def test_one_name_in_two_namespaces_is_two_names() -> None:
    assert told(allowlist("a", "orders"), allowlist("a", "vault", namespace="bank")) == []


def test_an_allowlist_that_no_sidecar_would_enforce_is_an_error_whatever_it_says() -> None:
    assert told(allowlist("a", "search")) == [
        "f0.yaml:5:12: shop/search has no sidecar, so that nobody would enforce this allowlist "
        "(remove it, as the service judges its callers itself, or give the service a sidecar)"
    ]
    assert len(told(allowlist("a", "search", "{ports: [1]}"))) == 1
