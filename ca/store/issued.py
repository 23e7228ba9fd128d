"""The record of issued SVIDs, read; and what is long past, pruned."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, select

from ca.store.database import Database
from ca.store.schema import issued_svids, join_tokens, spent_nonces

# Nonces carry another replica's clock; keep them a little past their end.
_NONCE_MARGIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedRecord:
    """One recorded SVID. Times in Unix seconds; ``proved_by``: join, attest, renew or own."""

    serial: str
    spiffe_id: str
    issued_at: float
    not_before: int
    not_after: int
    leaf_sha256: str
    proved_by: str
    host_key_id: str | None
    request_id: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def list_issued(
    database: Database, *, spiffe_id: str | None = None, valid_at: float | None = None, limit: int
) -> list[IssuedRecord]:
    """Up to ``limit`` records, the newest first; of one identity, or still valid at a time, if asked."""
    query = select(issued_svids).order_by(issued_svids.c.issued_at.desc(), issued_svids.c.serial).limit(limit)
    if spiffe_id is not None:
        query = query.where(issued_svids.c.spiffe_id == spiffe_id)
    if valid_at is not None:
        query = query.where(issued_svids.c.not_after >= valid_at)
    with database.read() as connection:
        return [IssuedRecord(**row._mapping) for row in connection.execute(query)]


def prune(database: Database, *, now: float, keep_expired_seconds: float, limit: int) -> int:
    """Delete up to ``limit`` rows of each kind whose time is over, and say how many.

    SVIDs and tokens stay ``keep_expired_seconds`` past their end, for audit; nonces until nobody could accept them.
    """
    audit_end = now - keep_expired_seconds
    with database.write() as connection:
        deleted = 0
        for table, key, end, before in (
            (issued_svids, issued_svids.c.serial, issued_svids.c.not_after, audit_end),
            (join_tokens, join_tokens.c.token_sha256, join_tokens.c.expires_at, audit_end),
            (spent_nonces, spent_nonces.c.nonce_sha256, spent_nonces.c.expires_at, now - _NONCE_MARGIN_SECONDS),
        ):
            past = select(key).where(end < before).limit(limit)
            deleted += connection.execute(delete(table).where(key.in_(past.scalar_subquery()))).rowcount
    return deleted
