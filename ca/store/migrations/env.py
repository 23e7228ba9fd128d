"""What alembic runs: the steps, on the connection and in the transaction that ``ca.store.database`` hands in."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="ringfence_ca_version")
context.run_migrations()
