"""The record of issued SVIDs, read; and what is long past, pruned."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import and_, delete, func, select

from ca.store.database import Database
from ca.store.schema import host_keys, issued_svids, join_tokens, spent_evidence, spent_nonces

# Nonces carry another replica's clock, and evidence the platform's; keep them a little past their end.
_MARGIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedRecord:
    """One recorded SVID. Times in Unix seconds; ``proved_by``: join, attest, prove, renew, platform or own."""

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

    SVIDs and tokens stay ``keep_expired_seconds`` past their end, for audit; nonces and evidence until nobody could
    accept them. A host key that evidence enrolled goes when it was not used for so long: its workload, if it is there
    at all, has new evidence to show.
    """
    audit_end = now - keep_expired_seconds
    last_seen = func.coalesce(host_keys.c.last_used_at, host_keys.c.enrolled_at)
    idle = and_(host_keys.c.evidence_kind.is_not(None), host_keys.c.revoked_at.is_(None), last_seen < audit_end)
    with database.write() as connection:
        deleted = 0
        for table, key, past in (
            (issued_svids, issued_svids.c.serial, issued_svids.c.not_after < audit_end),
            (join_tokens, join_tokens.c.token_sha256, join_tokens.c.expires_at < audit_end),
            (spent_nonces, spent_nonces.c.nonce_sha256, spent_nonces.c.expires_at < now - _MARGIN_SECONDS),
            (spent_evidence, spent_evidence.c.evidence_sha256, spent_evidence.c.expires_at < now - _MARGIN_SECONDS),
            (host_keys, host_keys.c.key_id, idle),
        ):
            chosen = select(key).where(past).limit(limit)
            deleted += connection.execute(delete(table).where(key.in_(chosen.scalar_subquery()))).rowcount
    return deleted
