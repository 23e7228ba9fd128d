"""From a person's words to a call: services and callers by short names, the unsaid by what is usual. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.examples import GRPC_HEADERS, with_claim
from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
from ringfence.policy.problems import choose_from, nearest, shown
from ringfence.spiffe import SpiffeId, SpiffeIdError

UNAUTHENTICATED: Final = "unauthenticated"

_NAMES_TOLD: Final = 20
_EXPIRES_SECONDS: Final = 3600.0
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_GRPC: Final = re.compile(r"[A-Za-z_][\w.]*/[A-Za-z_]\w*", re.ASCII)


class WordError(ValueError):
    """A word that names nothing, or no call; ``part`` says which of ``CallWords``, ``mend`` what to write instead."""

    def __init__(self, part: str, message: str, mend: str = "") -> None:
        super().__init__(f"{message} ({mend})" if mend else message)
        self.part = part
        self.message = message
        self.mend = mend


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWords:
    """A call as a person says it; what is left out is what is usual.

    ``caller``: a service, a SPIFFE ID or ``unauthenticated``. ``service``: ``<namespace>/<name>``, or a bare name of
    ``namespace``, without one of the whole mesh. ``grpc``: ``pkg.Service/Method`` in place of ``method`` and ``path``.
    A token there is when anything is said of it; ``claims`` by name, with dots into nested objects; ``invalid_token``:
    there is one that is not to be believed.
    """

    caller: str
    service: str
    time: float
    namespace: str | None = None
    port: int | None = None
    method: str | None = None
    path: str | None = None
    grpc: str | None = None
    host: str = ""
    headers: Sequence[tuple[str, str]] = ()
    address: str = ""
    issuer: str | None = None
    scopes: Sequence[str] = ()
    claims: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    opaque: bool = False
    invalid_token: bool = False


def call_of(words: CallWords, world: World) -> Call:
    """The call that ``words`` say. Raises WordError."""
    service = find_service(words.service, world, "service", words.namespace)
    for part, text in (("host", words.host), ("method", words.method), ("path", words.path)):
        _check_text(part, text or "")
    if words.method is not None and not _TOKEN.fullmatch(words.method):
        raise WordError("method", f"{shown(words.method)} is no HTTP method", "write it like GET")
    if words.path is not None and not words.path.startswith("/") and words.path != "*":
        raise WordError("path", f"path {shown(words.path)} does not start with '/'", f"write /{words.path}"[:80])
    method, path, headers = words.method or "GET", words.path or "/", tuple(words.headers)
    for name, value in headers:
        _check_text("headers", value)
        if not _TOKEN.fullmatch(name):
            raise WordError("headers", f"{shown(name)} is no name of a header", "write it like x-team")
    if words.grpc is not None:
        method, path, headers = "POST", _grpc_path(words), (*headers, *GRPC_HEADERS)
    return Call(
        caller=find_caller(words.caller, world, words.namespace),
        service=service.full_name,
        port=_port(words.port, service),
        address=_address(words.address),
        method=method,
        path=path,
        host=words.host,
        headers=headers,
        token=_token(words, service),
        time=words.time,
        opaque=words.opaque,
    )


def find_service(text: str, world: World, part: str, namespace: str | None = None) -> WorldService:
    """The service that is called so. Raises WordError."""
    if "/" not in text and namespace is None:
        found = [service for service in world.services if service.name == text]
        if len(found) > 1:
            names = ", ".join(service.full_name for service in found[:_NAMES_TOLD])
            raise WordError(part, f"{len(found)} services are called {shown(text)}", f"say which: {names}")
        if found:
            return found[0]
    full_name = text if "/" in text or namespace is None else f"{namespace}/{text}"
    service = world.service(full_name)
    if service is None:
        known = [one.full_name if "/" in full_name else one.name for one in world.services]
        mend = choose_among(full_name, known)
        raise WordError(part, f"there is no service {shown(full_name)}", mend)
    return service


def choose_among(name: str, known: Sequence[str]) -> str:
    """The mend for an unknown name: the one most like it, or else some of those that there are."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near is not None else choose_from(name, known[:_NAMES_TOLD])


def find_caller(text: str, world: World, namespace: str | None = None) -> SpiffeId | None:
    """The identity of the caller that is called so; None for ``unauthenticated``. Raises WordError."""
    if text == UNAUTHENTICATED:
        return None
    if "://" not in text:
        return find_service(text, world, "caller", namespace).spiffe_id
    try:
        spiffe_id = SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise WordError("caller", str(error)) from error
    if not spiffe_id.path:
        raise WordError("caller", f"{shown(text)} names a trust domain, not a workload", "add /ns/…/sa/…")
    return spiffe_id


def _port(port: int | None, service: WorldService) -> int:
    if port is not None:
        if not 1 <= port <= 65535:
            raise WordError("port", f"port {port} is not from 1 to 65535")
        return port
    if len(service.ports) == 1:
        return service.ports[0].port
    known = ", ".join(str(one.port) for one in service.ports)
    what = f"{service.full_name} has {len(service.ports)} ports" if known else f"{service.full_name} has no ports"
    raise WordError("port", what, f"say which: {known}" if known else "")


def _grpc_path(words: CallWords) -> str:
    if words.method is not None or words.path is not None:
        raise WordError("grpc", "grpc says the method and the path already", "remove method and path")
    if words.grpc is None or not _GRPC.fullmatch(words.grpc):
        raise WordError("grpc", f"{shown(words.grpc or '')} is no gRPC method", "write it like pkg.Service/Method")
    return f"/{words.grpc}"


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError as error:
        raise WordError("address", f"{shown(text)} is no IP address", "write it like 10.0.0.7") from error


def _token(words: CallWords, service: WorldService) -> Token:
    if words.invalid_token:
        return TokenRefused("said to be invalid")
    if words.issuer is None and not words.scopes and not words.claims:
        return None
    names = [issuer.name for issuer in service.token_issuers]
    found = [name for name in names if words.issuer in (None, name, name.rpartition("/")[2])]
    if len(found) != 1:
        if words.issuer is None:
            what = f"{service.full_name} believes {len(names)} token issuers"
            mend = f"say which: {', '.join(names[:_NAMES_TOLD])}" if names else "give it a TokenIssuer"
        else:
            what = f"{service.full_name} believes no token issuer {shown(words.issuer)}"
            mend = choose_among(words.issuer, names) if names else "give it a TokenIssuer"
        raise WordError("issuer", what, mend)
    claims: dict[str, object] = {}
    for name, value in words.claims.items():
        claims = with_claim(claims, name, value)
    if words.scopes:
        claims["scope"] = " ".join(words.scopes)
    return VerifiedToken(issuer=found[0], claims=claims, expires=words.time + _EXPIRES_SECONDS)


def _check_text(part: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise WordError(part, f"{part} {shown(text)} is no valid text", "write it in UTF-8") from error
