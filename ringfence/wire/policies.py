"""Allowlists, denylists and sets of both to messages and back, each field checked as in ``convert``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ringfence.policy.bounds import CALLER_LIMIT, LIST_LIMIT, PORT_LIMIT, RULE_LIMIT
from ringfence.policy.callers import format_spiffe_id_pattern
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    Named,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.words import (
    LIMIT_WHEN_CHARACTERS,
    is_grpc_method,
    is_grpc_service,
    is_header_name,
    is_header_value,
)
from ringfence.wire.fields import (
    WireError,
    check_unique,
    read_checked,
    read_cidr,
    read_host_pattern,
    read_list,
    read_method,
    read_moment,
    read_name,
    read_path_template,
    read_port,
    read_rule_name,
    read_spiffe_id_pattern,
    read_trust_domain,
)
from ringfence.wire.gen import control_pb2
from ringfence.wire.tokens import read_token_match, token_match_to_wire

WORD_LIMIT: Final = 1_000


# --------------------------------------------------------------------------------------------------------- to the wire


def policy_to_wire(policy: PolicySet) -> control_pb2.PolicySet:
    """The message for a whole policy; total."""
    return control_pb2.PolicySet(
        allowlists=allowlists_to_wire(policy.allowlists),
        denylists=denylists_to_wire(policy.denylists),
        observe_until=policy.observe_until,
    )


def allowlists_to_wire(allowlists: Iterable[Allowlist]) -> list[control_pb2.Allowlist]:
    """The messages for allowlists; total."""
    return [
        control_pb2.Allowlist(namespace=one.namespace, name=one.name, rules=map(_rule_to_wire, one.rules))
        for one in allowlists
    ]


def denylists_to_wire(denylists: Iterable[Denylist]) -> list[control_pb2.Denylist]:
    """The messages for denylists; total."""
    return [
        control_pb2.Denylist(namespace=one.namespace, name=one.name, rules=map(_rule_to_wire, one.rules))
        for one in denylists
    ]


def _rule_to_wire(rule: Rule) -> control_pb2.Rule:
    # ``from`` is a Python keyword, so the field can be named only through a mapping.
    return control_pb2.Rule(
        name=rule.name,
        ports=rule.ports,
        methods=rule.methods,
        paths=rule.paths,
        hosts=rule.hosts,
        headers=[
            control_pb2.HeaderMatch(name=header.name, values=header.values, absent=not header.present)
            for header in rule.headers
        ],
        grpc=[control_pb2.GrpcMethod(service=one.service, method=one.method or "") for one in rule.grpc],
        token=token_match_to_wire(rule.token) if rule.token is not None else None,
        when=rule.when,
        **{"from": [_callers_to_wire(callers) for callers in rule.callers]},
    )


def _callers_to_wire(callers: Callers) -> control_pb2.Callers:
    match callers:
        case NarrowedCallers():
            message = _callers_to_wire(callers.callers)
            message.cidrs.extend(callers.cidrs)
            return message
        case SpiffeIdPattern():
            return control_pb2.Callers(spiffe_id=format_spiffe_id_pattern(callers))
        case NamespaceCallers():
            return control_pb2.Callers(namespace=callers.namespace)
        case TrustDomainCallers():
            return control_pb2.Callers(trust_domain=callers.trust_domain.name)
        case UnauthenticatedCallers():
            return control_pb2.Callers(unauthenticated=True)
        case AuthenticatedCallers():
            return control_pb2.Callers(authenticated=True)


# ------------------------------------------------------------------------------------------------------- from the wire


def read_policy(path: str, message: control_pb2.PolicySet | control_pb2.Snapshot) -> PolicySet:
    """The checked policy in ``message``, whose fields stand at ``path`` (empty, or with a dot at its end)."""
    allowlists = read_list(f"{path}allowlists", message.allowlists, LIST_LIMIT, _allowlist)
    denylists = read_list(f"{path}denylists", message.denylists, LIST_LIMIT, _denylist)
    check_unique(f"{path}allowlists", (one.full_name for one in allowlists))
    check_unique(f"{path}denylists", (one.full_name for one in denylists))
    if sum(len(one.rules) for one in allowlists) + sum(len(one.rules) for one in denylists) > RULE_LIMIT:
        raise WireError(f"{path}allowlists: more than {RULE_LIMIT} rules, denylists counted with them")
    observed = message.HasField("observe_until")
    return PolicySet(
        allowlists=allowlists,
        denylists=denylists,
        observe_until=read_moment(f"{path}observe_until", message.observe_until) if observed else None,
    )


def _allowlist(path: str, message: control_pb2.Allowlist) -> Allowlist:
    return Allowlist(
        namespace=read_name(f"{path}.namespace", message.namespace),
        name=read_name(f"{path}.name", message.name),
        rules=_rules(f"{path}.rules", message.rules),
    )


def _denylist(path: str, message: control_pb2.Denylist) -> Denylist:
    rules = _rules(f"{path}.rules", message.rules)
    for index, rule in enumerate(rules):
        # A rule that refuses those with a token would be passed by leaving the token away.
        if rule.token is not None:
            raise WireError(f"{path}.rules[{index}].token: not in a denylist")
    return Denylist(
        namespace=read_name(f"{path}.namespace", message.namespace),
        name=read_name(f"{path}.name", message.name),
        rules=rules,
    )


def _rules(path: str, messages: Sequence[control_pb2.Rule]) -> tuple[Rule, ...]:
    rules = read_list(path, messages, RULE_LIMIT, _rule)
    check_unique(path, (rule.name for rule in rules))
    return rules


def _rule(path: str, message: control_pb2.Rule) -> Rule:
    callers = read_list(f"{path}.from", getattr(message, "from"), CALLER_LIMIT, _callers)
    if not callers:
        # An empty list elsewhere means "any"; here it must never be read that way.
        raise WireError(f"{path}.from: empty")
    headers = read_list(f"{path}.headers", message.headers, WORD_LIMIT, _header)
    return Rule(
        name=read_rule_name(f"{path}.name", message.name),
        callers=callers,
        ports=read_list(f"{path}.ports", message.ports, PORT_LIMIT, read_port),
        methods=read_list(f"{path}.methods", message.methods, WORD_LIMIT, read_method),
        paths=read_list(f"{path}.paths", message.paths, WORD_LIMIT, read_path_template),
        hosts=read_list(f"{path}.hosts", message.hosts, WORD_LIMIT, read_host_pattern),
        headers=headers,
        grpc=read_list(f"{path}.grpc", message.grpc, WORD_LIMIT, _grpc_method),
        token=read_token_match(f"{path}.token", message.token) if message.HasField("token") else None,
        when=_condition(f"{path}.when", message.when),
    )


def _callers(path: str, message: control_pb2.Callers) -> Callers:
    callers = _named(path, message)
    if not message.cidrs:
        return callers
    cidrs = read_list(f"{path}.cidrs", message.cidrs, WORD_LIMIT, read_cidr)
    check_unique(f"{path}.cidrs", cidrs)
    return NarrowedCallers(callers=callers, cidrs=cidrs)


def _named(path: str, message: control_pb2.Callers) -> Named:
    match message.WhichOneof("match"):
        case "spiffe_id":
            return read_spiffe_id_pattern(path, message.spiffe_id)
        case "namespace":
            return NamespaceCallers(namespace=read_name(path, message.namespace))
        case "trust_domain":
            return TrustDomainCallers(trust_domain=read_trust_domain(path, message.trust_domain))
        case "unauthenticated" if message.unauthenticated:
            return UnauthenticatedCallers()
        case "authenticated" if message.authenticated:
            return AuthenticatedCallers()
        case _:
            raise WireError(f"{path}: names nobody")


def _header(path: str, message: control_pb2.HeaderMatch) -> HeaderMatch:
    if message.absent and message.values:
        raise WireError(f"{path}: has values and must not be there")
    values = read_list(
        f"{path}.values", message.values, WORD_LIMIT, lambda at, text: read_checked(at, text, is_header_value)
    )
    return HeaderMatch(
        name=read_checked(f"{path}.name", message.name, is_header_name), values=values, present=not message.absent
    )


def _grpc_method(path: str, message: control_pb2.GrpcMethod) -> GrpcMethod:
    return GrpcMethod(
        service=read_checked(f"{path}.service", message.service, is_grpc_service),
        method=read_checked(f"{path}.method", message.method, is_grpc_method) if message.method else None,
    )


def _condition(path: str, text: str) -> str:
    """CEL, whose grammar the compiler judges; here only that it is text of a bounded length."""
    if len(text) > LIMIT_WHEN_CHARACTERS:
        raise WireError(f"{path}: {len(text)} characters are more than {LIMIT_WHEN_CHARACTERS}")
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise WireError(f"{path}: not printable")
    if text and not text.strip():
        raise WireError(f"{path}: only blanks")
    return text
