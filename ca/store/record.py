"""Records issued SVIDs, and in the same transaction spends what proved their callers: the fourth stage of issuing.

Proof and record stand or fall together. A crash between the two can then neither burn a token for nothing nor let an
SVID go unrecorded, and a batch of orders pays for one disk flush. Every claim is one conditional statement, so that of
any number of simultaneous uses, in any number of replicas, the database lets exactly one win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from sqlalchemy import Connection, Insert, String, Table, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ca.errors import RefusalReason
from ca.nonces import SpentNonce
from ca.store.database import Database
from ca.store.host_keys import Provenance, provenance_of
from ca.store.schema import host_keys, issued_svids, join_tokens, spent_evidence, spent_nonces

# Built once: composing a statement costs as much as running it.
_SPEND: Final = (
    update(join_tokens)
    .where(
        join_tokens.c.token_sha256 == bindparam("token"),
        join_tokens.c.spiffe_id == bindparam("identity"),
        join_tokens.c.expires_at > bindparam("at"),
        # Without a host key ``by`` is NULL, which equals nothing.
        or_(join_tokens.c.spent_at.is_(None), join_tokens.c.spent_by == bindparam("by", type_=String)),
    )
    .values(spent_at=func.coalesce(join_tokens.c.spent_at, bindparam("at")), spent_by=bindparam("by"))
)
_EXPIRY: Final = select(join_tokens.c.expires_at).where(join_tokens.c.token_sha256 == bindparam("token"))
_TAKE_BACK: Final = delete(host_keys).where(host_keys.c.key_id == bindparam("key"))
_KNOWN: Final = select(
    host_keys.c.spiffe_id, host_keys.c.revoked_at, host_keys.c.evidence_kind, host_keys.c.subject
).where(host_keys.c.key_id == bindparam("key"))
_SPENT_BY: Final = select(spent_evidence.c.host_key_id).where(spent_evidence.c.evidence_sha256 == bindparam("evidence"))
_STAMP: Final = (
    update(host_keys)
    .where(
        host_keys.c.key_id == bindparam("key"),
        host_keys.c.spiffe_id == bindparam("identity"),
        host_keys.c.revoked_at.is_(None),
    )
    .values(last_used_at=bindparam("at"))
    .execution_options(preserve_rowcount=True)
)
_LINEAGE: Final = (
    select(issued_svids.c.host_key_id, issued_svids.c.proved_by, host_keys.c.revoked_at, host_keys.c.evidence_kind)
    .select_from(issued_svids.outerjoin(host_keys, host_keys.c.key_id == issued_svids.c.host_key_id))
    .where(issued_svids.c.serial == bindparam("shown"), issued_svids.c.spiffe_id == bindparam("identity"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeyRow:
    """A host key to enrol: its id, its SubjectPublicKeyInfo, and by which evidence, if by any."""

    key_id: str
    spki: bytes
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaim:
    """The caller showed a join token, and maybe a host key to enrol (whose possession it proved)."""

    token_sha256: str
    host_key: HostKeyRow | None

    word = "join"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestClaim:
    """The caller signed a nonce with an enrolled host key."""

    nonce: SpentNonce
    host_key_id: str

    word = "attest"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceClaim:
    """The caller showed a platform's evidence, good until ``expires_at``, and a host key to enrol (whose possession it
    proved)."""

    evidence_sha256: str
    expires_at: float
    host_key: HostKeyRow

    word = "prove"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewClaim:
    """The caller showed an SVID of ours in its TLS handshake."""

    serial: str

    word = "renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformClaim:
    """The platform that runs the workload asks for it, and will again when it is due: it is not renewed here, as nobody
    would look then whether the workload is still there."""

    word = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClaim:
    """The process that holds the authority asks for itself."""

    word = "own"


Claim = TokenClaim | AttestClaim | EvidenceClaim | RenewClaim | PlatformClaim | OwnClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One SVID to record, with the claim on which it was signed. Times in Unix seconds."""

    claim: Claim
    serial: str
    spiffe_id: str
    not_before: int
    not_after: int
    leaf_sha256: str
    request_id: str


def record(database: Database, entries: Sequence[Entry], now: float) -> list[RefusalReason | None]:
    """For each entry, in order: None when it is recorded, else why its claim does not hold (and nothing is kept of it).

    StoreUnavailable: nothing of any entry was kept.
    """
    try:
        with database.write() as connection:
            return _record_in(connection, entries, now, _attest_together(connection, entries, now))
    except _Contested:  # and nothing was kept
        with database.write() as connection:
            return _record_in(connection, entries, now, frozenset())


def _record_in(
    connection: Connection, entries: Sequence[Entry], now: float, settled: frozenset[int]
) -> list[RefusalReason | None]:
    """``settled``: the positions of entries whose claims were found to hold and are spent already."""
    outcomes: list[RefusalReason | None] = [None] * len(entries)
    rows = []
    for position in _locking(entries):
        entry = entries[position]
        if position in settled and isinstance(entry.claim, AttestClaim):
            verdict: _Settled | RefusalReason = _Settled(entry.claim.host_key_id)
        else:
            verdict = _settle(connection, entry, now)
        if isinstance(verdict, RefusalReason):
            outcomes[position] = verdict
        else:
            rows.append(_row(entry, verdict.host_key_id, now))
    if rows:
        connection.execute(issued_svids.insert(), rows)
    return outcomes


class _Contested(Exception):
    """Not all claims that were tried together hold; which do not is to be found one by one."""


def _attest_together(connection: Connection, entries: Sequence[Entry], now: float) -> frozenset[int]:
    """Spend all nonces and stamp all host keys, by one statement each; the positions of what is settled so.

    _Contested, for the whole transaction, unless every single one holds. That takes a caller that signed a nonce twice
    or a host key that is revoked at this moment, and costs the batch no more than a second try.
    """
    nonces, stamps, positions = [], [], []
    for position in _locking(entries):
        entry = entries[position]
        if isinstance(entry.claim, AttestClaim):
            positions.append(position)
            nonces.append(_nonce_row(entry.claim))
            stamps.append({"key": entry.claim.host_key_id, "identity": entry.spiffe_id, "at": now})
    if len(positions) < 2:
        return frozenset()
    spend = _insert_unless_taken(spent_nonces, connection.dialect.name)
    for statement, parameters in ((spend, nonces), (_STAMP, stamps)):
        if connection.execute(statement, parameters).rowcount != len(positions):
            raise _Contested
    return frozenset(positions)


def _locking(entries: Sequence[Entry]) -> list[int]:
    """Positions in the order of what they lock: two replicas with the same claims then wait for, not on, each other."""
    return sorted(range(len(entries)), key=lambda position: _lock_order(entries[position]))


@dataclass(frozen=True, slots=True)
class _Settled:
    """The claim holds; ``host_key_id`` is the host key that the SVID descends from, if any."""

    host_key_id: str | None


def _lock_order(entry: Entry) -> tuple[str, ...]:
    claim = entry.claim
    match claim:
        case TokenClaim():
            return "token", claim.token_sha256
        case EvidenceClaim():
            return "evidence", claim.evidence_sha256
        case AttestClaim():
            return "host key", claim.host_key_id, claim.nonce.sha256
        case RenewClaim():
            return "renew", claim.serial
        case _:
            return ("",)


def _settle(connection: Connection, entry: Entry, now: float) -> _Settled | RefusalReason:
    match entry.claim:
        case TokenClaim() as claim:
            return _spend_token(connection, claim, entry.spiffe_id, now)
        case AttestClaim() as claim:
            return _spend_nonce(connection, claim, entry.spiffe_id, now)
        case EvidenceClaim() as claim:
            return _spend_evidence(connection, claim, entry.spiffe_id, now)
        case RenewClaim() as claim:
            return _check_lineage(connection, claim, entry.spiffe_id, now)
        case PlatformClaim() | OwnClaim():
            return _Settled(None)


def _spend_token(connection: Connection, claim: TokenClaim, spiffe_id: str, now: float) -> _Settled | RefusalReason:
    """Enrol the host key and spend the token, or neither.

    A token already spent holds for the host key that it enrolled, until it expires: whoever holds that key may attest
    this very workload anyway, and a sidecar that was killed before the reply reached it needs no new token.
    """
    key = claim.host_key
    enrolled = _enrol(connection, key, spiffe_id, now) if key else False
    if isinstance(enrolled, RefusalReason):
        return enrolled
    key_id = key.key_id if key else None
    parameters = {"token": claim.token_sha256, "identity": spiffe_id, "at": now, "by": key_id}
    if connection.execute(_SPEND, parameters).rowcount == 1:
        return _Settled(key_id)
    if enrolled:
        # Ours alone until the commit, so taking it back leaves no trace; cheaper than a savepoint around each claim.
        connection.execute(_TAKE_BACK, {"key": key_id})
    return token_refusal(connection, claim.token_sha256, now)


def token_refusal(connection: Connection, token_sha256: str, now: float) -> RefusalReason:
    """Why a token does not hold, for the log."""
    expires_at = connection.execute(_EXPIRY, {"token": token_sha256}).scalar()
    if expires_at is None:
        return RefusalReason.TOKEN_UNKNOWN
    return RefusalReason.TOKEN_EXPIRED if expires_at <= now else RefusalReason.TOKEN_SPENT


def _enrol(connection: Connection, key: HostKeyRow, spiffe_id: str, now: float) -> bool | RefusalReason:
    """Enrol the key for the workload; whether it is new. It is bound for good, and once revoked never comes back."""
    row = {
        "key_id": key.key_id,
        "public_key": key.spki,
        "spiffe_id": spiffe_id,
        "enrolled_at": now,
        "evidence_kind": key.provenance.kind if key.provenance else None,
        "subject": key.provenance.subject if key.provenance else None,
    }
    if insert_if_new(connection, host_keys, row):
        return True
    known = connection.execute(_KNOWN, {"key": key.key_id}).one()
    if known.revoked_at is not None:
        return RefusalReason.HOST_KEY_REVOKED
    bound = known.spiffe_id, provenance_of(known.evidence_kind, known.subject)
    return False if bound == (spiffe_id, key.provenance) else RefusalReason.HOST_KEY_BOUND_ELSEWHERE


def _spend_evidence(
    connection: Connection, claim: EvidenceClaim, spiffe_id: str, now: float
) -> _Settled | RefusalReason:
    """Enrol the host key and spend the evidence, or neither; for the same host key it holds again, as a token does."""
    key = claim.host_key
    if claim.expires_at <= now:
        return RefusalReason.EVIDENCE_EXPIRED
    enrolled = _enrol(connection, key, spiffe_id, now)
    if isinstance(enrolled, RefusalReason):
        return enrolled
    row = {"evidence_sha256": claim.evidence_sha256, "host_key_id": key.key_id, "expires_at": claim.expires_at}
    if insert_if_new(connection, spent_evidence, row):
        return _Settled(key.key_id)
    if connection.execute(_SPENT_BY, {"evidence": claim.evidence_sha256}).scalar() == key.key_id:
        return _Settled(key.key_id)
    if enrolled:
        connection.execute(_TAKE_BACK, {"key": key.key_id})  # as for a token
    return RefusalReason.EVIDENCE_SPENT


def _spend_nonce(connection: Connection, claim: AttestClaim, spiffe_id: str, now: float) -> _Settled | RefusalReason:
    """Spend the nonce and stamp the host key; a nonce is spent even if the key turns out to be revoked."""
    if not insert_if_new(connection, spent_nonces, _nonce_row(claim)):
        return RefusalReason.NONCE_SPENT
    parameters = {"key": claim.host_key_id, "identity": spiffe_id, "at": now}
    if connection.execute(_STAMP, parameters).rowcount != 1:
        return RefusalReason.HOST_KEY_REVOKED
    return _Settled(claim.host_key_id)


def _nonce_row(claim: AttestClaim) -> dict[str, object]:
    return {"nonce_sha256": claim.nonce.sha256, "expires_at": claim.nonce.expires_at}


def _check_lineage(connection: Connection, claim: RenewClaim, spiffe_id: str, now: float) -> _Settled | RefusalReason:
    """The SVID shown must be one that we recorded, and the host key that it descends from still good."""
    shown = connection.execute(_LINEAGE, {"shown": claim.serial, "identity": spiffe_id}).one_or_none()
    if shown is None:
        return RefusalReason.SERIAL_UNKNOWN
    if shown.proved_by == PlatformClaim.word:
        return RefusalReason.RENEWED_BY_PLATFORM
    if shown.revoked_at is not None:
        return RefusalReason.HOST_KEY_REVOKED
    if shown.evidence_kind is not None:
        # So that a key whose line is renewed for months is not pruned, and its revocation forgotten with it.
        connection.execute(_STAMP, {"key": shown.host_key_id, "identity": spiffe_id, "at": now})
    return _Settled(shown.host_key_id)


def _row(entry: Entry, host_key_id: str | None, now: float) -> dict[str, object]:
    return {
        "serial": entry.serial,
        "spiffe_id": entry.spiffe_id,
        "issued_at": now,
        "not_before": entry.not_before,
        "not_after": entry.not_after,
        "leaf_sha256": entry.leaf_sha256,
        "proved_by": entry.claim.word,
        "host_key_id": host_key_id,
        "request_id": entry.request_id,
    }


def insert_if_new(connection: Connection, table: Table, row: dict[str, object]) -> bool:
    """Insert ``row`` unless its primary key is taken; whether it went in. Waits for a rival transaction to end."""
    return connection.execute(_insert_unless_taken(table, connection.dialect.name), row).rowcount == 1


@cache  # a handful of tables, two dialects
def _insert_unless_taken(table: Table, dialect_name: str) -> Insert:
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    # SQLAlchemy forgets an INSERT's row count unless asked: PostgreSQL's would then read -1.
    return statement.execution_options(preserve_rowcount=True)
