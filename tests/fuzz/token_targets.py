"""What strangers send as tokens, issuers as key sets, and authorization servers as answers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from ringfence.policy.facts import VerifiedToken
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.tokens import JwtVerifier, KeySetError, bound_to, claimed_issuer, read_answer, read_key_set
from tests.fuzz.target import Target, expect

NOW: Final = 1_700_000_000.0
_KEYS: Final = (
    '{"keys": [{"crv": "P-256", '
    '"x": "ebg3U-V8dcO0I1nVFH4kwgyKia_hcecNmc537ECOqVo", '
    '"y": "6yQy1xVr68XDdiDBBeencbSCmZ2YAx7KzH7RKbCCrGU", "kid": "seed", "kty": "EC"}]}'
)
_ISSUER: Final = TokenIssuer(
    name="shop/login",
    issuer="https://login.example/",
    audiences=("orders",),
    introspection=Introspection(url="https://login.example/introspect", client_id="c", secret="s"),
)
_VERIFIER: Final = JwtVerifier(_ISSUER, read_key_set(_KEYS))


def _parts(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


def jwt(data: bytes) -> None:
    """Only what was signed is believed: the one kept input of which that is so."""
    text = data.decode("latin-1")
    claimed_issuer(text)
    found = _VERIFIER.verify(text, NOW)
    if isinstance(found, VerifiedToken):
        signed = (Path(__file__).parent / "corpus" / "jwt" / "valid").read_text()
        expect(_parts(text) == _parts(signed), f"believed: {text}")
    else:
        expect("\n" not in found.detail and len(found.detail) < 200, f"no line: {found.detail}")


def key_set(data: bytes) -> None:
    """Read again it is the same, and holds nothing that is secret."""
    try:
        found = read_key_set(data)
    except KeySetError as error:
        expect("\n" not in str(error), "the error is no line")
        return
    expect(read_key_set(found.text).keys == found.keys, "read again it is another")
    names = {name for key in found.keys for name, _ in key.members}
    expect(bool(names) and names <= {"n", "e", "crv", "x", "y"}, f"no key, or more than one: {names}")


def introspection(data: bytes) -> None:
    """Only what is said to be active is."""
    found = read_answer(_ISSUER, data, NOW)
    if isinstance(found, VerifiedToken):
        expect(found.claims["active"] is True and found.expires > NOW, f"believed: {found}")
        bound_to(found, "ab" * 32)


TARGETS: Final = (
    Target(name="jwt", run=jwt),
    Target(name="key_set", run=key_set),
    Target(name="introspection", run=introspection),
)
