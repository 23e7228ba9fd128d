"""Opens the authority's database, brings it up to date, and maps what can go wrong with it.

SQLite (the default) runs in WAL mode with ``synchronous=FULL``: what was recorded outlives a power cut, since an SVID
that left while its record did not survive would be an SVID that nobody knows of. Writers begin with BEGIN IMMEDIATE,
so that two of them queue up for the busy timeout rather than fail half-way. PostgreSQL runs at its READ COMMITTED,
which is enough: every decision that matters is one conditional statement.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ca.errors import DataFolderError, SettingsInvalid, StoreTooNew, StoreUnavailable

REVISIONS: Final = ("0001", "0002")
"""Every schema revision this code knows, oldest first; the last is what it works with."""
VERSION_TABLE: Final = "ringfence_ca_version"
_WRITE: Final = "ringfence_write"
# Any number will do, as long as every release uses the same: replicas that start together migrate one after another.
_MIGRATION_LOCK: Final = 0x52494E4746
_WAL_AGAIN_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database; ``read`` and ``write`` each give one transaction. Safe to use from several threads."""

    engine: Engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction to look; StoreUnavailable if the database cannot be read."""
        with unavailable_unless("be read"), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction to change, committed at the end of the block; StoreUnavailable and nothing kept if it fails."""
        with (
            unavailable_unless("record"),
            self.engine.connect() as connection,
            connection.execution_options(**{_WRITE: True}).begin(),
        ):
            yield connection

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def unavailable_unless(done: str) -> Iterator[None]:
    """Turn what SQLAlchemy raises into StoreUnavailable; ``done``: what the database then cannot."""
    try:
        yield
    except SQLAlchemyError as problem:
        raise StoreUnavailable(f"database cannot {done}: {first_line(problem)}") from problem


def first_line(problem: BaseException) -> str:
    """What the database said, without the statement and its parameters."""
    cause = getattr(problem, "orig", None) or problem
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def open_database(url: str | None, default_file: Path, *, wait_seconds: float, connections: int) -> Database:
    """The database at ``url``, or SQLite in ``default_file``; made and migrated if need be.

    ``wait_seconds``: the longest wait for a lock, a connection or an answer. StoreUnavailable, StoreTooNew;
    SettingsInvalid for a ``url`` that is none.
    """
    target = _sqlite_url(default_file) if url is None else _parse(url)
    if target.get_backend_name() == "sqlite":
        engine = _sqlite_engine(target, wait_seconds, connections)
    else:
        engine = _postgresql_engine(target, wait_seconds, connections)
    database = Database(engine)
    try:
        _bring_up_to_date(database)
    except BaseException:
        database.close()
        raise
    return database


def _sqlite_url(file: Path) -> URL:
    return URL.create("sqlite+pysqlite", database=str(file))


def _parse(url: str) -> URL:
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):  # which may quote the url, and so its password
        raise SettingsInvalid("database url is malformed (write postgresql://USER@HOST/DATABASE)") from None
    if target.get_backend_name() == "postgresql":
        return target.set(drivername="postgresql+psycopg")
    if target.get_backend_name() == "sqlite" and target.database and target.database != ":memory:":
        return target.set(drivername="sqlite+pysqlite")
    raise SettingsInvalid(
        f"database url of kind {target.drivername!r} is not supported (sqlite:///FILE or postgresql://)"
    )


def _sqlite_engine(url: URL, wait_seconds: float, connections: int) -> Engine:
    _own_file(Path(url.database or ""))
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        connect_args={"timeout": wait_seconds},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself; we do, below
        _write_ahead(connection, wait_seconds)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")

    return engine


def _write_ahead(connection: Any, wait_seconds: float) -> None:
    """Set WAL mode. Of those that turn a new file over at the same moment all but one are told that it is locked, at
    once and whatever the busy timeout; they find it turned over a moment later."""
    ends = time.monotonic() + wait_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= ends:
                raise
            time.sleep(_WAL_AGAIN_SECONDS)


def _own_file(path: Path) -> None:
    """Make the file with mode 0600 before SQLite would make it with the umask's; refuse one that is open to others."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        raise StoreUnavailable(f"cannot open database {path}: {problem.strerror}") from problem
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    if mode & 0o077:
        raise DataFolderError(f"database {path} has mode {mode:04o} and is open to others (chmod 600)")


def _postgresql_engine(url: URL, wait_seconds: float, connections: int) -> Engine:
    milliseconds = int(wait_seconds * 1000)
    options = {
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": 2 * milliseconds,
    }
    try:
        return create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=wait_seconds,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": max(2, int(wait_seconds)),
                "tcp_user_timeout": milliseconds,
                "application_name": "ringfence-ca",
                "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            },
        )
    except ModuleNotFoundError as problem:
        raise StoreUnavailable(
            "the PostgreSQL driver is not installed (pip install 'ringfence[postgresql]')"
        ) from problem


def _bring_up_to_date(database: Database) -> None:
    """Migrate to the last known revision; StoreTooNew for a database from a newer release."""
    with database.read() as connection:
        if _revision(connection) == REVISIONS[-1]:
            return
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '1min'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        if _revision(connection) != REVISIONS[-1]:
            _migrate(connection)


def _revision(connection: Connection) -> str | None:
    """The database's revision, None when it is empty."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    if revision is not None and revision not in REVISIONS:
        raise StoreTooNew(
            f"database has schema revision {revision!r}, unknown to this release, which knows up to {REVISIONS[-1]!r} "
            "(run the newer release, or restore the backup made before the upgrade)"
        )
    return None if revision is None else str(revision)


def _migrate(connection: Connection) -> None:
    # Imported here: it takes longer than all the rest of opening, and a database in use is up to date.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, REVISIONS[-1])
