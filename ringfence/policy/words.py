"""The words that rules and token issuers are made of, each as documents and the wire take it. Pure.

Every check is a full match over ASCII: a look-alike letter or a trailing newline is no word.
"""

from __future__ import annotations

import re
from typing import Final

LIMIT_WHEN_CHARACTERS: Final = 4_096
LIMIT_AGE_SECONDS: Final = 10 * 365 * 86_400
LIMIT_LEEWAY_SECONDS: Final = 300
LIMIT_CACHE_SECONDS: Final = 3_600
LIMIT_KEYS_CHARACTERS: Final = 256 * 1024

# Signatures that are made with a private key only: with HS256 whoever can check a token can make one (RFC 8725, 2.1).
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip

# What frames a message or belongs to one hop; the sidecar reads these itself, and nothing of a token may write them.
_FRAMING: Final = """
connection content-length expect host keep-alive proxy-connection te trailer transfer-encoding upgrade
"""
FRAMING_HEADERS: Final = frozenset(_FRAMING.split())

# What the app is told by the sidecar alone, or reads as something of the caller's own: no claim may stand there.
_TOLD: Final = """
authorization content-encoding content-type cookie forwarded http2-settings proxy-authorization x-real-ip
x-forwarded-client-cert
"""
_TAKEN_HEADERS: Final = FRAMING_HEADERS | frozenset(_TOLD.split())
_TAKEN_PREFIXES: Final = ("x-forwarded-", "x-ringfence-")

HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,253}")  # RFC 9110 section 5.1, in lower case
HEADER_VALUE: Final = re.compile(r"[!-~](?:[ -~]{0,2046}[!-~])?")
COOKIE_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,253}")  # RFC 6265 section 4.1.1
GRPC_SERVICE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
GRPC_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,253}")  # RFC 6749 section 3.3
CLAIM_NAME: Final = re.compile(r"[A-Za-z0-9_:/@$-]+(?:\.[A-Za-z0-9_:/@$-]+){0,7}")
# Kubernetes: a name of at most 63 characters, perhaps behind a DNS name and a slash; a value may be empty.
LABEL_WORD: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_PREFIX: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_LIMIT_CHARACTERS: Final = 253


def is_header_name(text: str) -> bool:
    """A field name of HTTP in lower case; no pseudo-header."""
    return HEADER_NAME.fullmatch(text) is not None


def takes_claim(header: str) -> bool:
    """Whether a claim may be told under this name (lower case). Whatever is no letter and no digit counts as ``-``, as
    applications behind CGI and WSGI see it: ``x_real_ip`` is ``x-real-ip`` to them."""
    plain = re.sub("[^a-z0-9]", "-", header)
    return plain not in _TAKEN_HEADERS and not plain.startswith(_TAKEN_PREFIXES)


def is_header_value(text: str) -> bool:
    """A value that a header can have: ASCII that can be seen, with spaces only inside."""
    return HEADER_VALUE.fullmatch(text) is not None


def is_cookie_name(text: str) -> bool:
    """The name of a cookie."""
    return COOKIE_NAME.fullmatch(text) is not None


def is_grpc_service(text: str) -> bool:
    """``package.Service``, as it stands in ``:path``."""
    return len(text) <= _LIMIT_CHARACTERS and GRPC_SERVICE.fullmatch(text) is not None


def is_grpc_method(text: str) -> bool:
    """The name of a method of a gRPC service."""
    return len(text) <= _LIMIT_CHARACTERS and GRPC_METHOD.fullmatch(text) is not None


def is_scope(text: str) -> bool:
    """One scope of OAuth 2.0."""
    return SCOPE.fullmatch(text) is not None


def is_claim_name(text: str) -> bool:
    """A claim, or the way into nested objects: at most eight names with dots between."""
    return len(text) <= _LIMIT_CHARACTERS and CLAIM_NAME.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """The key of a label, as Kubernetes takes it."""
    prefix, slash, name = text.rpartition("/")
    if slash and not (len(prefix) <= _LIMIT_CHARACTERS and LABEL_PREFIX.fullmatch(prefix)):
        return False
    return LABEL_WORD.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    """The value of a label, as Kubernetes takes it; it may be empty."""
    return not text or LABEL_WORD.fullmatch(text) is not None
