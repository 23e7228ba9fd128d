"""Why a peer's certificate was refused: a closed set of reasons, used as log fields and metric labels."""

from __future__ import annotations

from enum import StrEnum


class VerifyReason(StrEnum):
    """The reasons for which a peer is refused."""

    NO_CERTIFICATE = "no_certificate"  # the peer showed none
    MALFORMED = "malformed"  # a certificate that cannot be read
    SPIFFE_ID_COUNT = "spiffe_id_count"  # not exactly one URI SAN
    SPIFFE_ID_INVALID = "spiffe_id_invalid"  # the URI SAN is no SPIFFE ID of a workload
    LEAF_RULES = "leaf_rules"  # CA, key usage or extended key usage against X509-SVID, section 4
    UNKNOWN_TRUST_DOMAIN = "unknown_trust_domain"  # no bundle held for the ID's trust domain
    UNTRUSTED = "untrusted"  # no valid path to that bundle: signature, issuer, constraint, key size
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNEXPECTED_PEER = "unexpected_peer"  # a good SVID, but not one of those that were asked for
    TOO_LONG_CHAIN = "too_long_chain"
    PROOF_INVALID = "proof_invalid"  # a re-proof that is not for this connection, this end, this turn or this key


class VerificationError(Exception):
    """A peer's identity was refused; ``detail`` is for this side's log and never for the peer."""

    def __init__(self, reason: VerifyReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
