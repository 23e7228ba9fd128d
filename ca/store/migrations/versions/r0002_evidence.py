"""Host keys enrolled by a platform's evidence, and the evidence that was spent for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Host keys from before were enrolled by tokens: theirs stay empty."""
    op.add_column("host_keys", sa.Column("evidence_kind", sa.String(32)))
    op.add_column("host_keys", sa.Column("subject", sa.String(512)))
    op.create_table(
        "spent_evidence",
        sa.Column("evidence_sha256", sa.String(64), nullable=False),
        sa.Column("host_key_id", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("evidence_sha256", name="pk_spent_evidence"),
    )
    op.create_index("ix_spent_evidence_expires_at", "spent_evidence", ["expires_at"])
