"""Join tokens: 256 random bits, good once, until they expire, for one SPIFFE ID. Only their SHA-256 is stored."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select

from ca.errors import RefusalReason, RequestInvalid
from ca.store.database import Database
from ca.store.record import token_refusal
from ca.store.schema import join_tokens

TOKEN_BYTES: Final = 32
# A prefix that secret scanners and people recognise, then base64url without padding.
_PREFIX: Final = "rfjoin_"
_TOKEN: Final = re.compile(r"rfjoin_[A-Za-z0-9_-]{43}")
# Built once: composing a statement costs as much as running it.
_FIND: Final = select(
    join_tokens.c.spiffe_id, join_tokens.c.expires_at, join_tokens.c.spent_at, join_tokens.c.spent_by
).where(join_tokens.c.token_sha256 == bindparam("token"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """A new join token; ``token`` is shown once and stored nowhere."""

    token: str
    spiffe_id: str
    expires_at: float


def token_sha256(token: str) -> str:
    """What the database knows a token by."""
    return sha256(token.encode()).hexdigest()


def is_token(text: str) -> bool:
    """Whether ``text`` has the shape of a join token; says nothing of its worth."""
    return _TOKEN.fullmatch(text) is not None


def mint_token(
    database: Database,
    spiffe_id: str,
    *,
    ttl_seconds: float,
    now: float,
    random_bytes: Callable[[int], bytes],
    live_limit: int,
) -> MintedToken:
    """Store and return a new token; RequestInvalid when ``live_limit`` unexpired ones exist already."""
    token = _PREFIX + base64.urlsafe_b64encode(random_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
    expires_at = now + ttl_seconds
    row = {
        "token_sha256": token_sha256(token),
        "spiffe_id": spiffe_id,
        "created_at": now,
        "expires_at": expires_at,
    }
    with database.write() as connection:
        live = connection.execute(
            select(func.count()).select_from(join_tokens).where(join_tokens.c.expires_at > now)
        ).scalar_one()
        if live >= live_limit:
            raise RequestInvalid(f"{live} unexpired join tokens exist already (wait for some to expire)")
        connection.execute(insert(join_tokens), row)
    return MintedToken(token=token, spiffe_id=spiffe_id, expires_at=expires_at)


def find_token(connection: Connection, token_hash: str, host_key_id: str | None, now: float) -> str | RefusalReason:
    """The SPIFFE ID that an apparently good token stands for, or why it does not hold (see ``ca.store.look_ups``)."""
    row = connection.execute(_FIND, {"token": token_hash}).one_or_none()
    if row is None or row.expires_at <= now:
        return token_refusal(connection, token_hash, now)
    if row.spent_at is None or (host_key_id is not None and row.spent_by == host_key_id):
        return str(row.spiffe_id)
    return RefusalReason.TOKEN_SPENT
