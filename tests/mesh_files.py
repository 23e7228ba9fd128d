"""Mesh files and policies for tests, made from a few words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TRUST_DOMAIN = "shop.example"


def mesh_text(*services: str, trust_domain: str = TRUST_DOMAIN, extra: str = "", upstreams: bool = True) -> str:
    """A mesh of HTTP services in namespace shop; each one but the last calls the next."""
    names = services or ("web", "orders")
    lines = [
        "apiVersion: ringfence.io/v1alpha1",
        "kind: Mesh",
        "metadata: {name: shop}",
        "spec:",
        f"  trustDomain: {trust_domain}",
        *([f"  {extra}"] if extra else []),
        "  services:",
    ]
    for number, name in enumerate(names):
        lines += [
            f"    - name: {name}",
            "      namespace: shop",
            f"      mesh: {15101 + number}",
            "      ports:",
            f"        - {{port: 8080, protocol: http, app: {9001 + number}}}",
        ]
        if upstreams and number + 1 < len(names):
            listen = f"127.0.0.1:{9101 + number}"
            lines += [
                "      upstreams:",
                f'        - {{service: {names[number + 1]}, port: 8080, listen: "{listen}"}}',
            ]
    return "\n".join(lines) + "\n"


def allowlist_text(service: str, callers: Iterable[str], *, name: str = "", path: str = "/orders") -> str:
    """One allowlist that lets service accounts of namespace shop call one path of ``service``."""
    rules = "".join(
        f"    - name: from-{caller}\n"
        f"      from: [{{spiffeId: spiffe://{TRUST_DOMAIN}/ns/shop/sa/{caller}}}]\n"
        f"      to: {{methods: [GET], paths: [{path}]}}\n"
        for caller in callers
    )
    return (
        "apiVersion: ringfence.io/v1alpha1\n"
        "kind: Allowlist\n"
        f"metadata: {{name: {name or service}, namespace: shop}}\n"
        "spec:\n"
        f"  service: {service}\n"
        f"  rules:{' []' if not rules else ''}\n{rules}"
    )


def replace_text(path: Path, text: str) -> None:
    """At once, so that nobody reads half of it."""
    half = path.with_name(f".{path.name}.half")
    half.write_text(text)
    half.replace(path)


class MeshFolder:
    """A mesh file and its policy folder on disk."""

    def __init__(self, folder: Path, *services: str, extra: str = "") -> None:
        self.mesh_file = folder / "mesh.yaml"
        self.policies = folder / "policies"
        self.policies.mkdir(exist_ok=True)
        self.write_mesh(mesh_text(*services, extra=extra))

    def write_mesh(self, text: str) -> None:
        replace_text(self.mesh_file, text)

    def allow(self, service: str, *callers: str, path: str = "/orders") -> Path:
        """Write ``<service>.yaml`` with an allowlist."""
        file = self.policies / f"{service}.yaml"
        replace_text(file, allowlist_text(service, callers, path=path))
        return file
