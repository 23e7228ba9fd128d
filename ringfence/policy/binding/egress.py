"""What the apps of each service may reach outside the mesh. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence.policy.binding.catalog import Catalog
from ringfence.policy.binding.selection import Selection
from ringfence.policy.bounds import EGRESS_LIMIT
from ringfence.policy.model import EgressRule
from ringfence.policy.problems import Problem
from ringfence.policy.written import EgressDocument


def bind_egress(
    catalog: Catalog, selection: Selection, root_namespace: str, problems: list[Problem]
) -> Mapping[str, tuple[EgressRule, ...]]:
    """The rules of each service that has any, in the order of their names; any of them permits."""

    def rank(document: EgressDocument) -> tuple[bool, str]:
        return document.header.namespace != root_namespace, document.header.full_name

    found: dict[str, list[EgressRule]] = {}
    for document in sorted(catalog.egresses, key=rank):
        over: str | None = None
        for service in selection.select(document.header, document.selector, "egress"):
            held = found.setdefault(service, [])
            held.extend(rule.value for rule in document.rules)
            if len(held) > EGRESS_LIMIT:
                over = service
        if over is not None:
            message = f"{over} has {len(found[over])} egress rules with this document"
            problems.append(document.header.place.problem(message, f"at most {EGRESS_LIMIT}: remove some"))
    return {service: tuple(sorted(rules, key=lambda rule: rule.name)) for service, rules in found.items()}
