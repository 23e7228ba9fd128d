"""Key sets of token issuers (RFC 7517): which keys of one may verify tokens, and which sets are refused whole. Pure.

A set is distrusted, whoever sent it: its size and the number of its keys are bounded before any key is made. What
betrays that the issuer is not in order refuses the set (a private key, a shared secret, a short RSA key, a point off
its curve, one ``kid`` twice); what is only not for us is left out (keys for encryption, of other kinds or curves).

``joserfc`` is imported when a set is read or a token verified, so that a sidecar without issuers never pays for it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ringfence.policy.tokens.strict_json import StrictJsonError, read_object

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

KEY_SET_LIMIT_BYTES: Final = 256 * 1024
KEYS_LIMIT: Final = 100
SMALLEST_RSA_BITS: Final = 2048
LARGEST_RSA_BITS: Final = 8192  # to verify by a larger one takes milliseconds
_LARGEST_EXPONENT_BITS: Final = 32
_KID_LIMIT_CHARACTERS: Final = 512
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_PUBLIC: Final[Mapping[str, tuple[str, ...]]] = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_CURVES: Final[Mapping[str, tuple[str, ...]]] = {"EC": ("P-256", "P-384", "P-521"), "OKP": ("Ed25519",)}

# algorithm -> the kind of key that it takes, and its curve. HS* and none are not here, and nothing else is accepted:
# with a shared secret whoever checks a token can make one, and a public key would pass for the secret (RFC 8725, 2.1).
_FITS: Final[Mapping[str, tuple[str, str]]] = {
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
ALGORITHMS: Final = frozenset(_FITS)


def plain_algorithm(name: object) -> object:
    """``EdDSA`` also for the name that RFC 9864 gives to the one curve that is taken here."""
    return "EdDSA" if name == "Ed25519" else name


class KeySetError(ValueError):
    """A key set that is refused: ``message`` says what is wrong with it, ``mend`` what to do; neither holds a key."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message} ({mend})" if mend else message)
        self.message = message
        self.mend = mend


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One key that verifies tokens. ``kid`` and ``algorithm`` are empty where the set names none.

    ``members``: the key itself, without anything else that came with it.
    """

    kid: str
    kind: str
    curve: str
    algorithm: str
    members: tuple[tuple[str, str], ...]

    def fits(self, algorithm: str) -> bool:
        """Whether a signature by ``algorithm`` can be of this key at all."""
        return _FITS.get(algorithm) == (self.kind, self.curve) and self.algorithm in ("", algorithm)

    def made(self) -> RSAKey | ECKey | OKPKey:
        """The key to verify by; raises ValueError for numbers that are no such key."""
        from joserfc.jwk import ECKey, OKPKey, RSAKey

        made = {"kty": self.kind, **dict(self.members)}
        kinds: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
        return kinds[self.kind].import_key(made)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one issuer, sorted, so that equal sets have equal ``text``; ``left_out``: of keys that came."""

    keys: tuple[PublicKey, ...]
    left_out: int = 0

    @property
    def text(self) -> str:
        """As JSON; ``read_key_set`` reads the same keys from it."""
        keys = [
            {
                "kty": key.kind,
                **({"kid": key.kid} if key.kid else {}),
                **({"alg": key.algorithm} if key.algorithm else {}),
                **dict(key.members),
            }
            for key in self.keys
        ]
        return json.dumps({"keys": keys}, separators=(",", ":"))


def read_key_set(text: bytes | str) -> KeySet:
    """The keys in ``text``, each of them checked; raises KeySetError. A set without a key for us is none."""
    try:
        found = read_object(text, KEY_SET_LIMIT_BYTES).get("keys")
    except StrictJsonError as error:
        raise KeySetError(f"the key set is {error}", "publish a JSON object with keys") from None
    if not isinstance(found, list):
        raise KeySetError("the key set has no list of keys", "publish one as RFC 7517 says")
    if len(found) > KEYS_LIMIT:
        raise KeySetError(f"{len(found)} keys are more than {KEYS_LIMIT}", "publish only those in use")
    keys = [key for key in (_key(f"key {at}", one) for at, one in enumerate(found)) if key is not None]
    named = [key.kid for key in keys if key.kid]
    for kid in named:
        if named.count(kid) > 1:
            raise KeySetError(f"two keys have the kid {_shown(kid)}", "give each its own")
    if not keys:
        raise KeySetError("the key set has no key that verifies tokens", "publish RSA, EC or Ed25519 keys")
    for at, key in enumerate(keys):
        _check(f"key {_shown(key.kid) if key.kid else at}", key)
    ordered = sorted(keys, key=lambda key: (key.kid, key.kind, key.algorithm, key.members))
    return KeySet(keys=tuple(ordered), left_out=len(found) - len(keys))


def _key(where: str, found: object) -> PublicKey | None:
    """The key, by its words alone; None: not for us."""
    if not isinstance(found, dict):
        raise KeySetError(f"{where} is no object", "publish each key as RFC 7517 says")
    if found.get("kty") == "oct" or not _PRIVATE.isdisjoint(found):
        raise KeySetError(
            f"{where} is a secret, and a published one now", "publish public keys only, and make new ones"
        )
    kind, curve = found.get("kty"), found.get("crv", "")
    if not isinstance(kind, str) or kind not in _PUBLIC or (kind in _CURVES and curve not in _CURVES[kind]):
        return None
    if found.get("use", "sig") != "sig" or not _verifies(found.get("key_ops")):
        return None
    algorithm = plain_algorithm(found.get("alg", ""))
    if not isinstance(algorithm, str) or (algorithm and _FITS.get(algorithm, ("", ""))[0] != kind):
        return None
    kid = found.get("kid", "")
    if not isinstance(kid, str) or len(kid) > _KID_LIMIT_CHARACTERS or not (kid.isprintable() and kid.isascii()):
        raise KeySetError(f"{where} has a kid that is no short text", "name keys in printable ASCII")
    members: list[tuple[str, str]] = []
    for name in _PUBLIC[kind]:
        value = found.get(name)
        if not isinstance(value, str) or (name != "crv" and _BASE64URL.fullmatch(value) is None):
            raise KeySetError(f"{where} has no lawful {name}", "write it in base64url")
        members.append((name, value))
    curve = curve if kind in _CURVES else ""
    return PublicKey(kid=kid, kind=kind, curve=curve, algorithm=algorithm, members=tuple(members))


def _verifies(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _check(where: str, key: PublicKey) -> None:
    """That the numbers are a key, and a strong one; RSA by its sizes first, as large ones take time."""
    from joserfc.errors import JoseError

    members = dict(key.members)
    if key.kind == "RSA":
        bits = _bits(members["n"])
        if not SMALLEST_RSA_BITS <= bits <= LARGEST_RSA_BITS:
            mend = f"use one of {SMALLEST_RSA_BITS} to {LARGEST_RSA_BITS} bits"
            raise KeySetError(f"{where} is an RSA key of {bits} bits", mend)
        if _bits(members["e"]) > _LARGEST_EXPONENT_BITS:
            raise KeySetError(f"{where} has an RSA exponent above {_LARGEST_EXPONENT_BITS} bits", "use 65537")
    try:
        _ = key.made().public_key
    except (JoseError, ValueError, TypeError, OverflowError):
        raise KeySetError(f"{where} is no {key.kind} key", "publish it as your key store gives it") from None


def _bits(number: str) -> int:
    """The length of a number in base64url whose alphabet was checked."""
    try:
        decoded = base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))
    except ValueError:
        return 0
    return int.from_bytes(decoded, "big").bit_length()


def _shown(kid: str) -> str:
    return repr(kid[:64])
