"""A reading that is told as JSON decides about calls as the one that it was made of."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controlplane.hosting.judging import ReadingJudge
from controlplane.hosting.plain_reading import plain_reading, reading_of
from controlplane.intake.judging import services_of
from controlplane.intake.world import world_of
from ringfence.platform import Reading, WrittenDocument
from ringfence.snapshot import PortMode
from tests.platform_mesh import mesh_of, service_of


def reading() -> Reading:
    orders = service_of("shop/orders", 80, 81, labels=(("tier", "edge"),), pods=2)
    ports = (replace(orders.ports[0], target=8080), replace(orders.ports[1], mode=PortMode.PERMISSIVE))
    other = replace(orders.instances[1], spiffe_id=service_of("shop/other").spiffe_id, targets=(9090, 0))
    text = (
        "apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\nmetadata: {name: a, namespace: shop}\n"
        "spec: {service: orders, rules: [{name: r, from: [{service: web}], to: {ports: [9090]}}]}"
    )
    return Reading(
        mesh=replace(
            mesh_of(replace(orders, ports=ports, instances=(orders.instances[0], other)), service_of("shop/web")),
            root_namespace="roots",
        ),
        documents=(WrittenDocument(name="Allowlist/shop/a", content=text.encode(), version="7"),),
    )


def test_what_decides_comes_back_as_it_was() -> None:
    first = reading()
    again = reading_of(json.loads(json.dumps(plain_reading("cluster", first))))
    # Ports that callers dial are for hints alone: here all ports are those of workloads.
    assert services_of(again.mesh) == {name: replace(one, leads={}) for name, one in services_of(first.mesh).items()}
    assert again.documents == first.documents
    assert again.mesh.root_namespace == "roots"
    judge = ReadingJudge(source="cluster")
    worlds = [world_of(judge.judge(one, None, 0.0).configuration) for one in (first, again)]
    assert worlds[0] == worlds[1]
    other = service_of("shop/other").spiffe_id
    found = worlds[0].service_of(other)
    assert found is not None and found.name == "orders"


@pytest.mark.parametrize("document", [{}, {"mesh": {}}, {"mesh": {"services": [{}]}}, {"mesh": []}])
def test_what_is_no_reading_is_refused(document: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        reading_of(document)
