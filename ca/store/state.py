"""The database's own facts: whose it is, and the secret that the replicas' nonces share."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from ca.errors import StoreForeign
from ca.store.database import Database
from ca.store.record import insert_if_new
from ca.store.schema import authority_state

_NONCE_SECRET_BYTES = 32


def claim_database(database: Database, root_fingerprint: str, random_bytes: Callable[[int], bytes]) -> bytes:
    """Mark an empty database as this authority's, or check that it is; returns the nonce secret.

    StoreForeign if it is another's: its tokens and host keys stand for identities of another trust domain.
    """
    with database.read() as connection:
        owner, secret = _value(connection, "root_fingerprint"), _value(connection, "nonce_secret")
    if owner is None or secret is None:
        with database.write() as connection:
            _keep(connection, "root_fingerprint", root_fingerprint)
            _keep(connection, "nonce_secret", random_bytes(_NONCE_SECRET_BYTES).hex())
            owner, secret = _value(connection, "root_fingerprint"), _value(connection, "nonce_secret")
    if owner != root_fingerprint or secret is None:
        raise StoreForeign(
            f"database belongs to the authority with root {owner}, not to {root_fingerprint} (give each its own)"
        )
    return bytes.fromhex(secret)


def _value(connection: Connection, name: str) -> str | None:
    value = connection.execute(select(authority_state.c.value).where(authority_state.c.name == name)).scalar()
    return None if value is None else str(value)


def _keep(connection: Connection, name: str, value: str) -> None:
    insert_if_new(connection, authority_state, {"name": name, "value": value})
