"""The texts of documents, each with the pattern by which its reader takes it. Pure.

Where a reader does more than a pattern can say, the pattern takes all that the reader takes, and some more.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.envelope import LABEL, NAME_LIMIT_CHARACTERS, SUBDOMAIN
from ringfence.policy.paths import LIMIT_TEMPLATE_CHARACTERS
from ringfence.policy.reading.issuers import LIMIT_PATH_CHARACTERS, LIMIT_URL_CHARACTERS
from ringfence.policy.reading.postures import MOMENT
from ringfence.policy.reading.tokens import LIMIT_WORD_CHARACTERS
from ringfence.policy.schema.shapes import Text
from ringfence.policy.words import (
    CLAIM_NAME,
    COOKIE_NAME,
    GRPC_METHOD,
    GRPC_SERVICE,
    HEADER_NAME,
    HEADER_VALUE,
    LABEL_PREFIX,
    LABEL_WORD,
    LIMIT_WHEN_CHARACTERS,
    SCOPE,
)

_SEGMENT: Final = r"(?:\*|\{[A-Za-z_][A-Za-z0-9_-]*\}|(?!\.{1,2}(?:/|(?![\s\S])))[!-\"$-)+-.0->@-\[\]-z~]+)"
_ID_SEGMENT: Final = r"(?:\*|[A-Za-z0-9._-]+)"
# Scheme and trust domain may be in capitals, which are read as small letters (SPIFFE-ID section 2).
_SCHEME: Final = "[Ss][Pp][Ii][Ff][Ff][Ee]://"
_TRUST_DOMAIN: Final = r"[A-Za-z0-9._-]{1,255}"
_HOST: Final = rf"{LABEL.pattern}(?:\.{LABEL.pattern})*"

NAME: Final = Text(name="name", pattern=SUBDOMAIN.pattern, limit=NAME_LIMIT_CHARACTERS)
WORD: Final = Text(name="name", pattern=LABEL.pattern)
SERVICE: Final = Text(name="`service` or `namespace/service`", pattern=rf"(?:{LABEL.pattern}/)?{LABEL.pattern}")
REFERENCE: Final = Text(name="`name` or `namespace/name`", pattern=rf"(?:{LABEL.pattern}/)?{SUBDOMAIN.pattern}")
LABEL_NAME: Final = Text(name="label", pattern=rf"(?:{LABEL_PREFIX.pattern}/)?{LABEL_WORD.pattern}")
LABEL_VALUE: Final = Text(name="text", pattern=LABEL_WORD.pattern)
SPIFFE_ID: Final = Text(
    name="SPIFFE ID, `*` for a whole segment", pattern=rf"{_SCHEME}{_TRUST_DOMAIN}(?:/{_ID_SEGMENT})+", limit=2048
)
TRUST_DOMAIN: Final = Text(name="trust domain", pattern=rf"(?:{_SCHEME})?{_TRUST_DOMAIN}")
CIDR: Final = Text(
    name="network", pattern=r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}/[0-9]{1,2}|(?=[^/]*:)[0-9A-Fa-f:.]+/[0-9]{1,3}"
)
PATH: Final = Text(
    name="path template",
    pattern=rf"(?!.*\$(?![\s\S]))/(?:{_SEGMENT}(?:/{_SEGMENT})*(?:/(?:\*\*)?)?|\*\*)?",
    limit=LIMIT_TEMPLATE_CHARACTERS,
)
HOST: Final = Text(name="host, `*.` for every name below", pattern=rf"(?:\*\.)?{_HOST}", limit=253)
HEADER: Final = Text(
    name="header", pattern=rf"(?![Hh][Oo][Ss][Tt](?![\s\S])){HEADER_NAME.pattern.replace('a-z', 'A-Za-z')}"
)
VALUE: Final = Text(name="text", pattern=rf"(?!\^|\*(?![\s\S])|.*\$(?![\s\S])|.*\.[*+?]){HEADER_VALUE.pattern}")
GRPC: Final = Text(
    name="`package.Service/Method` or `package.Service/*`",
    pattern=rf"{GRPC_SERVICE.pattern}/(?:\*|{GRPC_METHOD.pattern})",
)
SCOPE_TOKEN: Final = Text(name="scope", pattern=SCOPE.pattern)
CLAIM: Final = Text(name="claim", pattern=CLAIM_NAME.pattern)
CLAIM_KEY: Final = Text(name="claim", pattern=rf"(?!.*://){CLAIM_NAME.pattern}")
CLAIM_VALUE: Final = Text(name="text", pattern=r"[^\x00-\x1f\x7f]+", limit=LIMIT_WORD_CHARACTERS)
TOKEN_WORD: Final = Text(name="text", pattern=r"[!-~](?:[ -~]*[!-~])?", limit=LIMIT_WORD_CHARACTERS)
CEL: Final = Text(name="CEL expression", pattern=r"[\s\S]+", limit=LIMIT_WHEN_CHARACTERS)
COOKIE: Final = Text(name="cookie", pattern=COOKIE_NAME.pattern)
DURATION: Final = Text(
    name="duration",
    pattern=r"(?=[0-9])(?:[0-9]{1,9}d)?(?:[0-9]{1,9}h)?(?:[0-9]{1,9}m)?(?:[0-9]{1,9}s)?(?:[0-9]{1,9}ms)?",
)
INSTANT: Final = Text(name="moment (RFC 3339, with zone)", pattern=MOMENT.pattern)
URL: Final = Text(
    name="URL",
    pattern=r"https?://(?:[a-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?(?:[/?][!$-~]*)?",
    limit=LIMIT_URL_CHARACTERS,
)
FILE: Final = Text(name="path of a file", pattern=r"[^\x00-\x1f\x7f]+", limit=LIMIT_PATH_CHARACTERS)
JSON: Final = Text(name="JSON text", pattern=r"[\s\S]+")
ANY: Final = Text(name="text", pattern=r"[\s\S]+")
