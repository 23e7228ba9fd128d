"""``RequestAuthentication`` of Istio as TokenIssuers. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.policy.importing.imported import CannotSayError, Import, Made, Unsaid, Weight, Words, checked
from ringfence.policy.importing.objects import KubeObject
from ringfence.policy.yamlnodes import MappingReader

_NOTES: Final = {
    "forwardOriginalToken": "the app gets the request as it was sent, its token with it",
    "timeout": "how long a fetch of keys may take is the control plane's",
    "spaceDelimitedClaims": "scopes are words anyway",
}
_LEFT: Final = {
    "fromParams": "tokens in the query are not looked at",
    "outputPayloadToHeader": "the app is told claims one by one",
}
_ALWAYS: Final = "a token that is not to be believed is refused only where a rule asks for one"


def read_issuers(found: KubeObject, selector: Words | CannotSayError, namespace: str, made: Import) -> dict[str, str]:
    """Add the issuers of ``found``; answers their full names by their ``iss``."""

    def unsaid(error: CannotSayError, weight: Weight) -> None:
        made.unsaid.append(Unsaid(place=error.place, source=str(found), why=error.why, weight=weight))

    if isinstance(selector, CannotSayError):
        unsaid(selector, Weight.ALLOW)
        return {}
    unsaid(CannotSayError(found.place, _ALWAYS), Weight.NOTE)
    issuers: dict[str, str] = {}
    rules = found.spec.mappings("jwtRules", default=None)
    for number, rule in enumerate(rules, 1):
        name = found.name if len(rules) == 1 else f"{found.name}-{number}"
        try:
            for field, why in (*_NOTES.items(), *_LEFT.items()):
                rule.known(field)
                if field in rule:
                    weight = Weight.NOTE if field in _NOTES else Weight.ALLOW
                    unsaid(CannotSayError(rule.place(field), f"{field}: {why}"), weight)
            spec = {**selector, **_issuer(rule)}
            rule.finish()
            found.take_problem()
            document = checked(Made(kind="TokenIssuer", namespace=namespace, name=name, spec=spec), rule.place())
            made.add(document, rule.place(), str(found))
            issuers[spec["issuer"]] = f"{namespace}/{name}"
        except CannotSayError as error:
            found.problems.clear()
            unsaid(error, Weight.ALLOW)
    return issuers


def _issuer(rule: MappingReader) -> Words:
    spec: Words = {"issuer": rule.text("issuer")}
    audiences = list(rule.texts("audiences", default=()))
    if not audiences:
        raise CannotSayError(
            rule.place(), "it names no audiences, so that tokens meant for others would do (name them)"
        )
    spec["audiences"] = audiences
    inline, url = rule.text("jwks", default=None), rule.text("jwksUri", default=None)
    if inline is None and url is None:
        raise CannotSayError(rule.place(), "keys are not looked for by OpenID discovery (name jwksUri)")
    spec["jwks"] = {"inline": inline} if inline is not None else {"url": url}
    headers = rule.mappings("fromHeaders", default=None)
    cookies = list(rule.texts("fromCookies", default=()))
    if len(headers) + len(cookies) > 1:
        raise CannotSayError(rule.place(), "a token may stand in one place only (keep one)")
    for header in headers:
        name, prefix = header.text("name"), header.text("prefix", default="")
        header.finish()
        if prefix.strip() not in ("", "Bearer") or (name.lower() == "authorization") != (prefix.strip() == "Bearer"):
            raise CannotSayError(header.place(), "a token stands behind Bearer in authorization, or alone elsewhere")
        spec["header"] = name.lower()
    if cookies:
        spec["cookie"] = cookies[0]
    told = {one.text("header"): one.text("claim") for one in rule.mappings("outputClaimToHeaders", default=None)}
    if told:
        spec["claimHeaders"] = told
    return spec
