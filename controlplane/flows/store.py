"""The flows that are kept, in a SQLite file of the state folder. Adapter.

Counted by the hour, later by the day, so that a question about the last day does not count the last month. Bounded by
age, by rows in all, and by rows that one service may add in an hour: a sidecar that reports nonsense costs its own
service's evidence and nobody else's. The file is evidence and not policy: where it is lost, learning begins anew.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    delete,
    event,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from controlplane.flows.query import FlowAnswer, FlowQuery
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.spiffe import SpiffeId

VERSION: Final = 2
HOUR: Final = 3600
DAY: Final = 24 * HOUR
_WAIT_SECONDS: Final = 5.0
_WRITES: Final = "ringfence_writes"

_METADATA: Final = MetaData()
_KEYS: Final = (
    "service",
    "caller",
    "port",
    "protocol",
    "method",
    "path",
    "verdict",
    "rule",
    "reason",
    "shadow",
    "address",
)
_FLOWS: Final = Table(
    "flows",
    _METADATA,
    Column("bucket", Integer, primary_key=True),  # Unix seconds of the hour, or day, in which it was seen last
    *(Column(name, Integer if name == "port" else String, primary_key=True) for name in _KEYS),
    Column("count", Integer, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    sqlite_with_rowid=False,
)
_UNRECORDED: Final = Table(
    "unrecorded",
    _METADATA,
    Column("bucket", Integer, primary_key=True),
    Column("service", String, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)


class FlowStoreError(Exception):
    """Flows cannot be kept, or asked for; the message names the file and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLimits:
    """What is kept."""

    retention_seconds: int = 30 * DAY
    by_hour_seconds: int = 2 * DAY
    """What is older is counted by the day."""
    rows: int = 500_000
    service_rows: int = 4_096
    """Of one service in one hour."""


class FlowStore:
    """The database; each call is one transaction, made by one thread at a time."""

    def __init__(self, path: Path, limits: FlowLimits | None = None) -> None:
        """Raises FlowStoreError."""
        self._path = path
        self.limits = limits or FlowLimits()
        try:
            _own_file(path)
            self._engine = _engine(path)
            with self._transaction() as connection:
                found = connection.exec_driver_sql("PRAGMA user_version").scalar()
                if found not in (0, 1, VERSION):
                    raise FlowStoreError(f"{path} is of version {found} (run the newer release, or remove the file)")
                if found == 1:
                    _keep_version_1(connection)
                _METADATA.create_all(connection)
                if found == 1:
                    _take_over_version_1(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
        except (SQLAlchemyError, OSError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        self._engine.dispose()

    def add(self, service: str, flows: Sequence[Flow], unrecorded: int, now: float) -> None:
        """Count these flows to ``service``; what there is no room for is counted as unrecorded. FlowStoreError."""
        try:
            with self._transaction() as connection:
                for bucket in sorted({_hour(flow) for flow in flows}):
                    rows = [_row(flow, bucket) for flow in flows if _hour(flow) == bucket]
                    unrecorded += self._add(connection, service, bucket, rows)
                if unrecorded:
                    _count_unrecorded(connection, int(now) // HOUR * HOUR, service, unrecorded)
        except SQLAlchemyError as error:
            raise self._failed(error) from error

    def _add(self, connection: Connection, service: str, bucket: int, rows: list[dict[str, Any]]) -> int:
        here = and_(_FLOWS.c.bucket == bucket, _FLOWS.c.service == service)
        held = connection.execute(select(func.count()).select_from(_FLOWS).where(here)).scalar_one()
        if held + len(rows) <= self.limits.service_rows:
            statement = insert(_FLOWS)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["bucket", *_KEYS], set_=_added(statement.excluded)),
                rows,
            )
            return 0
        left_out = 0
        for row in rows:
            same = and_(_FLOWS.c.bucket == bucket, *(_FLOWS.c[name] == row[name] for name in _KEYS))
            known = connection.execute(
                update(_FLOWS)
                .where(same)
                .values(
                    count=_FLOWS.c.count + row["count"],
                    missed=_FLOWS.c.missed + row["missed"],
                    last_seen=func.max(_FLOWS.c.last_seen, row["last_seen"]),
                )
            )
            if not known.rowcount:
                left_out += row["count"]
        return left_out

    def ask(self, query: FlowQuery) -> FlowAnswer:
        """The flows of all buckets together, by service, caller, port, path and method. FlowStoreError."""
        wanted = [_FLOWS.c.last_seen >= query.since]
        told = [_UNRECORDED.c.bucket + HOUR > query.since]
        if query.service is not None:
            wanted.append(_FLOWS.c.service == query.service)
            told.append(_UNRECORDED.c.service == query.service)
        if query.caller is not None:
            wanted.append(_FLOWS.c.caller == query.caller)
        if query.verdict is not None:
            wanted.append(_FLOWS.c.verdict == query.verdict.value)
        statement = _together().where(*wanted).limit(query.limit + 1)
        untold = select(_UNRECORDED.c.service, func.sum(_UNRECORDED.c.count)).where(*told)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(
                    statement.order_by(*(_FLOWS.c[name] for name in ("service", "caller", "port", "path", "method")))
                ).all()
                unrecorded = connection.execute(untold.group_by(_UNRECORDED.c.service)).all()
        except SQLAlchemyError as error:
            raise self._failed(error) from error
        return FlowAnswer(
            flows=tuple(_flow(row._mapping) for row in rows[: query.limit]),
            unrecorded={str(service): int(count) for service, count in unrecorded},
            truncated=len(rows) > query.limit,
        )

    def expire(self, now: float) -> None:
        """Let go of what is too old or too much, and count by the day what is old. FlowStoreError."""
        try:
            with self._transaction() as connection:
                for table in (_FLOWS, _UNRECORDED):
                    connection.execute(delete(table).where(table.c.bucket + DAY < now - self.limits.retention_seconds))
                self._count_by_day(connection, int(now - self.limits.by_hour_seconds) // DAY * DAY)
                while connection.execute(select(func.count()).select_from(_FLOWS)).scalar_one() > self.limits.rows:
                    oldest = select(func.min(_FLOWS.c.bucket)).scalar_subquery()
                    connection.execute(delete(_FLOWS).where(_FLOWS.c.bucket == oldest))
        except SQLAlchemyError as error:
            raise self._failed(error) from error

    def _count_by_day(self, connection: Connection, before: int) -> None:
        by_hour = select(_FLOWS.c.bucket).where(_FLOWS.c.bucket < before, _FLOWS.c.bucket % DAY != 0).distinct()
        for day in sorted({int(bucket) // DAY * DAY for (bucket,) in connection.execute(by_hour)}):
            of_day = and_(_FLOWS.c.bucket >= day, _FLOWS.c.bucket < day + DAY)
            rows = [{**row._mapping, "bucket": day} for row in connection.execute(_together().where(of_day))]
            connection.execute(delete(_FLOWS).where(of_day))
            connection.execute(insert(_FLOWS), rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.execution_options(**{_WRITES: True}).begin():
            yield connection

    def _failed(self, error: Exception) -> FlowStoreError:
        cause = getattr(error, "orig", None) or error
        words = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        return FlowStoreError(
            f"{self._path} cannot be used: {words} (if it is damaged, remove it: evidence begins anew)"
        )


def _keep_version_1(connection: Connection) -> None:
    """Its flows had no address, which is part of the key now."""
    connection.exec_driver_sql("ALTER TABLE flows RENAME TO flows_1")


def _take_over_version_1(connection: Connection) -> None:
    held = Table("flows_1", MetaData(), *(Column(one.name, one.type) for one in _FLOWS.c if one.name != "address"))
    columns = [one.name for one in _FLOWS.c]
    taken = select(*(held.c[name] if name != "address" else literal("").label("address") for name in columns))
    connection.execute(insert(_FLOWS).from_select(columns, taken))
    held.drop(connection)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        pool_size=2,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        connect_args={"timeout": _WAIT_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Who only reads keeps no writer waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")

    return engine


def _own_file(path: Path) -> None:
    """Make it with mode 0600; refuse one that is open to others, or no plain file. OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    if mode & 0o077:
        raise FlowStoreError(f"{path} has mode {mode:04o} and is open to others (chmod 600)")


def _hour(flow: Flow) -> int:
    return int(flow.last_seen) // HOUR * HOUR


def _row(flow: Flow, bucket: int) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "service": flow.service,
        "caller": str(flow.caller) if flow.caller is not None else "",
        "address": flow.address,
        "port": flow.port,
        "protocol": flow.protocol,
        "method": flow.method,
        "path": flow.path,
        "verdict": flow.verdict.value,
        "rule": flow.rule,
        "reason": flow.reason,
        "shadow": flow.shadow,
        "count": flow.count,
        "missed": flow.missed,
        "first_seen": flow.first_seen,
        "last_seen": flow.last_seen,
    }


def _added(new: Any) -> dict[str, Any]:
    return {
        "count": _FLOWS.c.count + new.count,
        "missed": _FLOWS.c.missed + new.missed,
        "first_seen": func.min(_FLOWS.c.first_seen, new.first_seen),
        "last_seen": func.max(_FLOWS.c.last_seen, new.last_seen),
    }


def _together() -> Any:
    """Rows that differ in their bucket alone, as one."""
    keys = [_FLOWS.c[name] for name in _KEYS]
    return select(
        *keys,
        func.sum(_FLOWS.c.count).label("count"),
        func.sum(_FLOWS.c.missed).label("missed"),
        func.min(_FLOWS.c.first_seen).label("first_seen"),
        func.max(_FLOWS.c.last_seen).label("last_seen"),
    ).group_by(*keys)


def _flow(row: Any) -> Flow:
    values = dict(row)
    caller = values.pop("caller")
    return Flow(**{**values, "verdict": Verdict(values["verdict"])}, caller=SpiffeId.parse(caller) if caller else None)


def _count_unrecorded(connection: Connection, bucket: int, service: str, count: int) -> None:
    statement = insert(_UNRECORDED).values(bucket=bucket, service=service, count=count)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["bucket", "service"], set_={"count": _UNRECORDED.c.count + statement.excluded.count}
        )
    )
