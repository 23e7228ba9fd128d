"""The kinds of policy documents. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.policy.bounds import TOKEN_WORD_LIMIT
from ringfence.policy.lists import LIMIT_ITEMS
from ringfence.policy.reading.postures import POSTURES
from ringfence.policy.reading.rules import LIMIT_PERMISSIONS
from ringfence.policy.schema import texts
from ringfence.policy.schema.examples import EXAMPLES
from ringfence.policy.schema.parts import (
    ALLOW_RULES,
    DENY_RULES,
    EGRESS_RULES,
    MODE,
    PERMISSION,
    RULE_CALLERS,
    SELECTED,
    SELECTOR,
    SET_CALLERS,
)
from ringfence.policy.schema.shapes import Choice, Field, Kind, Many, Named, Object, Shape, Variant
from ringfence.policy.words import ALGORITHMS


def _kind(
    name: str, summary: str, *fields: Field, variants: tuple[Variant, ...] = (), apart: tuple[str, ...] = ()
) -> Kind:
    spec = Object(name=f"{name}Spec", summary=summary, fields=fields, variants=variants, apart=apart)
    return Kind(name=name, summary=summary, spec=spec, examples=EXAMPLES[name])


def _many(item: Shape) -> Many:
    return Many(item=item, most=LIMIT_ITEMS)


_ROLES: Final = Field(name="roles", shape=_many(texts.REFERENCE), summary="the Roles that are given", required=True)

JWKS: Final = Object(
    name="Jwks",
    summary="Where the issuer's public keys come from.",
    fields=(
        Field(name="inline", shape=texts.JSON, summary="a JWK set, written out"),
        Field(
            name="url",
            shape=texts.URL,
            summary="where the control plane fetches it; only from hosts that the mesh file lets it ask",
        ),
    ),
    variants=(Variant(there=("inline",), absent=("url",)), Variant(there=("url",), absent=("inline",))),
)
INTROSPECTION: Final = Object(
    name="Introspection",
    summary="Tokens that only the issuer can read are shown to it by the sidecar (RFC 7662).",
    fields=(
        Field(name="url", shape=texts.URL, summary="the introspection endpoint", required=True),
        Field(name="clientId", shape=texts.TOKEN_WORD, summary="as whom the sidecar asks", required=True),
        Field(
            name="secretFile",
            shape=texts.FILE,
            summary="a file at the control plane that holds the client's secret",
            required=True,
        ),
        Field(
            name="cache",
            shape=texts.DURATION,
            summary="how long an answer is believed, at most 1h and never beyond the token's life",
            default="60s",
        ),
    ),
)
_SELECTOR_OPTIONAL: Final = (
    *SELECTED,
    Variant(there=(), absent=("service", "labels", "scope")),
)
_BEARERS: Final = tuple(
    Variant(there=(*one.there, keys), absent=(*one.absent, *closed), fixed=one.fixed)
    for one in _SELECTOR_OPTIONAL
    for keys, closed in (("jwks", ("introspection",)), ("introspection", ("jwks", "algorithms")))
)

KINDS: Final = (
    _kind(
        "Allowlist",
        "Says who may call the services selected. What no rule of any Allowlist permits is refused.",
        *SELECTOR,
        MODE,
        Field(name="rules", shape=ALLOW_RULES, summary="any of them permits, in whatever order", required=True),
        variants=SELECTED,
    ),
    _kind(
        "Denylist",
        "Says which calls are refused, whatever an Allowlist permits.",
        *SELECTOR,
        MODE,
        Field(name="rules", shape=DENY_RULES, summary="any of them refuses, in whatever order", required=True),
        variants=SELECTED,
    ),
    _kind(
        "Role",
        "A named set of permissions, for rules (`to.roles`) and RoleBindings to use.",
        Field(
            name="permissions",
            shape=Many(item=PERMISSION, most=LIMIT_PERMISSIONS),
            summary="any of them permits",
            required=True,
        ),
    ),
    _kind(
        "CallerSet",
        "A named set of callers, for `from` to use.",
        Field(name="callers", shape=SET_CALLERS, summary="who is in it", required=True),
    ),
    _kind(
        "RoleBinding",
        "Gives Roles to callers, at the services selected. It reads as an Allowlist with a rule for each permission, "
        "named `<role>.<permission>`.",
        *SELECTOR,
        MODE,
        _ROLES,
        Field(name="from", shape=RULE_CALLERS, summary="who gets them", required=True),
        variants=SELECTED,
    ),
    _kind(
        "Posture",
        "Lets the services selected only be observed until a moment: what no rule permits passes, is counted and told "
        "as `would_deny`. Denylists and strict transport still hold.",
        *SELECTOR,
        Field(name="posture", shape=Choice(words=POSTURES), summary="`observe`", required=True),
        Field(
            name="until",
            shape=texts.INSTANT,
            summary="the end, at most 90 days ahead; of several for one service the latest holds",
            required=True,
        ),
        variants=SELECTED,
    ),
    _kind(
        "TokenIssuer",
        "Whose tokens the services selected believe (OAuth 2.0 bearer tokens). A token is asked for only where a rule "
        "says `token`.",
        *SELECTOR,
        Field(name="issuer", shape=texts.TOKEN_WORD, summary="the `iss` of its tokens, exactly", required=True),
        Field(
            name="audiences",
            shape=Many(item=texts.TOKEN_WORD, most=TOKEN_WORD_LIMIT),
            summary="a token must be meant for one of them (`aud`)",
            required=True,
        ),
        Field(name="jwks", shape=JWKS, summary="the keys that sign its tokens; this or `introspection`"),
        Field(name="introspection", shape=INTROSPECTION, summary="how to ask about tokens that are not JWTs"),
        Field(
            name="algorithms",
            shape=Many(item=Choice(words=ALGORITHMS), most=len(ALGORITHMS)),
            summary="the signatures that are believed, whatever a token says of itself; none with a shared secret",
            default="RS256, ES256, PS256, EdDSA",
        ),
        Field(
            name="header",
            shape=texts.HEADER,
            summary="where the token stands, with `Bearer` before it in `authorization`",
            default="authorization",
        ),
        Field(name="cookie", shape=texts.COOKIE, summary="where the token stands, instead of a header"),
        Field(
            name="claimHeaders",
            shape=Named(key=texts.HEADER, value=texts.CLAIM, most=TOKEN_WORD_LIMIT),
            summary="headers by which the app is told claims of the verified token; callers' own are taken out",
            default="none",
        ),
        Field(
            name="leeway",
            shape=texts.DURATION,
            summary="by how much clocks may differ, at most 5m",
            default="30s",
        ),
        variants=_BEARERS,
        apart=("header", "cookie"),
    ),
    _kind(
        "Egress",
        "Says what the apps of the services selected may reach outside the mesh, beside what the mesh file says. What "
        "no rule permits does not leave the mesh.",
        *SELECTOR,
        Field(name="rules", shape=EGRESS_RULES, summary="any of them permits, in whatever order", required=True),
        variants=SELECTED,
    ),
)
