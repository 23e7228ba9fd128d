"""A snapshot as it comes from the wire, small and valid, for tests of the sidecar."""

from __future__ import annotations

from ringfence.spiffe import SpiffeId
from ringfence.wire.gen import control_pb2 as pb
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, WEB
from tests.pki import TestCa

_ROOT = TestCa(TRUST_DOMAIN).root.der


def snapshot_message(
    revision: int, *, spiffe_id: SpiffeId = ORDERS, mesh_port: int = 15008, root: bytes = _ROOT
) -> pb.Snapshot:
    """One HTTP port, one allowlist that lets web read orders."""
    return pb.Snapshot(
        revision=revision,
        workload=pb.Workload(
            service="orders",
            namespace="shop",
            spiffe_id=str(spiffe_id),
            mesh_host="127.0.0.1",
            mesh_port=mesh_port,
            ports=[pb.Port(port=8080, protocol="http", address="127.0.0.1", app_host="127.0.0.1", app_port=9002)],
        ),
        allowlists=[
            pb.Allowlist(
                namespace="shop",
                name="orders-callers",
                rules=[
                    pb.Rule(
                        name="web-reads",
                        **{"from": [pb.Callers(spiffe_id=str(WEB))]},
                        ports=[8080],
                        methods=["GET"],
                        paths=["/orders/{id}"],
                    )
                ],
            )
        ],
        bundles=[pb.Bundle(trust_domain=str(TRUST_DOMAIN), roots=[root])],
    )
