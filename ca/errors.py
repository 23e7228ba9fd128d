"""What can go wrong in the authority: one base, and the closed set of reasons why a caller gets no identity.

A refused caller learns nothing but that it was refused (see ``ca.border``); the reason stays in the authority's log.
"""

from __future__ import annotations

from enum import StrEnum


class CaError(Exception):
    """Base of everything this package raises on purpose."""


class SettingsInvalid(CaError):
    """The authority's settings contradict each other, or one is no such thing; the message lists all of it."""


class DataFolderError(CaError):
    """The data folder is missing, incomplete, inconsistent, readable by others, or already taken."""


class PassphraseError(CaError):
    """No passphrase, an unusable one, or one that does not open the keys."""


class StoreError(CaError):
    """Base of what the database can do to us."""


class StoreUnavailable(StoreError):
    """The database cannot be read or written now; nothing was recorded and nothing may be handed out."""


class StoreTooNew(StoreError):
    """The database was written by a newer release, whose rules this code does not know."""


class StoreForeign(StoreError):
    """The database belongs to another authority."""


class AttestorUnavailable(CaError):
    """The platform cannot say now whether evidence is good or a workload still there; to be asked again later."""


class RequestInvalid(CaError):
    """The request itself is malformed or asks for what no caller may have; the message is safe to send back."""


class CsrRefused(RequestInvalid):
    """The certificate signing request is too large, malformed, unsigned by its own key, or its key is too weak."""


class LifetimeRefused(RequestInvalid):
    """A lifetime below the authority's floor was asked for."""


class IdentityRefused(RequestInvalid):
    """An identity that this authority never gives to a workload: foreign, reserved, or of another shape."""


class IssuerExpired(CaError):
    """The issuing intermediate is at its end: nothing that it signs could be valid."""


class OutputRefused(CaError):
    """A freshly signed SVID failed the checks that peers will make; it was thrown away."""


class Overloaded(CaError):
    """As many requests are in hand as the settings allow."""


class RefusalReason(StrEnum):
    """Why a caller gets no identity. For the authority's log and counters, and not for the network, except for what is
    said of evidence to whoever shows it (``ca.border``)."""

    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_SPENT = "token_spent"
    HOST_KEY_PROOF_INVALID = "host_key_proof_invalid"
    HOST_KEY_UNKNOWN = "host_key_unknown"
    HOST_KEY_REVOKED = "host_key_revoked"
    HOST_KEY_BOUND_ELSEWHERE = "host_key_bound_elsewhere"
    NONCE_INVALID = "nonce_invalid"
    NONCE_EXPIRED = "nonce_expired"
    NONCE_SPENT = "nonce_spent"
    SIGNATURE_INVALID = "signature_invalid"
    NO_CERTIFICATE = "no_certificate"
    CERTIFICATE_INVALID = "certificate_invalid"
    CERTIFICATE_EXPIRED = "certificate_expired"
    FOREIGN_TRUST_DOMAIN = "foreign_trust_domain"
    RESERVED_IDENTITY = "reserved_identity"
    SERIAL_UNKNOWN = "serial_unknown"
    RENEWED_BY_PLATFORM = "renewed_by_platform"
    EVIDENCE_KIND_UNKNOWN = "evidence_kind_unknown"
    EVIDENCE_MALFORMED = "evidence_malformed"
    EVIDENCE_FOREIGN = "evidence_foreign"
    EVIDENCE_AUDIENCE = "evidence_audience"
    EVIDENCE_EXPIRED = "evidence_expired"
    EVIDENCE_UNBOUND = "evidence_unbound"
    EVIDENCE_REJECTED = "evidence_rejected"
    EVIDENCE_GONE = "evidence_gone"
    EVIDENCE_MISMATCH = "evidence_mismatch"
    EVIDENCE_UNMESHED = "evidence_unmeshed"
    EVIDENCE_SPENT = "evidence_spent"
    NOT_REGISTERED = "not_registered"
    SUBJECT_GONE = "subject_gone"


class Refused(CaError):
    """This caller gets no identity; ``reason`` says why, to the operator alone."""

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
