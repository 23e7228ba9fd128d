"""What several kinds of documents have in common: selectors, callers, calls, tokens, rules. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.policy.bounds import EGRESS_LIMIT, ISSUER_LIMIT, PORT_LIMIT, TOKEN_WORD_LIMIT
from ringfence.policy.labels import LIMIT_LABELS
from ringfence.policy.lists import LIMIT_ITEMS, METHODS
from ringfence.policy.reading.origins import DENY_FORMS, PLAIN_FORMS, RULE_FORMS
from ringfence.policy.reading.rules import LIMIT_RULES
from ringfence.policy.reading.selectors import SCOPES
from ringfence.policy.schema import texts
from ringfence.policy.schema.shapes import (
    Choice,
    Either,
    Field,
    Flag,
    Many,
    Named,
    Needed,
    Number,
    Object,
    Shape,
    Variant,
)
from ringfence.policy.written import Mode

LABELS: Final = Named(key=texts.LABEL_NAME, value=texts.LABEL_VALUE, most=LIMIT_LABELS)


def _list(item: Shape, most: int = LIMIT_ITEMS) -> Many:
    return Many(item=item, most=most)


# ----------------------------------------------------------------------------------------------------------- selectors

SELECTOR: Final = (
    Field(name="service", shape=texts.WORD, summary="one service of the document's namespace"),
    Field(
        name="labels",
        shape=LABELS,
        summary=(
            "the services of the namespace whose workloads all have all of these labels, or, for a Denylist, each "
            "workload that has them; with `scope: mesh`, of every namespace"
        ),
    ),
    Field(
        name="scope",
        shape=Choice(words=SCOPES),
        summary="`namespace`: every service of the namespace; `mesh`: of every namespace, in the root namespace only",
    ),
)
SELECTED: Final = (
    Variant(there=("service",), absent=("labels", "scope")),
    Variant(there=("labels",), absent=("service", "scope")),
    Variant(there=("scope",), absent=("service", "labels"), fixed={"scope": "namespace"}),
    Variant(there=("scope",), absent=("service",), fixed={"scope": "mesh"}),
)
MODE: Final = Field(
    name="mode",
    shape=Choice(words=tuple(Mode)),
    summary="`shadow`: judged beside what is in force, on every call, and counted; never enforced",
    default="enforce",
)

# ------------------------------------------------------------------------------------------------------------- callers

_FORMS: Final = {
    "spiffeId": Field(
        name="spiffeId", shape=texts.SPIFFE_ID, summary="one identity; `*` stands for exactly one segment"
    ),
    "namespace": Field(
        name="namespace",
        shape=texts.WORD,
        summary="every identity of a namespace of the mesh; beside `serviceLabels`: where those services are",
    ),
    "trustDomain": Field(
        name="trustDomain", shape=texts.TRUST_DOMAIN, summary="every identity of another trust domain"
    ),
    "service": Field(
        name="service", shape=texts.SERVICE, summary="the identity of a service, as the short form has it"
    ),
    "serviceLabels": Field(
        name="serviceLabels",
        shape=LABELS,
        summary=(
            "the identities of the services whose workloads all have all of these labels, or, in a Denylist, of each "
            "workload that has them; in `namespace` or else the document's own"
        ),
    ),
    "authenticated": Field(
        name="authenticated", shape=Flag(only_true=True), summary="every caller with a verified identity"
    ),
    "unauthenticated": Field(
        name="unauthenticated",
        shape=Flag(only_true=True),
        summary="every caller that shows no identity, which only permissive ports let in",
    ),
    "callerSet": Field(name="callerSet", shape=texts.REFERENCE, summary="whom a CallerSet names"),
    "anyone": Field(
        name="anyone", shape=Flag(only_true=True), summary="every caller, with or without an identity; to deny only"
    ),
}
_CIDRS: Final = Field(
    name="cidrs",
    shape=_list(texts.CIDR),
    summary="narrows the caller to direct peers with an address in one of these networks; an address is no identity",
    default="any address",
)


def _origin(name: str, forms: tuple[str, ...], where: str) -> Either:
    variants = [
        Variant(there=(form,), absent=tuple(other for other in forms if other not in (form, "namespace")))
        for form in forms
        if form not in ("namespace", "serviceLabels")
    ]
    variants = [Variant(there=one.there, absent=(*one.absent, "namespace")) for one in variants]
    others = tuple(form for form in forms if form not in ("namespace", "serviceLabels"))
    variants.append(Variant(there=("namespace",), absent=(*others, "serviceLabels")))
    variants.append(Variant(there=("serviceLabels",), absent=others))
    fields = (*(_FORMS[form] for form in forms), _CIDRS)
    summary = f"A caller, {where}: exactly one form, which `cidrs` may narrow."
    return Either(shapes=(texts.SERVICE, Object(name=name, summary=summary, fields=fields, variants=tuple(variants))))


RULE_CALLERS: Final = _list(_origin("Caller", RULE_FORMS, "in a rule or binding"))
DENIED_CALLERS: Final = _list(_origin("DeniedCaller", DENY_FORMS, "in a denylist"))
SET_CALLERS: Final = _list(_origin("SetCaller", PLAIN_FORMS, "in a caller set, which names no other set"))

# --------------------------------------------------------------------------------------------------------------- calls

HEADER: Final = Object(
    name="Header",
    summary="A header of the request. One that is there twice never has a value: two readers take it for two.",
    fields=(
        Field(name="name", shape=texts.HEADER, summary="whatever its case; `host` is under `hosts`", required=True),
        Field(name="values", shape=_list(texts.VALUE), summary="it is there once and has one of these values, exactly"),
        Field(name="present", shape=Flag(), summary="it is there (`true`), or it is not (`false`)"),
    ),
    variants=(Variant(there=("values",), absent=("present",)), Variant(there=("present",), absent=("values",))),
)
CALLS: Final = (
    Field(
        name="ports",
        shape=_list(Number(low=1, high=65535), PORT_LIMIT),
        summary="ports of the service",
        default="every port",
    ),
    Field(name="methods", shape=_list(Choice(words=METHODS)), summary="HTTP methods", default="every method"),
    Field(
        name="paths",
        shape=_list(texts.PATH),
        summary="path templates: `*` and `{name}` stand for one segment, `**` as the last for all below",
        default="every path",
    ),
    Field(
        name="hosts",
        shape=_list(texts.HOST),
        summary="hosts asked for, lower case and without port",
        default="every host",
    ),
    Field(name="headers", shape=_list(HEADER), summary="each of them holds", default="any headers"),
    Field(
        name="grpc",
        shape=_list(texts.GRPC),
        summary="gRPC methods; beside `paths` either will do",
        default="every method",
    ),
)
# Every gRPC call is a POST.
POSTED: Final = Needed(beside="grpc", field="methods", word="POST")
TO: Final = Object(
    name="Calls",
    summary="What is called: all of the words; what is absent is open. All but `ports` speak of HTTP.",
    fields=(
        *CALLS,
        Field(
            name="roles",
            shape=_list(texts.REFERENCE),
            summary="what the permissions of these Roles say, instead of all other words here",
            default="none",
        ),
    ),
    variants=(
        Variant(there=("roles",), absent=tuple(one.name for one in CALLS)),
        Variant(there=(), absent=("roles",)),
    ),
    any_of=(*(one.name for one in CALLS), "roles"),
    needed=POSTED,
)

# -------------------------------------------------------------------------------------------------- tokens, conditions

TOKEN: Final = Object(
    name="Token",
    summary="What the verified token of the request must say; there must be one.",
    fields=(
        Field(
            name="issuers",
            shape=_list(texts.REFERENCE, ISSUER_LIMIT),
            summary="the TokenIssuers that may vouch",
            default="any that the service knows",
        ),
        Field(
            name="scopes",
            shape=_list(texts.SCOPE_TOKEN, TOKEN_WORD_LIMIT),
            summary="each of them",
            default="any scopes",
        ),
        Field(
            name="claims",
            shape=Named(key=texts.CLAIM_KEY, value=_list(texts.CLAIM_VALUE, TOKEN_WORD_LIMIT), most=TOKEN_WORD_LIMIT),
            summary="each claim has one of its values, or is a list with one of them; dots lead into nested objects",
            default="any claims",
        ),
        Field(
            name="acr",
            shape=_list(texts.TOKEN_WORD, TOKEN_WORD_LIMIT),
            summary="one of these classes",
            default="any class",
        ),
        Field(
            name="amr",
            shape=_list(texts.TOKEN_WORD, TOKEN_WORD_LIMIT),
            summary="each of these methods",
            default="any methods",
        ),
        Field(
            name="maxAge",
            shape=texts.DURATION,
            summary="since the user last proved who they are (`auth_time`)",
            default="any age",
        ),
    ),
    any_of=("issuers", "scopes", "claims", "acr", "amr", "maxAge"),
)
TOKEN_FIELD: Final = Field(
    name="token", shape=TOKEN, summary="what the request's token must say", default="no token is asked for"
)
WHEN: Final = Field(
    name="when",
    shape=texts.CEL,
    summary="a condition over `source`, `destination`, `request`, `token` and `now`; checked for types when loaded",
    default="always",
)

# --------------------------------------------------------------------------------------------------------------- rules

_NAME: Final = Field(name="name", shape=texts.WORD, summary="unique in the document", required=True)


def _rule(name: str, summary: str, callers: Many, *further: Field) -> Many:
    fields = (
        _NAME,
        Field(name="from", shape=callers, summary="any one of these callers", required=True),
        Field(name="to", shape=TO, summary="what they call", default="everything"),
        *further,
        WHEN,
    )
    return Many(item=Object(name=name, summary=summary, fields=fields), most=LIMIT_RULES, least=0)


ALLOW_RULES: Final = _rule("AllowRule", "Permits a call when all of its parts hold.", RULE_CALLERS, TOKEN_FIELD)
DENY_RULES: Final = _rule(
    "DenyRule",
    "Refuses a call when all of its parts hold, and when its condition fails to answer. It asks for no token.",
    DENIED_CALLERS,
)
PERMISSION: Final = Object(
    name="Permission",
    summary="What is permitted, for nobody yet: the words of `to`, a token, a condition; at least one of them.",
    fields=(_NAME, *CALLS, TOKEN_FIELD, WHEN),
    any_of=(*(one.name for one in CALLS), "token", "when"),
    needed=POSTED,
)

# -------------------------------------------------------------------------------------------------------------- egress

EGRESS_RULES: Final = _list(
    Object(
        name="EgressRule",
        summary="A destination outside the mesh: asked for by one of `hosts`, or with an address in one of `cidrs`.",
        fields=(
            Field(name="name", shape=texts.WORD, summary="told where the rule permits", required=True),
            Field(name="hosts", shape=_list(texts.HOST), summary="names by which it is asked for", default="none"),
            Field(name="cidrs", shape=_list(texts.CIDR), summary="networks in which its address lies", default="none"),
            Field(
                name="ports",
                shape=_list(Number(low=1, high=65535)),
                summary="ports of the destination",
                default="every port",
            ),
        ),
        any_of=("hosts", "cidrs"),
    ),
    EGRESS_LIMIT,
)
