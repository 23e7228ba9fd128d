"""Token issuers: whose tokens services believe. Pure.

kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec:
  issuer: https://login.shop.example
  audiences: [orders]
  jwks: {url: https://login.shop.example/keys}      # or {inline: '{"keys": […]}'}
  algorithms: [ES256]
  header: authorization                             # or cookie: session
  claimHeaders: {x-user: sub}
  leeway: 30s

spec:                                               # for tokens that only the issuer can read
  issuer: https://login.shop.example
  audiences: [orders]
  introspection: {url: https://login.shop.example/introspect, clientId: orders, secretFile: /run/secrets/orders}
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
from ringfence.policy.bounds import TOKEN_WORD_LIMIT
from ringfence.policy.lists import read_list
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.problems import choose_from, shown
from ringfence.policy.reading.context import Context
from ringfence.policy.reading.headers import HeaderNameError, parse_header_name, read_header_name
from ringfence.policy.reading.selectors import read_selector
from ringfence.policy.reading.tokens import read_word
from ringfence.policy.tokens.keys import KeySetError, read_key_set
from ringfence.policy.words import (
    ALGORITHMS,
    LIMIT_CACHE_SECONDS,
    LIMIT_KEYS_CHARACTERS,
    LIMIT_LEEWAY_SECONDS,
    is_claim_name,
    is_cookie_name,
    takes_claim,
)
from ringfence.policy.written import Placed, TokenIssuerDocument
from ringfence.policy.yamlnodes import MappingReader, ValueReader

LIMIT_URL_CHARACTERS: Final = 2_048
LIMIT_PATH_CHARACTERS: Final = 4_096
_STANDARD: Final = TokenIssuer(name="", issuer="", audiences=())
_URL: Final = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?(?:[/?][!$-~]*)?")


def read_token_issuer(spec: MappingReader, context: Context) -> TokenIssuerDocument:
    """The token issuer in ``spec``; what is not in the document is fetched or read by others."""
    problems = context.problems
    selector = read_selector(spec, problems, optional=True)
    issuer = spec.value("issuer")
    name = read_word(issuer) if issuer is not None else None
    audiences = read_list(
        spec,
        "audiences",
        read_word,
        problems,
        "name whom its tokens must be meant for",
        required=True,
        limit=TOKEN_WORD_LIMIT,
    )
    mend = "remove it for the usual ones, or name one"
    algorithms = read_list(spec, "algorithms", _read_algorithm, problems, mend, limit=len(ALGORITHMS))
    header, cookie = _read_bearer(spec)
    form = spec.one_of("jwks", "introspection")
    keys, jwks_url = _read_jwks(spec) if form == "jwks" else ("", None)
    introspection, secret_file = _read_introspection(spec) if form == "introspection" else (None, None)
    if form == "introspection" and "algorithms" in spec:
        spec.problem("algorithms beside introspection", "remove it: no signature is checked here", key="algorithms")
    leeway = spec.duration("leeway", low=0, high=LIMIT_LEEWAY_SECONDS, default=None)
    found = TokenIssuer(
        name=context.header.full_name,
        issuer=name or "",
        audiences=tuple(value for value, _ in audiences),
        algorithms=tuple(value for value, _ in algorithms) or _STANDARD.algorithms,
        keys=keys,
        header=header,
        cookie=cookie,
        claim_headers=_read_claim_headers(spec, context),
        leeway_seconds=_whole(spec, "leeway", leeway, _STANDARD.leeway_seconds),
        introspection=introspection,
    )
    return TokenIssuerDocument(
        header=context.header, selector=selector, issuer=found, jwks_url=jwks_url, secret_file=secret_file
    )


def _read_algorithm(item: ValueReader) -> str | None:
    text = item.text()
    if text in ALGORITHMS:
        return text
    if text.lower() == "none":
        item.problem("algorithm none signs nothing", f"use one of {', '.join(ALGORITHMS)}")
    elif text.upper().startswith("HS"):
        # RFC 8725 section 2.1: whoever can check such a token can make one.
        item.problem(f"algorithm {shown(text)} has no public key", f"use one of {', '.join(ALGORITHMS)}")
    elif text:
        item.problem(f"algorithm {shown(text)} is not known", choose_from(text, ALGORITHMS))
    return None


def _read_bearer(spec: MappingReader) -> tuple[str, str]:
    """Where the token stands: a header or a cookie, the other ""."""
    spec.known("header", "cookie")
    if "header" in spec and "cookie" in spec:
        spec.problem("spec has header and cookie", "keep one of them", key="cookie")
    if "cookie" in spec:
        cookie = spec.text("cookie")
        if cookie and not is_cookie_name(cookie):
            spec.problem(f"{shown(cookie)} is not the name of a cookie", "write it like session", key="cookie")
        return "", cookie
    value = spec.value("header", None)
    named = read_header_name(value) if value is not None else _STANDARD.header
    return named or "", ""


def _read_jwks(spec: MappingReader) -> tuple[str, Placed[str] | None]:
    jwks = spec.mapping("jwks")
    form = jwks.one_of("inline", "url")
    keys = ""
    url: Placed[str] | None = None
    if form == "inline":
        keys = jwks.text("inline")
        if len(keys) > LIMIT_KEYS_CHARACTERS:
            mend = f"at most {LIMIT_KEYS_CHARACTERS}: leave out keys that are no longer used"
            jwks.problem(f"inline has {len(keys)} characters", mend, key="inline")
            keys = ""
        elif keys:
            _check_keys(keys, jwks)
    elif form == "url":
        url = _read_url(jwks)
    jwks.finish()
    return keys, url


def _check_keys(keys: str, jwks: MappingReader) -> None:
    try:
        read_key_set(keys)
    except KeySetError as error:
        jwks.problem(str(error), key="inline")


def _read_introspection(spec: MappingReader) -> tuple[Introspection | None, Placed[str] | None]:
    reader = spec.mapping("introspection")
    url = _read_url(reader)
    client = reader.value("clientId")
    client_id = read_word(client) if client is not None else None
    file = reader.text("secretFile")
    if len(file) > LIMIT_PATH_CHARACTERS or not file.isprintable():
        reader.problem(
            f"{shown(file)} is not the path of a file", "write it like /run/secrets/orders", key="secretFile"
        )
    cache = reader.duration("cache", low=0, high=LIMIT_CACHE_SECONDS, default=None)
    cache_seconds = _whole(reader, "cache", cache, 60)
    reader.finish()
    if url is None or not client_id or not file:
        return None, None
    found = Introspection(url=url.value, client_id=client_id, secret="", cache_seconds=cache_seconds)
    return found, Placed(file, reader.place("secretFile"))


def _read_url(reader: MappingReader) -> Placed[str] | None:
    """A URL over TLS, or on this machine. Whether its host may be asked at all is told by the mesh file."""
    text = reader.text("url")
    if not text:
        return None
    match = _URL.fullmatch(text) if len(text) <= LIMIT_URL_CHARACTERS else None
    message, mend = f"{shown(text)} is not a URL", "write it like https://login.shop.example/keys"
    if match is not None:
        host = match[2]
        loopback = _is_loopback(host)
        if "@" in text.split("/")[2]:
            message, mend = f"user in the URL {shown(text)}", "remove it"
        elif match[1] == "http" and not loopback:
            message, mend = f"{shown(text)} is not over TLS", "write it with https"
        elif match[3] is not None and not 1 <= int(match[3]) <= 65535:
            message, mend = f"{shown(text)} has a port out of range", "from 1 to 65535"
        elif loopback or _is_name(host):
            return Placed(text, reader.place("url"))
        else:
            message, mend = f"{shown(text)} has no DNS name as its host", mend
    reader.problem(message, mend, key="url")
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_name(host: str) -> bool:
    try:
        return parse_host_pattern(host) == host
    except HostPatternError:
        return False


def _read_claim_headers(spec: MappingReader, context: Context) -> tuple[tuple[str, str], ...]:
    """(header, claim), ordered by header; no header twice, whatever its case."""
    reader = spec.mapping("claimHeaders", default=None)
    names = list(reader)
    if reader.present and not names:
        spec.problem("claimHeaders is empty", "remove it, or add a header", key="claimHeaders")
    if len(names) > TOKEN_WORD_LIMIT:
        mend = f"at most {TOKEN_WORD_LIMIT}: remove some"
        spec.problem(f"claimHeaders has {len(names)} items", mend, key="claimHeaders")
        return ()
    found: dict[str, str] = {}
    for written in names:
        claim = reader.text(written)
        name = _read_claim_header(reader, written)
        if name is not None and name in found:
            reader.problem(f"header {name} is there twice", "keep one", key=written)
        if claim and not is_claim_name(claim):
            reader.problem(f"{shown(claim)} is not the name of a claim", "write it like sub or realm.role", key=written)
        elif name is not None:
            found[name] = claim
    return tuple(sorted(found.items()))


def _read_claim_header(reader: MappingReader, written: str) -> str | None:
    try:
        name = parse_header_name(written)
        if not takes_claim(name):
            raise HeaderNameError(f"header {name} means something else to the app", "write it like x-user")
        return name
    except HeaderNameError as error:
        reader.problem(error.message, error.mend, key=written)
        return None


def _whole(reader: MappingReader, key: str, seconds: float | None, standard: int) -> int:
    if seconds is None:
        return standard
    if seconds != int(seconds):
        reader.problem(f"{key} has a part of a second", "write whole seconds", key=key)
    return int(seconds)
