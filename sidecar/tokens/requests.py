"""The tokens of one workload's requests, by the issuers that its snapshot names. Adapter.

Places are looked at in the order of the issuers' names: the first token that is verified counts, else the first that is
not to be believed. Who may vouch for a token is chosen by the issuer that it claims, and each verifies by its own keys;
an opaque token is shown to an issuer that answers for such, and never one that says it is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
from ringfence.policy.model import TokenIssuer
from ringfence.policy.tokens import JwtVerifier, KeySetError, bound_to, claimed_issuer, is_jwt, read_key_set
from sidecar.http1.fields import plain_name
from sidecar.tokens.introspector import Introspector
from sidecar.tokens.memory import TokenMemory
from sidecar.tokens.places import Place
from sidecar.tokens.reader import ASKED, TokenRequest
from sidecar.tokens.tally import TokenTally
from sidecar.tokens.told import Told, told_of


class Voucher:
    """One issuer, with what was found out of its tokens."""

    __slots__ = ("issuer", "memory", "verifier")

    def __init__(self, issuer: TokenIssuer) -> None:
        """Raises KeySetError."""
        self.issuer = issuer
        self.memory = TokenMemory()
        self.verifier: JwtVerifier | None = None
        if issuer.introspection is None:
            try:
                keys = read_key_set(issuer.keys) if issuer.keys else None
            except KeySetError as error:
                raise KeySetError(f"{issuer.name}: {error.message}", error.mend) from error
            self.verifier = JwtVerifier(issuer, keys)


class RequestTokens:
    """A ``TokenReader``. Made anew where issuers or their keys change; those that stay keep what they know."""

    __slots__ = ("_claim_headers", "_introspector", "_places", "_tally", "issuers", "own_fields", "vouchers")

    def __init__(
        self,
        issuers: Iterable[TokenIssuer],
        *,
        introspector: Introspector,
        tally: TokenTally,
        before: RequestTokens | None = None,
    ) -> None:
        """Raises KeySetError."""
        self.issuers: Final = tuple(issuers)
        held: dict[TokenIssuer, Voucher] = {}
        if before is not None:
            held = {voucher.issuer: voucher for voucher in before.vouchers}
        self._introspector = introspector
        self._tally = tally
        self.vouchers: tuple[Voucher, ...] = tuple(
            held.get(issuer) or Voucher(issuer) for issuer in sorted(self.issuers, key=lambda issuer: issuer.name)
        )
        self._claim_headers = {issuer.name: issuer.claim_headers for issuer in self.issuers}
        headers = (header for issuer in self.issuers for header, _ in issuer.claim_headers)
        self.own_fields = frozenset(plain_name(header.encode("ascii")) for header in headers)
        places: dict[Place, list[Voucher]] = {}
        for voucher in self.vouchers:
            place = Place(voucher.issuer.header.encode("ascii"), voucher.issuer.cookie.encode("ascii"))
            places.setdefault(place, []).append(voucher)
        self._places = tuple((place, tuple(vouchers)) for place, vouchers in places.items())

    def told(self, token: VerifiedToken) -> Told:
        """Name and value of the fields by which the app is told of ``token``."""
        return told_of(token.claims, self._claim_headers.get(token.issuer, ()))

    def token(self, request: TokenRequest) -> Token:
        """The request's token, verified; why it is not to be believed; or None where it has none."""
        refused: TokenRefused | None = None
        for place, vouchers in self._places:
            text = place.find(request)
            if text is None:
                continue
            found: Token = self._vouched(text, vouchers, request) if isinstance(text, str) else text
            if isinstance(found, VerifiedToken):
                found = bound_to(found, request.leaf_sha256)
            if isinstance(found, VerifiedToken):
                self._tally.verified()
                return found
            if isinstance(found, TokenRefused):
                if found is not ASKED:
                    self._tally.refused(found)
                refused = refused or found
        return refused

    def _vouched(self, text: str, vouchers: tuple[Voucher, ...], request: TokenRequest) -> VerifiedToken | TokenRefused:
        opaque = not is_jwt(text)
        claimed = "" if opaque else claimed_issuer(text)
        refused = TokenRefused("no issuer of its kind is believed here")
        for voucher in vouchers:
            if claimed and voucher.issuer.issuer != claimed:
                refused = TokenRefused("it is of an issuer that is not believed here")
            elif voucher.verifier is None:
                return self._asked(text, voucher, request)
            elif not opaque:
                return self._verified(text, voucher, voucher.verifier, request.now)
        return refused

    def _verified(self, text: str, voucher: Voucher, verifier: JwtVerifier, now: float) -> VerifiedToken | TokenRefused:
        digest = sha256(text.encode("ascii")).digest()
        known = voucher.memory.get(digest, now)
        if known is not None:
            return known
        found = verifier.verify(text, now)
        if isinstance(found, VerifiedToken):
            # Not what is refused: that costs its sender as much, and may hold in a moment (nbf).
            voucher.memory.put(digest, found, found.expires, len(text))
        return found

    def _asked(self, text: str, voucher: Voucher, request: TokenRequest) -> VerifiedToken | TokenRefused:
        digest = sha256(text.encode("ascii")).digest()
        known = voucher.memory.get(digest, request.now)
        if known is not None:
            return known
        asking = self._introspector.ask(voucher.issuer, voucher.memory, text, digest)
        if isinstance(asking, TokenRefused):
            return asking
        request.waits = asking
        return ASKED
