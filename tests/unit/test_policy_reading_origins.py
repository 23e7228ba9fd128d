"""Who calls: each form of an item of ``from``, and what only looks like one."""

from __future__ import annotations

import pytest

from ringfence.policy.model import (
    AuthenticatedCallers,
    NamespaceCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.written import (
    AllowlistDocument,
    Anyone,
    CallerSetDocument,
    CallerSetReference,
    DenylistDocument,
    LabelledServices,
    Origin,
    ServiceReference,
    WrittenCallers,
)
from ringfence.spiffe import TrustDomain
from tests.policy_texts import allowlist, denylist, document, read_one, schema_refuses, told

LABELS = (("data", "pii"), ("tier", "edge"))


def callers(items: str) -> list[WrittenCallers]:
    """What a rule's ``from`` with these items is read as."""
    (rule,) = read_one(allowlist(f"from: [{items}]"), AllowlistDocument).rules
    return [item.value for item in rule.callers]


@pytest.mark.parametrize(
    ("item", "origin"),
    [
        ("web", ServiceReference(service="shop/web")),
        ("bank/web", ServiceReference(service="bank/web")),
        ("{service: web}", ServiceReference(service="shop/web")),
        ("{service: bank/web}", ServiceReference(service="bank/web")),
        ("{service: anyone}", ServiceReference(service="shop/anyone")),
        ("{serviceLabels: {tier: edge, data: pii}}", LabelledServices(namespace="shop", labels=LABELS)),
        (
            "{namespace: bank, serviceLabels: {tier: edge, data: pii}}",
            LabelledServices(namespace="bank", labels=LABELS),
        ),
        ("{callerSet: front.desk}", CallerSetReference(caller_set="shop/front.desk")),
        ("{callerSet: bank/front}", CallerSetReference(caller_set="bank/front")),
        ("{namespace: bank}", NamespaceCallers(namespace="bank")),
        ("{trustDomain: partner.example}", TrustDomainCallers(trust_domain=TrustDomain("partner.example"))),
        ("{authenticated: true}", AuthenticatedCallers()),
        ("{unauthenticated: true}", UnauthenticatedCallers()),
        (
            "{spiffeId: 'spiffe://shop.example/ns/*/sa/web'}",
            SpiffeIdPattern(trust_domain=TrustDomain("shop.example"), segments=("ns", "*", "sa", "web")),
        ),
    ],
)
def test_each_form_is_read(item: str, origin: Origin) -> None:
    assert callers(item) == [WrittenCallers(origin=origin)]
    assert schema_refuses(allowlist(f"from: [{item}]")) == []


def test_an_item_knows_its_place() -> None:
    (rule,) = read_one(allowlist("from: [web, {namespace: bank}]"), AllowlistDocument).rules
    first, second = (item.place for item in rule.callers)
    assert (first.line, second.line) == (4, 4)
    assert second.column == first.column + len("web, ")


def test_networks_narrow_any_form_and_are_canonical() -> None:
    items = "{service: web, cidrs: [10.0.0.0/8, 'fd00:0::/8']}, {authenticated: true, cidrs: [192.0.2.1/32]}"
    assert callers(items) == [
        WrittenCallers(origin=ServiceReference(service="shop/web"), cidrs=("10.0.0.0/8", "fd00::/8")),
        WrittenCallers(origin=AuthenticatedCallers(), cidrs=("192.0.2.1/32",)),
    ]


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.0.0.1", "has no prefix length (write 10.0.0.1/32)"),
        ("10.0.0.1/8", "has bits of an address behind its prefix (write 10.0.0.0/8)"),
        ("'fd00::1/8'", "has bits of an address behind its prefix (write fd00::/8)"),
        ("'::ffff:10.0.0.0/104'", "are IPv4 addresses written as IPv6 (write them as IPv4)"),
        ("10.0.0.0/33", "is not a network"),
        ("10.0.0/8", "is not a network"),
        ("010.0.0.0/8", "is not a network"),
        ("10.0.0.0/255.0.0.0", "is not a network"),
        ("10.0.0.0/-1", "is not a network"),
        ("'fe80::%eth0/64'", "is not a network"),
        ('"\\u0661\\u0660.0.0.0/8"', "is not a network"),
        ("web", "is not a network"),
        ("'*'", "is not a network"),
    ],
)
def test_what_is_no_network_is_refused(cidr: str, said: str) -> None:
    (problem,) = told(allowlist(f"from: [{{namespace: bank, cidrs: [{cidr}]}}]"))
    assert said in problem


@pytest.mark.parametrize("cidrs", ["[]", "10.0.0.0/8", "[10.0.0.0/8, 10.0.0.0/8]", "[{}]"])
def test_a_list_of_networks_is_never_empty_or_double(cidrs: str) -> None:
    assert told(allowlist(f"from: [{{namespace: bank, cidrs: {cidrs}}}]"))
    assert schema_refuses(allowlist(f"from: [{{namespace: bank, cidrs: {cidrs}}}]"))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("unauthenticated", "'unauthenticated' is no service here (write {unauthenticated: true}, or {service:"),
        ("authenticated", "write {authenticated: true}"),
        ("anyone", "write {anyone: true}"),
        ("spiffe://shop.example/ns/shop/sa/web", "write {spiffeId: spiffe://shop.example/ns/shop/sa/web}"),
        ("a/b/c", "is not the name of a service"),
        ("/web", "is not the name of a service"),
        ("shop/", "is not the name of a service"),
        ("web.v2", "is not the name of a service"),
        ("Web", "is not the name of a service"),
        ("true", "must be text"),
        ("12", "must be text"),
        ("{service: web.v2}", "is not the name of a service"),
        ("{service: web, namespace: shop}", "item of from has namespace and service (keep one of them)"),
        ("{service: web, callerSet: a}", "item of from has service and callerSet (keep one of them)"),
        ("{serviceLabels: {a: b}, service: web}", "keep one of them"),
        ("{serviceLabels: {}}", "serviceLabels is empty"),
        ("{cidrs: [10.0.0.0/8]}", "item of from lacks spiffeId or"),
        ("{authenticated: false}", "authenticated must be true, not false"),
        ("{anyone: true}", "unknown field 'anyone' in item of from"),
    ],
)
def test_what_names_no_caller_is_refused(item: str, said: str) -> None:
    problems = told(allowlist(f"from: [{item}]"))
    assert said in problems[0] + problems[-1]


def test_only_a_denylist_speaks_of_anyone() -> None:
    (rule,) = read_one(denylist("from: [{anyone: true}]"), DenylistDocument).rules
    assert [item.value for item in rule.callers] == [WrittenCallers(origin=Anyone())]
    assert schema_refuses(denylist("from: [{anyone: true}]")) == []
    for text in (allowlist("from: [{anyone: true}]"), document("CallerSet", "callers: [{anyone: true}]")):
        assert told(text)
        assert schema_refuses(text)


def test_a_caller_set_names_callers_but_no_caller_set() -> None:
    found = read_one(document("CallerSet", "callers: [web, {namespace: bank}]"), CallerSetDocument)
    assert [item.value.origin for item in found.callers] == [
        ServiceReference(service="shop/web"),
        NamespaceCallers(namespace="bank"),
    ]
    for spec in ("callers: [{callerSet: other}]", "callers: []", "", "callers: web"):
        assert told(document("CallerSet", spec))
        assert schema_refuses(document("CallerSet", spec))


def test_a_caller_twice_is_told_at_the_second() -> None:
    (problem,) = told(allowlist("from: [web, {service: shop/web}]"))
    assert problem == "item of from is there twice (first on line 4: remove one)"
    assert len(callers("web, {service: web, cidrs: [10.0.0.0/8]}")) == 2
