"""What ``ringfence k8s check`` finds: where, what, the mend, and documents that are ready to be applied. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Document = Mapping[str, Any]

API_VERSION: Final = "ringfence.io/v1alpha1"
_NAME_LIMIT: Final = 63


class Code(StrEnum):
    """What kind of finding it is; a closed set, for those who read JSON."""

    CLUSTER_VERSION = "cluster_version"
    NODE = "node"
    FEATURE_GATE = "feature_gate"
    WEBHOOK_HOLDS_SYSTEM = "webhook_holds_system"
    SCRAPER = "scraper"
    WEBHOOK = "webhook_to_mesh"
    ENTRANCE = "entrance"
    OUTSIDE = "outside_destination"
    POLICY_BLOCKS_MESH = "network_policy_blocks_mesh"
    POLICY_BLOCKS_CONTROL = "network_policy_blocks_control_plane"
    POLICY_PORTS = "network_policy_ports"
    SIDECAR_USER = "could_be_sidecar_user"
    OWN_PORT = "own_port_taken"
    SERVICE_CHOICE = "service_choice_not_followed"
    NOT_CARRIED = "protocol_not_carried"
    NOT_INJECTED = "not_injected"
    OUTDATED = "outdated"


class Weight(StrEnum):
    """``finding``: something breaks, or is not kept out. ``notice``: somebody chose it, and should know what it means;
    it alone leaves a cluster clean."""

    FINDING = "finding"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing. ``subject``: kind and full name of the object. ``commands``: what mends it, to be run as they are;
    ``documents``: what mends it, to be applied as they are."""

    code: Code
    subject: str
    what: str
    mend: str
    weight: Weight = Weight.FINDING
    commands: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "code": str(self.code),
            "weight": str(self.weight),
            "object": self.subject,
            "what": self.what,
            "mend": self.mend,
            "commands": list(self.commands),
            "documents": [dict(one) for one in self.documents],
        }


def kubectl(*words: str) -> str:
    """A command for a shell. Quoted, since a manifest may call its objects anything."""
    return shlex.join(("kubectl", *words))


def made_document(kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> Document:
    """A document of ours for a cluster; the name is cut to what the API takes."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": _label(name), "namespace": namespace},
        "spec": dict(spec),
    }


def _label(name: str) -> str:
    """Two names that are cut stay two: applied, one document would else take the other's place."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one == "-") else "-" for one in name.lower())
    if len(plain) > _NAME_LIMIT:
        plain = f"{plain[: _NAME_LIMIT - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return plain.strip("-") or "rule"


def is_kept(wanted: Document, existing: Iterable[Document]) -> bool:
    """Whether documents of the cluster say already all that ``wanted`` says: each of its rules stands, for the same
    services, in a document that is enforced. A "no" may be a yes said in other words."""
    spec = wanted["spec"]
    selectors = {name: spec[name] for name in ("service", "labels", "scope") if name in spec}
    standing: list[Mapping[str, Any]] = []
    for one in existing:
        held = one.get("spec")
        if (
            one.get("kind") == wanted["kind"]
            and isinstance(held, Mapping)
            and _namespace(one) == _namespace(wanted)
            and held.get("mode", "enforce") == "enforce"
            and (_selectors(held) == {"scope": "namespace"} or selectors == _selectors(held))
        ):
            rules = held.get("rules")
            standing.extend(rule for rule in rules if isinstance(rule, Mapping)) if isinstance(rules, list) else None
    return all(any(_covers(rule, asked) for rule in standing) for asked in spec["rules"])


def _namespace(document: Document) -> object:
    metadata = document.get("metadata")
    return metadata.get("namespace") if isinstance(metadata, Mapping) else None


def _selectors(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: spec[name] for name in ("service", "labels", "scope") if name in spec}


def _covers(rule: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether what ``asked`` permits is in what ``rule`` permits, word by word."""
    if rule.get("token") or rule.get("when"):
        return False
    if not _within(asked.get("from", []), rule.get("from", [])):
        return False
    calls, wanted = rule.get("to") or {}, asked.get("to") or {}
    if not isinstance(calls, Mapping):
        return False
    words = {**calls, **{name: rule[name] for name in ("hosts", "cidrs", "ports") if name in rule}}
    wanted = {**wanted, **{name: asked[name] for name in ("hosts", "cidrs", "ports") if name in asked}}
    return all(name in wanted and _within(wanted[name], value) for name, value in words.items())


def _within(asked: object, held: object) -> bool:
    return isinstance(asked, list) and isinstance(held, list) and all(one in held for one in asked)
