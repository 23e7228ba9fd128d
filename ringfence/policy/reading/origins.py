"""Who calls: the items of ``from``. Pure.

from: [web, shop/billing]                                  # services, by name
from:
  - spiffeId: spiffe://shop.example/ns/shop/sa/web         # or one of namespace, trustDomain, service, callerSet
    cidrs: [10.0.0.0/8]                                    # narrows it
  - serviceLabels: {tier: edge}
    namespace: shop                                        # without: the document's own
  - authenticated: true                                    # or unauthenticated: true, or, to deny, anyone: true
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from ringfence.policy.callers import PatternError, parse_spiffe_id_pattern
from ringfence.policy.envelope import LABEL, NAME_MEND, read_label
from ringfence.policy.labels import read_labels
from ringfence.policy.lists import read_list
from ringfence.policy.model import (
    AuthenticatedCallers,
    NamespaceCallers,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import shown
from ringfence.policy.reading.context import Context, read_reference
from ringfence.policy.written import (
    Anyone,
    CallerSetReference,
    LabelledServices,
    Origin,
    Placed,
    ServiceReference,
    WrittenCallers,
)
from ringfence.policy.yamlnodes import MappingReader, ValueReader
from ringfence.policy.yamltree import MappingNode, ScalarNode
from ringfence.spiffe import SpiffeIdError, TrustDomain

# What an item may be in every document that names callers.
PLAIN_FORMS: Final = (
    "spiffeId",
    "namespace",
    "trustDomain",
    "service",
    "serviceLabels",
    "authenticated",
    "unauthenticated",
)
RULE_FORMS: Final = (*PLAIN_FORMS, "callerSet")
DENY_FORMS: Final = (*RULE_FORMS, "anyone")

_FLAGS: Final[dict[str, Origin]] = {
    "authenticated": AuthenticatedCallers(),
    "unauthenticated": UnauthenticatedCallers(),
    "anyone": Anyone(),
}


def read_origins(
    reader: MappingReader, key: str, forms: Sequence[str], context: Context
) -> tuple[Placed[WrittenCallers], ...]:
    """The callers at ``key``, of which there is at least one."""
    found = read_list(
        reader,
        key,
        lambda item: _read_callers(item, forms, context),
        context.problems,
        "name a caller",
        required=True,
    )
    return tuple(Placed(value, place) for value, place in found)


def _read_callers(item: ValueReader, forms: Sequence[str], context: Context) -> WrittenCallers | None:
    if isinstance(item.node, ScalarNode) and item.node.text:
        return _read_short(item, forms, context)
    if not isinstance(item.node, MappingNode):
        item.wrong_kind("the name of a service or a mapping")
        return None
    reader = item.mapping()
    before = len(context.problems)
    # ``namespace`` is a form of its own, or says where services with labels are.
    form = reader.one_of(*(name for name in forms if name != "namespace" or "serviceLabels" not in reader))
    reader.known(*forms)
    origin = _read_origin(reader, form, context) if form is not None else None
    cidrs = read_list(
        reader, "cidrs", read_cidr, context.problems, "remove it to leave the address open, or name a network"
    )
    reader.finish()
    if origin is None or len(context.problems) != before:
        return None
    return WrittenCallers(origin=origin, cidrs=tuple(value for value, _ in cidrs))


def _read_short(item: ValueReader, forms: Sequence[str], context: Context) -> WrittenCallers | None:
    """``web`` or ``shop/web``: a service. A word that is a form of its own, or no name, is a slip."""
    text = item.text()
    if text in _FLAGS:
        item.problem(f"{shown(text)} is no service here", f"write {{{text}: true}}, or {{service: {text}}}")
        return None
    if "://" in text:
        item.problem(f"{shown(text)} is not the name of a service", f"write {{spiffeId: {text}}}"[:120])
        return None
    if "*" in text:
        mend = "write {authenticated: true} for every identity, or {namespace: NAME} for all of a namespace"
        item.problem(f"wildcard in the name of a service: {shown(text)}", mend)
        return None
    service = _read_service(item, context)
    return None if service is None else WrittenCallers(origin=ServiceReference(service=service))


def _read_service(item: ValueReader, context: Context) -> str | None:
    service = read_reference(item, "service", context)
    if service is not None and not LABEL.fullmatch(service.partition("/")[2]):
        item.problem(f"{shown(service)} is not the name of a service", NAME_MEND)
        return None
    return service


def _read_origin(reader: MappingReader, form: str, context: Context) -> Origin | None:
    if form in _FLAGS:
        return _read_flag(reader, form, context)
    if form == "serviceLabels":
        labels = read_labels(reader, form, context.problems)
        named = read_label(reader, "namespace") if "namespace" in reader else context.namespace
        return LabelledServices(namespace=named, labels=labels)
    value = reader.value(form)
    if value is None:
        return None
    if form == "service":
        service = _read_service(value, context)
        return ServiceReference(service=service) if service is not None else None
    if form == "callerSet":
        caller_set = read_reference(value, "caller set", context)
        return CallerSetReference(caller_set=caller_set) if caller_set is not None else None
    return _read_identity(value, form)


def _read_identity(value: ValueReader, form: str) -> Origin | None:
    """What names identities by themselves: a SPIFFE ID, a namespace, a trust domain."""
    text = value.text()
    if not text:
        return None
    try:
        if form == "spiffeId":
            return parse_spiffe_id_pattern(text)
        if form == "trustDomain":
            return TrustDomainCallers(trust_domain=TrustDomain.parse(text))
        if not LABEL.fullmatch(text):
            raise PatternError(f"namespace {shown(text)} is not a valid name", NAME_MEND)
        return NamespaceCallers(namespace=text)
    except PatternError as error:
        value.problem(error.message, error.mend)
    except SpiffeIdError as error:
        value.problem(str(error))
    return None


def _read_flag(reader: MappingReader, form: str, context: Context) -> Origin | None:
    before = len(context.problems)
    if reader.boolean(form):
        return _FLAGS[form]
    if len(context.problems) == before:
        reader.problem(f"{form} must be true, not false", "remove it: whom no rule names is refused", key=form)
    return None


def read_cidr(item: ValueReader) -> str | None:
    """A network of IPv4 or IPv6 addresses, in canonical form."""
    text = item.text()
    if not text:
        return None
    address, slash, _ = text.partition("/")
    try:
        # What Python reads as a network and others as another: zone indexes, netmasks, letters of other scripts.
        if not text.isascii() or "%" in text or not all(word.isdigit() for word in text.split("/")[1:]):
            raise ValueError(text)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        item.problem(f"{shown(text)} is not a network", "write it like 10.0.0.0/8 or fd00::/8")
        return None
    if not slash:
        item.problem(f"{shown(text)} has no prefix length", f"write {network}")
    elif ipaddress.ip_address(address) != network.network_address:
        item.problem(f"{shown(text)} has bits of an address behind its prefix", f"write {network}")
    elif isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        item.problem(f"{shown(text)} are IPv4 addresses written as IPv6", "write them as IPv4")
    else:
        return str(network)
    return None
