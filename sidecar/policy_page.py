"""What of a snapshot's policy an operator is shown on the admin socket: by name, and never a secret. Pure."""

from __future__ import annotations

from ringfence.policy.model import PolicySet, TokenIssuer
from ringfence.snapshot import Snapshot


def policy_shown(snapshot: Snapshot | None) -> dict[str, object]:
    """The lists in force and in the shadow, until when the workload only observes, what its ports let in, and whose
    tokens it believes."""
    if snapshot is None:
        return {**_listed(PolicySet()), "ports": [], "shadow": None, "token_issuers": []}
    return {
        **_listed(snapshot.policy),
        "ports": [
            {"port": one.port, "protocol": one.protocol.value, "mode": one.mode.value}
            for one in snapshot.workload.ports
        ],
        "shadow": _listed(snapshot.shadow) if snapshot.shadow is not None else None,
        "token_issuers": [_issuer(issuer) for issuer in snapshot.token_issuers],
    }


def _listed(policy: PolicySet) -> dict[str, object]:
    return {
        "allowlists": [allowlist.full_name for allowlist in policy.allowlists],
        "denylists": [denylist.full_name for denylist in policy.denylists],
        "observe_until": policy.observe_until,
    }


def _issuer(issuer: TokenIssuer) -> dict[str, object]:
    # Field by field, so that whatever is added to an issuer is shown only once somebody thought of it.
    introspection = issuer.introspection
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "audiences": list(issuer.audiences),
        "algorithms": list(issuer.algorithms),
        "has_keys": bool(issuer.keys),
        "header": issuer.header,
        "cookie": issuer.cookie,
        "claim_headers": dict(issuer.claim_headers),
        "introspection": None
        if introspection is None
        else {"url": introspection.url, "client_id": introspection.client_id, "secret": "(redacted)"},
    }
