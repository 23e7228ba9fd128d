"""SPIFFE: IDs, trust domains, SVIDs, trust bundles and the rules by which a peer's identity is believed.

Pure: values in, values out; imports nothing of Ringfence. Sources: the SPIFFE-ID, X509-SVID and SPIFFE Trust Domain
and Bundle standards.
"""

from __future__ import annotations

from ringfence.spiffe.bundle import BundleError, TrustBundle, fingerprint
from ringfence.spiffe.errors import VerificationError, VerifyReason
from ringfence.spiffe.ids import (
    RESERVED_NAMESPACE,
    SpiffeId,
    SpiffeIdError,
    TrustDomain,
    control_plane_dns_name,
    control_plane_id,
)
from ringfence.spiffe.leaf import check_leaf, serial_hex
from ringfence.spiffe.svid import X509Svid
from ringfence.spiffe.verify import MAX_CHAIN_CERTIFICATES, ChainVerifier, VerifiedPeer

__all__ = [
    "MAX_CHAIN_CERTIFICATES",
    "RESERVED_NAMESPACE",
    "BundleError",
    "ChainVerifier",
    "SpiffeId",
    "SpiffeIdError",
    "TrustBundle",
    "TrustDomain",
    "VerificationError",
    "VerifiedPeer",
    "VerifyReason",
    "X509Svid",
    "check_leaf",
    "control_plane_dns_name",
    "control_plane_id",
    "fingerprint",
    "serial_hex",
]
