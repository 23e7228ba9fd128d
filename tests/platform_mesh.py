"""Meshes as a platform reads them."""

from __future__ import annotations

from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import (
    AccessLog,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Instance,
    Mesh,
    Service,
    ServicePort,
)
from ringfence.policy.labels import Labels
from ringfence.snapshot import Intercept, Protocol
from ringfence.spiffe import SpiffeId, TrustDomain

DOMAIN = "shop.example"


def service_of(
    full_name: str, *ports: int, labels: Labels = (), pods: int = 1, host: int | None = None, account: str = ""
) -> Service:
    """A service of that name with its pods, at addresses that its name makes, and an identity of its own."""
    namespace, _, name = full_name.partition("/")
    number = host if host is not None else sum(full_name.encode()) % 250
    return Service(
        name=name,
        namespace=namespace,
        service_account=account or name,
        spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}/ns/{namespace}/sa/{account or name}"),
        access_log=AccessLog(),
        ports=tuple(ServicePort(port=port, protocol=Protocol.HTTP) for port in ports),
        upstreams=(),
        instances=tuple(
            Instance(
                name=f"{name}-{pod}",
                address=f"10.{number >> 8}.{number & 255}.{pod + 1}",
                mesh_port=15008,
                signals=None,
                apps=tuple(SocketAddress(f"10.{number >> 8}.{number & 255}.{pod + 1}", port) for port in ports),
                listens=(),
                run=None,
            )
            for pod in range(pods)
        ),
        virtual_addresses=(f"10.255.{number >> 8}.{number & 255}",),
        intercept=Intercept(),
        labels=labels,
        pinned=True,
    )


def mesh_of(*services: Service) -> Mesh:
    """A mesh of these."""
    return Mesh(
        name="cluster",
        trust_domain=TrustDomain(DOMAIN),
        policies="",
        control_plane=ControlPlaneAddresses(),
        identities=IdentityLifetimes(),
        services=services,
    )
