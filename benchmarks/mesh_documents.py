"""The mesh that is measured, as the documents that a user would write. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TRUST_DOMAIN = "bench.example"
HTTP_PORT, TCP_PORT, FORBIDDEN_PORT = 8080, 9000, 9001
"""The service ports of ``api``; the last two are opaque, and the policy permits the first of these only."""

Document = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a service and the app behind it; ``protocol``: ``http`` or ``tcp``."""

    port: int
    protocol: str
    app_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A port of a service that another calls, and where it does so."""

    service: str
    port: int
    listen_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the mesh: its sidecar's ports, what stands behind it and what it calls."""

    name: str
    mesh_port: int
    signals_port: int
    access_log: str = "denied"
    ports: tuple[Port, ...] = ()
    upstreams: tuple[Upstream, ...] = ()

    @property
    def spiffe_id(self) -> str:
        return f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{self.name}"

    def as_document(self) -> Document:
        """The service as ``mesh.yaml`` has it."""
        document: Document = {
            "name": self.name,
            "mesh": self.mesh_port,
            "signals": f"127.0.0.1:{self.signals_port}",
            "accessLog": self.access_log,
        }
        if self.ports:
            document["ports"] = [
                {"port": port.port, "protocol": port.protocol, "app": f"127.0.0.1:{port.app_port}"}
                for port in self.ports
            ]
        if self.upstreams:
            document["upstreams"] = [
                {"service": upstream.service, "port": upstream.port, "listen": f"127.0.0.1:{upstream.listen_port}"}
                for upstream in self.upstreams
            ]
        return document


def mesh_document(
    services: Sequence[Service], join: int, listen: int, signals: int, lifetime_seconds: int | None = None
) -> Document:
    """The ``mesh.yaml`` of ``services`` with a control plane on these ports; ``lifetime_seconds`` of their SVIDs."""
    identities: Document = {"identities": {"lifetime": f"{lifetime_seconds}s"}} if lifetime_seconds else {}
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Mesh",
        "metadata": {"name": "bench"},
        "spec": {
            "trustDomain": TRUST_DOMAIN,
            "policies": "policies",
            "controlPlane": {
                "join": f"127.0.0.1:{join}",
                "listen": f"127.0.0.1:{listen}",
                "signals": f"127.0.0.1:{signals}",
            },
            **identities,
            "services": [service.as_document() for service in services],
        },
    }


def reads(path_templates: Iterable[str]) -> Document:
    """The words of a rule that permits what ``path_templates`` name, to be read over HTTP."""
    return {"ports": [HTTP_PORT], "methods": ["GET"], "paths": list(path_templates)}


def allowlist(service: str, caller: str, *permitted: Document, part: str = "") -> Document:
    """The policy document that lets ``caller`` do what each of ``permitted`` says, a rule each, and nothing else.

    ``part`` tells it from others for the same service.
    """
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": f"{service}-callers{part}", "namespace": "default"},
        "spec": {
            "service": service,
            "rules": [
                {
                    "name": f"rule-{number}",
                    "from": [{"spiffeId": f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{caller}"}],
                    "to": words,
                }
                for number, words in enumerate(permitted, 1)
            ],
        },
    }
