"""The first tables: issued SVIDs, join tokens, host keys, spent nonces, the authority's own facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; only ever forward: going back would forget what was issued."""
    op.create_table(
        "authority_state",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_authority_state"),
    )
    op.create_table(
        "issued_svids",
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("spiffe_id", sa.String(512), nullable=False),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("leaf_sha256", sa.String(64), nullable=False),
        sa.Column("proved_by", sa.String(16), nullable=False),
        sa.Column("host_key_id", sa.String(64)),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_issued_svids"),
    )
    op.create_index("ix_issued_svids_spiffe_id", "issued_svids", ["spiffe_id"])
    op.create_index("ix_issued_svids_not_after", "issued_svids", ["not_after"])
    op.create_table(
        "join_tokens",
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("spiffe_id", sa.String(512), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("spent_at", sa.Double()),
        sa.Column("spent_by", sa.String(64)),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_join_tokens"),
    )
    op.create_index("ix_join_tokens_expires_at", "join_tokens", ["expires_at"])
    op.create_table(
        "host_keys",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("spiffe_id", sa.String(512), nullable=False),
        sa.Column("enrolled_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("key_id", name="pk_host_keys"),
    )
    op.create_index("ix_host_keys_spiffe_id", "host_keys", ["spiffe_id"])
    op.create_table(
        "spent_nonces",
        sa.Column("nonce_sha256", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("nonce_sha256", name="pk_spent_nonces"),
    )
    op.create_index("ix_spent_nonces_expires_at", "spent_nonces", ["expires_at"])
