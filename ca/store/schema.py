"""The tables, as SQLAlchemy Core. Migrations under ``migrations/`` lead there; a test holds the two together.

Times are Unix seconds. Keys and hashes are lower-case hex. No secret is in here but ``nonce_secret``, which without a
host key proves nothing; tokens are held as SHA-256 only (of 256 random bits, so no salt and no slow hash are needed).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, MetaData, String, Table

metadata: Final = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"},
)

authority_state: Final = Table(
    "authority_state",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
)
"""Single facts: ``root_fingerprint`` (whose database this is) and ``nonce_secret`` (hex, shared by the replicas)."""

issued_svids: Final = Table(
    "issued_svids",
    metadata,
    Column("serial", String(40), primary_key=True),
    Column("spiffe_id", String(512), nullable=False),
    Column("issued_at", Double, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("leaf_sha256", String(64), nullable=False),
    Column("proved_by", String(16), nullable=False),
    Column("host_key_id", String(64)),
    Column("request_id", String(32), nullable=False),
    Index(None, "spiffe_id"),
    Index(None, "not_after"),
)
"""Every SVID, recorded before it leaves. ``proved_by``: join, attest, prove, renew, platform or own; ``host_key_id``:
the host key that it descends from by any number of renewals, so that revoking the key ends the line."""

join_tokens: Final = Table(
    "join_tokens",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("spiffe_id", String(512), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("spent_at", Double),
    Column("spent_by", String(64)),
    Index(None, "expires_at"),
)
"""``spent_by``: the host key that was enrolled with the token; it alone may present the token again."""

host_keys: Final = Table(
    "host_keys",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("spiffe_id", String(512), nullable=False),
    Column("enrolled_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Column("evidence_kind", String(32)),
    Column("subject", String(512)),
    Index(None, "spiffe_id"),
)
"""Enrolled by join tokens, so bounded by what operators mint, or by a platform's evidence, and then with its kind and
the subject that it proved: such keys are bounded by what the platform runs, and pruned when they were long not used.
Revoked rows stay: such a key never comes back."""

spent_evidence: Final = Table(
    "spent_evidence",
    metadata,
    Column("evidence_sha256", String(64), primary_key=True),
    Column("host_key_id", String(64), nullable=False),
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
)
"""Evidence that enrolled a host key, which alone may show it again, kept until it would have expired."""

spent_nonces: Final = Table(
    "spent_nonces",
    metadata,
    Column("nonce_sha256", String(64), primary_key=True),
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
)
"""Nonces used by a proven host key, kept until they would have expired (see ``ca.nonces``)."""
