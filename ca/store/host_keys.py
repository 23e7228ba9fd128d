"""Enrolled host keys: found, listed, revoked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from ca.store.database import Database
from ca.store.schema import host_keys, issued_svids

# Built once: composing a statement costs as much as running it.
_FIND: Final = select(host_keys).where(host_keys.c.key_id == bindparam("key"))
_LINE: Final = (
    select(host_keys.c.evidence_kind, host_keys.c.subject)
    .select_from(issued_svids.join(host_keys, host_keys.c.key_id == issued_svids.c.host_key_id))
    .where(issued_svids.c.serial == bindparam("shown"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Which evidence of a platform a host key was enrolled by: its kind, and the subject that it proved."""

    kind: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledHostKey:
    """A host key and the one workload that it may attest. Times in Unix seconds; ``provenance``: None for one that was
    enrolled by a join token."""

    key_id: str
    spki: bytes
    spiffe_id: str
    enrolled_at: float
    last_used_at: float | None
    revoked_at: float | None
    provenance: Provenance | None = None


def find_host_key(connection: Connection, key_id: str) -> EnrolledHostKey | None:
    """The key with that id, revoked or not (see ``ca.store.look_ups``)."""
    row = connection.execute(_FIND, {"key": key_id}).one_or_none()
    return None if row is None else _read(row)


def list_host_keys(database: Database, *, limit: int) -> list[EnrolledHostKey]:
    """Up to ``limit`` keys, the newest first."""
    newest = select(host_keys).order_by(host_keys.c.enrolled_at.desc(), host_keys.c.key_id).limit(limit)
    with database.read() as connection:
        return [_read(row) for row in connection.execute(newest)]


def revoke_host_key(database: Database, key_id: str, now: float) -> bool:
    """Revoke for good; whether such a key is enrolled. Revoking twice keeps the first time."""
    unrevoked = host_keys.c.key_id == key_id, host_keys.c.revoked_at.is_(None)
    with database.write() as connection:
        if connection.execute(update(host_keys).where(*unrevoked).values(revoked_at=now)).rowcount:
            return True
        return connection.execute(select(host_keys.c.key_id).where(host_keys.c.key_id == key_id)).first() is not None


def _read(row: object) -> EnrolledHostKey:
    values = row._mapping  # type: ignore[attr-defined]
    return EnrolledHostKey(
        key_id=values["key_id"],
        spki=bytes(values["public_key"]),
        spiffe_id=values["spiffe_id"],
        enrolled_at=values["enrolled_at"],
        last_used_at=values["last_used_at"],
        revoked_at=values["revoked_at"],
        provenance=provenance_of(values["evidence_kind"], values["subject"]),
    )


def find_line(connection: Connection, serial: str) -> Provenance | None:
    """By which evidence the line of SVIDs began that ``serial`` is of; None if by none, or if it is not known."""
    row = connection.execute(_LINE, {"shown": serial}).one_or_none()
    return None if row is None else provenance_of(row.evidence_kind, row.subject)


def provenance_of(kind: str | None, subject: str | None) -> Provenance | None:
    """The two columns as one value; both are set or none is."""
    return None if kind is None or subject is None else Provenance(kind=kind, subject=subject)
