"""``egress`` of a service: what its app may reach outside the mesh, read field by field. Pure."""

from __future__ import annotations

from controlplane.mesh.fields import Fields, bounded
from ringfence.kit.addresses import PORT_MAXIMUM, AddressError, parse_cidr
from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
from ringfence.policy.bounds import EGRESS_LIMIT
from ringfence.policy.problems import shown
from ringfence.policy.yamlnodes import MappingReader, ValueReader
from ringfence.snapshot import EgressRule
from ringfence.wire.convert import WORD_LIMIT


def read_egress(fields: Fields, service: MappingReader) -> tuple[EgressRule, ...]:
    """The rules of one service, in the order of the file; a name that comes twice is told at the second."""
    found: list[EgressRule] = []
    first: dict[str, MappingReader] = {}
    for item in bounded(service, "egress", EGRESS_LIMIT):
        reader = item.mapping()
        rule = _read_rule(fields, reader)
        held = first.setdefault(rule.name, reader)
        if rule.name and held is not reader:
            message = f"duplicate egress rule {shown(rule.name)}, first on line {held.place('name').line}"
            reader.problem(message, "rename one of them", key="name")
        found.append(rule)
    return tuple(found)


def _read_rule(fields: Fields, reader: MappingReader) -> EgressRule:
    name, _ = fields.label(reader, "name")
    rule = EgressRule(
        name=name,
        hosts=fields.distinct(reader, "hosts", WORD_LIMIT, _read_host, "remove it, or name a host"),
        cidrs=fields.distinct(reader, "cidrs", WORD_LIMIT, _read_cidr, "remove it, or write a network"),
        ports=fields.distinct(
            reader, "ports", WORD_LIMIT, lambda item: item.integer(1, PORT_MAXIMUM), "remove it to open every port"
        ),
    )
    if reader.present and "hosts" not in reader and "cidrs" not in reader:
        reader.problem("egress rule names no destination", "add hosts or cidrs")
    reader.finish()
    return rule


def _read_host(item: ValueReader) -> str | None:
    text = item.text()
    try:
        return parse_host_pattern(text) if text else None
    except HostPatternError as error:
        item.problem(error.message, error.mend)
        return None


def _read_cidr(item: ValueReader) -> str | None:
    text = item.text()
    try:
        return parse_cidr(text) if text else None
    except AddressError as error:
        item.problem(error.message, error.mend)
        return None
