"""What apps may reach outside the mesh. Pure.

kind: Egress
metadata: {name: payments, namespace: shop}
spec:
  service: orders                       # or labels, or scope
  rules:
    - name: stripe
      hosts: [api.stripe.com]           # hosts or cidrs, or both: either will do
      ports: [443]
"""

from __future__ import annotations

from typing import Final

from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
from ringfence.policy.bounds import EGRESS_LIMIT
from ringfence.policy.envelope import read_label
from ringfence.policy.lists import read_items, read_list, read_port
from ringfence.policy.model import EgressRule
from ringfence.policy.problems import Place, shown
from ringfence.policy.reading.context import Context
from ringfence.policy.reading.origins import read_cidr
from ringfence.policy.reading.selectors import read_selector
from ringfence.policy.written import EgressDocument, Placed
from ringfence.policy.yamlnodes import MappingReader, ValueReader

NAME_LIMIT_CHARACTERS: Final = 253  # of ``<namespace>/<document>/<rule>``, by which sidecars and people know a rule


def read_egress(spec: MappingReader, context: Context) -> EgressDocument:
    """The document in ``spec``; rules in which something is wrong are left out, never read in part."""
    selector = read_selector(spec, context.problems)
    rules: list[Placed[EgressRule]] = []
    seen: dict[str, Place] = {}
    before = len(context.problems)
    for item in read_items(spec, "rules", EGRESS_LIMIT):
        reader = item.mapping()
        at = len(context.problems)
        rule = _read_rule(reader, context, seen)
        reader.finish()
        if len(context.problems) == at:
            rules.append(Placed(rule, reader.place("name")))
    if not rules and len(context.problems) == before:
        spec.problem("rules is empty", "add one, or remove the document", key="rules")
    return EgressDocument(header=context.header, selector=selector, rules=tuple(rules))


def _read_rule(reader: MappingReader, context: Context, seen: dict[str, Place]) -> EgressRule:
    name = read_label(reader, "name")
    place = reader.place("name")
    if name and seen.setdefault(name, place) is not place:
        mend = f"first used on line {seen[name].line}: rename one"
        reader.problem(f"duplicate rule name {shown(name)}", mend, key="name")
    full_name = f"{context.header.full_name}/{name}"
    if len(full_name) > NAME_LIMIT_CHARACTERS:
        message = f"{shown(full_name)} has {len(full_name)} characters"
        reader.problem(message, f"at most {NAME_LIMIT_CHARACTERS}: shorten the name of rule or document", key="name")
    hosts = read_list(reader, "hosts", _read_host, context.problems, "remove it, or name a host")
    cidrs = read_list(reader, "cidrs", read_cidr, context.problems, "remove it, or name a network")
    ports = read_list(reader, "ports", read_port, context.problems, "remove it to open every port, or name one")
    if reader.present and "hosts" not in reader and "cidrs" not in reader:
        reader.problem("egress rule names no destination", "add hosts or cidrs")
    return EgressRule(
        name=full_name,
        hosts=tuple(value for value, _ in hosts),
        cidrs=tuple(value for value, _ in cidrs),
        ports=tuple(value for value, _ in ports),
    )


def _read_host(item: ValueReader) -> str | None:
    text = item.text()
    try:
        return parse_host_pattern(text) if text else None
    except HostPatternError as error:
        item.problem(error.message, error.mend)
        return None
