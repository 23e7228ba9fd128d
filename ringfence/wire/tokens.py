"""What rules ask of tokens and whose tokens are believed, to messages and back; each field checked. Pure.

A client's secret for introspection is in the message, since the sidecar needs it: whoever keeps or shows a message
must keep it private (``sidecar.control.snapshot_file``) and never show that field.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from ringfence.policy.bounds import ISSUER_LIMIT, TOKEN_WORD_LIMIT
from ringfence.policy.model import Introspection, TokenIssuer, TokenMatch
from ringfence.policy.words import (
    ALGORITHMS,
    LIMIT_AGE_SECONDS,
    LIMIT_CACHE_SECONDS,
    LIMIT_KEYS_CHARACTERS,
    LIMIT_LEEWAY_SECONDS,
    is_claim_name,
    is_cookie_name,
    is_header_name,
    is_scope,
    takes_claim,
)
from ringfence.wire.fields import (
    WireError,
    check_unique,
    read_checked,
    read_full_name,
    read_list,
    read_text,
    read_within,
)
from ringfence.wire.gen import control_pb2

_BLANKS: Final = dict.fromkeys(map(ord, "\n\r\t"))
# No user, no fragment, no blanks. To this machine alone a secret may go without TLS.
_URL: Final = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!$-~]*)?")
_URL_LIMIT_CHARACTERS: Final = 2_048


# --------------------------------------------------------------------------------------------------------- to the wire


def token_match_to_wire(token: TokenMatch) -> control_pb2.TokenMatch:
    """The message for what a rule asks of a token; total."""
    return control_pb2.TokenMatch(
        issuers=token.issuers,
        scopes=token.scopes,
        claims=[control_pb2.Claim(name=name, values=values) for name, values in token.claims],
        acr=token.acr,
        amr=token.amr,
        max_age_seconds=token.max_age_seconds,
    )


def issuers_to_wire(issuers: Iterable[TokenIssuer]) -> list[control_pb2.TokenIssuer]:
    """The messages for issuers; total."""
    return [
        control_pb2.TokenIssuer(
            name=issuer.name,
            issuer=issuer.issuer,
            audiences=issuer.audiences,
            algorithms=issuer.algorithms,
            keys=issuer.keys,
            header=issuer.header,
            cookie=issuer.cookie,
            claim_headers=[
                control_pb2.ClaimHeader(header=header, claim=claim) for header, claim in issuer.claim_headers
            ],
            leeway_seconds=issuer.leeway_seconds,
            introspection=_introspection_to_wire(issuer.introspection),
        )
        for issuer in issuers
    ]


def _introspection_to_wire(introspection: Introspection | None) -> control_pb2.Introspection | None:
    if introspection is None:
        return None
    return control_pb2.Introspection(
        url=introspection.url,
        client_id=introspection.client_id,
        secret=introspection.secret,
        cache_seconds=introspection.cache_seconds,
    )


# ------------------------------------------------------------------------------------------------------- from the wire


def read_token_match(path: str, message: control_pb2.TokenMatch) -> TokenMatch:
    """What a rule asks of a token."""
    aged = message.HasField("max_age_seconds")
    return TokenMatch(
        issuers=read_list(f"{path}.issuers", message.issuers, ISSUER_LIMIT, read_full_name),
        scopes=read_list(
            f"{path}.scopes", message.scopes, TOKEN_WORD_LIMIT, lambda at, text: read_checked(at, text, is_scope)
        ),
        # A name may come again: each of them must hold.
        claims=read_list(f"{path}.claims", message.claims, TOKEN_WORD_LIMIT, _claim),
        acr=read_list(f"{path}.acr", message.acr, TOKEN_WORD_LIMIT, read_text),
        amr=read_list(f"{path}.amr", message.amr, TOKEN_WORD_LIMIT, read_text),
        max_age_seconds=read_within(f"{path}.max_age_seconds", message.max_age_seconds, 1, LIMIT_AGE_SECONDS)
        if aged
        else None,
    )


def _claim(path: str, message: control_pb2.Claim) -> tuple[str, tuple[str, ...]]:
    values = read_list(f"{path}.values", message.values, TOKEN_WORD_LIMIT, read_text)
    if not values:
        raise WireError(f"{path}.values: empty")
    return read_checked(f"{path}.name", message.name, is_claim_name), values


def read_issuers(path: str, messages: Sequence[control_pb2.TokenIssuer]) -> tuple[TokenIssuer, ...]:
    """Whose tokens a workload believes, no name twice."""
    issuers = read_list(path, messages, ISSUER_LIMIT, _issuer)
    check_unique(path, (issuer.name for issuer in issuers))
    return issuers


def _issuer(path: str, message: control_pb2.TokenIssuer) -> TokenIssuer:
    audiences = read_list(f"{path}.audiences", message.audiences, TOKEN_WORD_LIMIT, read_text)
    algorithms = read_list(f"{path}.algorithms", message.algorithms, len(ALGORITHMS), _algorithm)
    if not audiences or not algorithms:
        raise WireError(f"{path}: has no {'algorithms' if audiences else 'audiences'}")
    if bool(message.header) == bool(message.cookie):
        raise WireError(f"{path}: a token stands in a header or in a cookie")
    claim_headers = read_list(f"{path}.claim_headers", message.claim_headers, TOKEN_WORD_LIMIT, _claim_header)
    check_unique(f"{path}.claim_headers", (header for header, _ in claim_headers))
    introspected = message.HasField("introspection")
    return TokenIssuer(
        name=read_full_name(f"{path}.name", message.name),
        issuer=read_text(f"{path}.issuer", message.issuer),
        audiences=audiences,
        algorithms=algorithms,
        keys=_keys(f"{path}.keys", message.keys),
        header=read_checked(f"{path}.header", message.header, is_header_name) if message.header else "",
        cookie=read_checked(f"{path}.cookie", message.cookie, is_cookie_name) if message.cookie else "",
        claim_headers=claim_headers,
        leeway_seconds=read_within(f"{path}.leeway_seconds", message.leeway_seconds, 0, LIMIT_LEEWAY_SECONDS),
        introspection=_introspection(f"{path}.introspection", message.introspection) if introspected else None,
    )


def _algorithm(path: str, text: str) -> str:
    if text not in ALGORITHMS:
        raise WireError(f"{path}: {text[:64]!r} is none of {', '.join(ALGORITHMS)}")
    return text


def _keys(path: str, text: str) -> str:
    """JSON whose content the sidecar's verifier judges; here only that it is text of a bounded length."""
    if len(text) > LIMIT_KEYS_CHARACTERS:
        raise WireError(f"{path}: {len(text)} characters are more than {LIMIT_KEYS_CHARACTERS}")
    if not text.translate(_BLANKS).isprintable():
        raise WireError(f"{path}: not printable")
    return text


def _claim_header(path: str, message: control_pb2.ClaimHeader) -> tuple[str, str]:
    header = read_checked(f"{path}.header", message.header, is_header_name)
    if not takes_claim(header):
        raise WireError(f"{path}.header: {header} means something else, and no claim may write it")
    return header, read_checked(f"{path}.claim", message.claim, is_claim_name)


def _introspection(path: str, message: control_pb2.Introspection) -> Introspection:
    if not message.secret or len(message.secret) > _URL_LIMIT_CHARACTERS or not message.secret.isprintable():
        raise WireError(f"{path}.secret: empty, too long or not printable")  # and never shown
    return Introspection(
        url=_url(f"{path}.url", message.url),
        client_id=read_text(f"{path}.client_id", message.client_id),
        secret=message.secret,
        cache_seconds=read_within(f"{path}.cache_seconds", message.cache_seconds, 0, LIMIT_CACHE_SECONDS),
    )


def _url(path: str, text: str) -> str:
    """To where the client's secret and the callers' tokens are sent: over TLS, or to this machine."""
    found = _URL.fullmatch(text) if len(text) <= _URL_LIMIT_CHARACTERS else None
    if found is None:
        raise WireError(f"{path}: {text[:64]!r} is no URL")
    if found[1] == "http" and not _is_loopback(found[2]):
        raise WireError(f"{path}: {text[:64]!r} is not https")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
