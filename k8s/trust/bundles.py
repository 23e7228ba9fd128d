"""The objects that hold the mesh's roots: a ConfigMap of each namespace, and the ClusterTrustBundle. Pure.

Both hold the same text, the roots in PEM, sorted and each once, so that the same roots are the same text to whoever
compares, in whatever order the authority names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from k8s.objects.names import CLUSTER_TRUST_BUNDLE, SIGNER, TRUST_CONFIG_MAP, TRUST_KEY
from ringfence.spiffe import TrustBundle

_LABELS: Final = {"app.kubernetes.io/part-of": "ringfence", "app.kubernetes.io/managed-by": "ringfence"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBundle:
    """What an object says now. ``fixed``: it is marked as immutable, and can only be made anew."""

    pem: str
    fixed: bool = False


def bundle_text(bundle: TrustBundle) -> str:
    """The roots as PEM blocks, sorted, each once. ValueError for a bundle without any: pods that read it would trust
    nobody, and a mistake of ours must not tell them so."""
    if not bundle.roots:
        raise ValueError(f"trust domain {bundle.trust_domain} has no roots now")
    one_by_one = {TrustBundle(bundle.trust_domain, (root,)).to_pem().decode("ascii") for root in bundle.roots}
    return "".join(sorted(one_by_one))


def read_config_map(document: Mapping[str, Any]) -> HeldBundle | None:
    """What a ConfigMap of our name says; None for one of another name."""
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping) or metadata.get("name") != TRUST_CONFIG_MAP:
        return None
    found = document.get("data")
    pem = found.get(TRUST_KEY) if isinstance(found, Mapping) else None
    return HeldBundle(pem=pem if isinstance(pem, str) else "", fixed=document.get("immutable") is True)


def config_map(pem: str) -> dict[str, Any]:
    """The ConfigMap to apply in a namespace."""
    return {"metadata": {"name": TRUST_CONFIG_MAP, "labels": dict(_LABELS)}, "data": {TRUST_KEY: pem}}


def read_cluster_bundle(document: Mapping[str, Any]) -> HeldBundle:
    """What the ClusterTrustBundle says."""
    spec = document.get("spec")
    found = spec.get("trustBundle") if isinstance(spec, Mapping) else None
    return HeldBundle(pem=found if isinstance(found, str) else "")


def cluster_bundle(pem: str) -> dict[str, Any]:
    """The ClusterTrustBundle to apply."""
    metadata = {"name": CLUSTER_TRUST_BUNDLE, "labels": dict(_LABELS)}
    return {"metadata": metadata, "spec": {"signerName": SIGNER, "trustBundle": pem}}
