"""Documents by kind and name; no two of a kind share one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.written import (
    AllowlistDocument,
    CallerSetDocument,
    DenylistDocument,
    EgressDocument,
    PolicyDocument,
    PostureDocument,
    RoleBindingDocument,
    RoleDocument,
    TokenIssuerDocument,
)

# A role binding becomes an allowlist of its name, so the two kinds share their names.
_NAMES = {
    AllowlistDocument: ("allowlist", "allowlist"),
    RoleBindingDocument: ("role binding", "allowlist"),
    DenylistDocument: ("denylist", "denylist"),
    RoleDocument: ("role", "role"),
    CallerSetDocument: ("caller set", "caller set"),
    PostureDocument: ("posture", "posture"),
    TokenIssuerDocument: ("token issuer", "token issuer"),
    EgressDocument: ("egress", "egress"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All documents; those that others refer to by full name."""

    allowlists: list[AllowlistDocument] = field(default_factory=list)
    denylists: list[DenylistDocument] = field(default_factory=list)
    bindings: list[RoleBindingDocument] = field(default_factory=list)
    roles: dict[str, RoleDocument] = field(default_factory=dict)
    caller_sets: dict[str, CallerSetDocument] = field(default_factory=dict)
    postures: list[PostureDocument] = field(default_factory=list)
    issuers: dict[str, TokenIssuerDocument] = field(default_factory=dict)
    egresses: list[EgressDocument] = field(default_factory=list)


def catalogue(documents: Iterable[PolicyDocument], problems: list[Problem]) -> Catalog:
    """Sort ``documents``; of two of one kind and name the first by file and line keeps it, whatever order the files
    were read in."""
    catalog = Catalog()
    first: dict[tuple[str, str], Place] = {}
    for document in sorted(documents, key=lambda document: document.header.place):
        what, shared = _NAMES[type(document)]
        header = document.header
        if header.name and header.namespace:
            held = first.setdefault((shared, header.full_name), header.place)
            if held is not header.place:
                message = f"duplicate {what} {shown(header.full_name)}"
                problems.append(header.place.problem(message, f"first given at {held}: rename one"))
        match document:
            case AllowlistDocument():
                catalog.allowlists.append(document)
            case DenylistDocument():
                catalog.denylists.append(document)
            case RoleBindingDocument():
                catalog.bindings.append(document)
            case RoleDocument():
                catalog.roles.setdefault(header.full_name, document)
            case CallerSetDocument():
                catalog.caller_sets.setdefault(header.full_name, document)
            case PostureDocument():
                catalog.postures.append(document)
            case TokenIssuerDocument():
                catalog.issuers.setdefault(header.full_name, document)
            case EgressDocument():
                catalog.egresses.append(document)
    return catalog
