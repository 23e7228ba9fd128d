"""A kind of document as a custom resource definition: names, columns, schema, status. Pure."""

from __future__ import annotations

from typing import Final

from k8s.crds.structure import PRESERVES, Structure, structure
from ringfence.policy.envelope import API_VERSION
from ringfence.policy.schema.kinds import KINDS as POLICY_KINDS
from ringfence.policy.schema.shapes import Kind
from ringfence.routing.schema import ROUTE

GROUP, VERSION = API_VERSION.split("/")
KINDS: Final = (*POLICY_KINDS, ROUTE)
CATEGORIES: Final = ("ringfence", "policy")
# ``role`` and ``rolebinding`` are Kubernetes' own: these names are ours alone.
_SHORT: Final = {
    "Allowlist": "rfallow",
    "CallerSet": "rfset",
    "Denylist": "rfdeny",
    "Egress": "rfegress",
    "Posture": "rfposture",
    "Role": "rfrole",
    "RoleBinding": "rfbinding",
    "Route": "rfroute",
    "TokenIssuer": "rfissuer",
}
_WAITING_MOST: Final = 10


def plural(kind: str) -> str:
    """``Allowlist``: ``allowlists``."""
    return f"{kind.lower()}{'es' if kind.endswith('s') else 's'}"


def definition(kind: Kind) -> Structure:
    """The resource of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural(kind.name)}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": plural(kind.name),
                "singular": kind.name.lower(),
                "shortNames": [_SHORT[kind.name]],
                "categories": list(CATEGORIES),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(kind),
                    "schema": {"openAPIV3Schema": _schema(kind)},
                }
            ],
        },
    }


def _schema(kind: Kind) -> Structure:
    return {
        "type": "object",
        "description": kind.summary,
        "required": ["spec"],
        PRESERVES: True,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structure(kind.spec),
            "status": _status(),
        },
    }


def _columns(kind: Kind) -> list[Structure]:
    fields = {field.name for field in kind.spec.fields}
    columns = [_column(name.capitalize(), f".spec.{name}") for name in ("service", "mode", "until") if name in fields]
    condition = '.status.conditions[?(@.type=="{}")].{}'
    columns += [
        _column("Accepted", condition.format("Accepted", "status")),
        _column("Enforced", ".status.enforced"),
        {**_column("Why", condition.format("Accepted", "message")), "priority": 1},
        {**_column("Age", ".metadata.creationTimestamp"), "type": "date"},
    ]
    return columns


def _column(name: str, path: str) -> Structure:
    return {"name": name, "type": "string", "jsonPath": path}


def _status() -> Structure:
    count = {"type": "integer", "format": "int64", "minimum": 0}
    return {
        "type": "object",
        "description": "What became of the document; written by the control plane alone.",
        "properties": {
            "observedGeneration": {**count, "description": "the generation of the spec that this speaks of"},
            "enforced": {"type": "string", "description": "`<enforcing>/<workloads>`"},
            "workloads": {**count, "description": "sidecars that the document concerns"},
            "enforcing": {**count, "description": "those of them that said that they enforce it"},
            "waiting": {
                "type": "array",
                "maxItems": _WAITING_MOST,
                "items": {"type": "string"},
                "description": "why others do not yet",
            },
            "conditions": {
                "type": "array",
                "description": "Accepted: it is in force. Enforced: by every sidecar that it concerns.",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": _condition(),
            },
        },
    }


def _condition() -> Structure:
    return {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string", "maxLength": 316},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string", "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
            "message": {"type": "string", "maxLength": 32768},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    }
