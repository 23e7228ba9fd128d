"""Token issuers for tests: keys, key sets, and tokens of every kind that nobody should believe."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

NOW = 1_700_000_000.0
ISSUER = "https://login.example/"
AUDIENCE = "orders"

Key = RSAKey | ECKey | OKPKey
_TYPED = {"typ": "JWT"}


@cache
def rsa_key(kid: str = "rsa-1") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid})


@cache
def ec_key(kid: str = "ec-1", curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": kid})


@cache
def ed_key(kid: str = "ed-1") -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid})


def public(key: Key, **members: object) -> dict[str, object]:
    """The key as a set publishes it; ``members`` are added, or taken out by None."""
    found = {**key.as_dict(private=False), **members}
    return {name: value for name, value in found.items() if value is not None}


def key_set(*keys: Key | Mapping[str, object]) -> str:
    return json.dumps({"keys": [dict(key) if isinstance(key, Mapping) else public(key) for key in keys]})


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs tokens by one key."""

    key: Key
    algorithm: str = "ES256"

    def token(self, header: Mapping[str, object] | None = None, **claims: object) -> str:
        """A token that holds at NOW; ``claims`` are set, or left out by None, as are those of ``header``."""
        return self.signed(json.dumps(all_claims(claims)).encode(), header)

    def signed(self, payload: bytes, header: Mapping[str, object] | None = None) -> str:
        full = {"alg": self.algorithm, "typ": "JWT", "kid": self.key.kid, **(header or {})}
        full = {name: value for name, value in full.items() if value is not None}
        head = encoded(json.dumps(full).encode())
        text = f"{head}.{encoded(payload)}"
        signature = jws.JWSRegistry.algorithms[self.algorithm].sign(text.encode(), self.key)
        return f"{text}.{encoded(signature)}"


def all_claims(claims: Mapping[str, object]) -> dict[str, object]:
    usual: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 300}
    return {name: value for name, value in {**usual, **claims}.items() if value is not None}


def unsigned(**claims: object) -> str:
    """``alg: none``, with a signature of one byte, so that it has the form."""
    head = encoded(json.dumps({"alg": "none"}).encode())
    return f"{head}.{encoded(json.dumps(all_claims(claims)).encode())}.AA"


def by_shared_secret(secret: bytes, kid: str, **claims: object) -> str:
    """HS256 with ``secret``: a public key, as whoever mixes up kinds of keys would take it."""
    head = encoded(json.dumps({"alg": "HS256", "kid": kid}).encode())
    text = f"{head}.{encoded(json.dumps(all_claims(claims)).encode())}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
