"""Tokens of requests: key sets of issuers, and what must hold before a token is believed.

Pure: values in, values out. Sources: RFC 7515, 7517, 7519 (JWS, JWK, JWT), RFC 8725 (best current practice), RFC 8705
(bound to certificates), RFC 9068 (access tokens), RFC 7662 (introspection). The cryptography is ``joserfc``'s.
"""

from __future__ import annotations

from ringfence.policy.tokens.claims import bound_to, thumbprint
from ringfence.policy.tokens.introspection import question, read_answer
from ringfence.policy.tokens.keys import KeySet, KeySetError, PublicKey, read_key_set
from ringfence.policy.tokens.verify import TOKEN_LIMIT_BYTES, JwtVerifier, claimed_issuer, is_jwt

__all__ = [
    "TOKEN_LIMIT_BYTES",
    "JwtVerifier",
    "KeySet",
    "KeySetError",
    "PublicKey",
    "bound_to",
    "claimed_issuer",
    "is_jwt",
    "question",
    "read_answer",
    "read_key_set",
    "thumbprint",
]
