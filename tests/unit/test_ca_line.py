"""The issuing line: every order answered, alone in its failure, recorded before it is handed out."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from ca.errors import CaError, CsrRefused, IssuerExpired, Overloaded, RefusalReason, Refused, StoreUnavailable
from ca.keys import new_key
from ca.line import IssuingLine, Order, Petition
from ca.settings import IssuingLimits
from ca.store.issued import list_issued
from ca.store.look_ups import LookUps
from ca.store.record import Claim, OwnClaim, RenewClaim
from ca.store.schema import host_keys
from ringfence.kit.clock import FakeClock
from tests.authorities import WEB, OpenAuthority

LIMITS = IssuingLimits(in_flight=2, database_wait_seconds=0.2)
WAIT_SECONDS = 20.0


def order(claim: Claim | None = None, **changes: Any) -> Petition:
    """A petition that needs no examination."""
    fields: dict[str, Any] = {
        "spiffe_id": WEB,
        "public_key": new_key().public_key(),
        "claim": claim or OwnClaim(),
        "lifetime_seconds": 600,
        "request_id": "r1",
    }
    made = Order(**(fields | changes))
    return lambda _: made


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock) -> Iterator[OpenAuthority]:
    with OpenAuthority(tmp_path, clock, limits=LIMITS) as opened:
        yield opened


def line_of(world: OpenAuthority) -> IssuingLine:
    return world.authority._line


@contextmanager
def database_held(world: OpenAuthority) -> Iterator[None]:
    """Somebody else writes, and does not finish."""
    with world.database.write():
        yield


def serials(world: OpenAuthority) -> set[str]:
    return {record.serial for record in list_issued(world.database, limit=1000)}


def test_an_order_is_recorded_before_it_is_handed_out(world: OpenAuthority) -> None:
    looked: Queue[bool] = Queue()
    with hold_the_line(world):
        future = line_of(world).place(order())
        # Runs in the line's own thread, at the very moment of handing out.
        future.add_done_callback(lambda done: looked.put(done.result().serial in serials(world)))
    assert looked.get(timeout=WAIT_SECONDS)


def test_orders_that_wait_together_share_one_transaction(world: OpenAuthority) -> None:
    begun: list[str] = []
    event.listen(world.database.engine, "before_cursor_execute", lambda _c, _k, text, *_: begun.append(text))
    with hold_the_line(world) as first:
        rest = [line_of(world).place(order()) for _ in range(6)]
    assert {future.result(WAIT_SECONDS).serial for future in [first, *rest]} == serials(world)
    inserts = [text for text in begun if text.startswith("INSERT INTO issued_svids")]
    assert len(inserts) == 1  # the one that was held, and all that gathered behind it


def test_a_batch_takes_no_more_rounds_than_it_has_room_for(tmp_path: Path, clock: FakeClock) -> None:
    limits = IssuingLimits(in_flight=4, batch=3)
    with OpenAuthority(tmp_path, clock, limits=limits) as world:
        begun: list[str] = []
        event.listen(world.database.engine, "before_cursor_execute", lambda _c, _k, text, *_: begun.append(text))
        with hold_the_line(world) as first:
            rest = [line_of(world).place(order()) for _ in range(7)]
        assert {future.result(WAIT_SECONDS).serial for future in [first, *rest]} == serials(world)
    assert len([text for text in begun if text.startswith("INSERT INTO issued_svids")]) == 3


def test_what_was_written_while_others_were_signed_is_seen_by_the_next_round(world: OpenAuthority) -> None:
    made = order()
    seen: list[bool] = []

    def look(look_ups: LookUps) -> Order:
        seen.append(look_ups.host_key("ab" * 32) is not None)
        return made(look_ups)

    with hold_the_line(world, look):
        with world.database.write() as connection:
            row = {"key_id": "ab" * 32, "public_key": b"key", "spiffe_id": str(WEB), "enrolled_at": 0.0}
            connection.execute(host_keys.insert(), row)
        second = line_of(world).place(look)
    second.result(WAIT_SECONDS)
    assert seen == [False, True]


def test_an_svid_signed_in_a_batch_that_fails_later_is_dropped(world: OpenAuthority) -> None:
    def unreadable(_: LookUps) -> Order:
        raise StoreUnavailable("gone")

    with hold_the_line(world) as first:
        second = line_of(world).place(unreadable)
    for future in (first, second):
        with pytest.raises(StoreUnavailable, match="gone"):
            future.result(WAIT_SECONDS)
    assert serials(world) == set()
    assert line_of(world).place(order()).result(WAIT_SECONDS).serial in serials(world)


@contextmanager
def hold_the_line(world: OpenAuthority, petition: Petition | None = None) -> Iterator[Any]:
    """The line is busy with a first order, whose future this gives, until the block ends."""
    entered, go_on = threading.Event(), threading.Event()
    line = line_of(world)
    draw = line._random_bytes

    def slow(size: int) -> bytes:
        entered.set()
        assert go_on.wait(WAIT_SECONDS)
        return draw(size)

    line._random_bytes = slow
    future = line.place(petition or order())
    assert entered.wait(WAIT_SECONDS)
    try:
        yield future
    finally:
        go_on.set()


def test_one_order_that_fails_leaves_its_neighbours_alone(world: OpenAuthority) -> None:
    with hold_the_line(world) as first:
        bad = line_of(world).place(order(RenewClaim(serial="never issued")))
        good = line_of(world).place(order())
        too_far = line_of(world).place(order(dns_names=("web.partner.example",)))
    assert first.result(WAIT_SECONDS).serial != good.result(WAIT_SECONDS).serial
    with pytest.raises(Refused) as refusal:
        bad.result(WAIT_SECONDS)
    assert refusal.value.reason is RefusalReason.SERIAL_UNKNOWN
    with pytest.raises(CaError, match="fails verification"):
        too_far.result(WAIT_SECONDS)
    assert len(serials(world)) == 2


def test_a_petition_that_is_refused_leaves_its_neighbours_alone(world: OpenAuthority) -> None:
    def refuse(_: LookUps) -> Order:
        raise CsrRefused("csr is rubbish")

    with hold_the_line(world):
        bad, good = line_of(world).place(refuse), line_of(world).place(order())
    with pytest.raises(CsrRefused, match="rubbish"):
        bad.result(WAIT_SECONDS)
    assert good.result(WAIT_SECONDS).spiffe_id == WEB


class Panic(BaseException):
    """What a Rust library raises that has lost its footing; no ``Exception``."""


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, Panic])
def test_a_petition_that_trips_over_a_bug_leaves_its_neighbours_alone(
    world: OpenAuthority, kind: type[BaseException]
) -> None:
    def trip(_: LookUps) -> Order:
        raise kind("nobody thought of this")

    with hold_the_line(world):
        bad, good = line_of(world).place(trip), line_of(world).place(order())
    with pytest.raises(CaError, match="issuing failed"):
        bad.result(WAIT_SECONDS)
    assert good.result(WAIT_SECONDS).spiffe_id == WEB
    [line] = [line for line in world.log_lines() if line["msg"] == "issuing failed"]
    assert "nobody thought of this" in line["error"]


def test_a_bug_in_pruning_does_not_end_the_line(
    world: OpenAuthority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(*_: object, **__: object) -> int:
        raise TypeError("nobody thought of this")

    monkeypatch.setattr("ca.line.prune", trip)
    clock.advance(700)
    for _ in range(2):
        assert line_of(world).place(order()).result(WAIT_SECONDS).spiffe_id == WEB


def test_a_database_that_cannot_be_read_fails_the_batch_at_once(world: OpenAuthority) -> None:
    asked: list[str] = []

    def ask(look_ups: LookUps) -> Order:
        asked.append("token")
        raise AssertionError(look_ups.token("ab" * 32, None))

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is away"))

    with hold_the_line(world) as first:
        futures = [line_of(world).place(ask) for _ in range(5)]
        event.listen(world.database.engine, "before_cursor_execute", away)
    for future in [first, *futures]:
        with pytest.raises(StoreUnavailable, match="away"):
            future.result(WAIT_SECONDS)
    assert asked == ["token"]  # the others did not wait for it one by one


def test_an_order_whose_caller_went_away_is_dropped(world: OpenAuthority) -> None:
    with hold_the_line(world) as first:
        gone = line_of(world).place(order())
        assert gone.cancel()
    first.result(WAIT_SECONDS)
    line_of(world).place(order()).result(WAIT_SECONDS)
    with pytest.raises(CancelledError):
        gone.result(WAIT_SECONDS)
    assert len(serials(world)) == 2


def test_more_orders_than_the_queue_holds_are_turned_away(world: OpenAuthority) -> None:
    with hold_the_line(world) as first:
        waiting = []
        with pytest.raises(Overloaded):
            for _ in range(1000):
                waiting.append(line_of(world).place(order()))
        assert len(waiting) == 2 * LIMITS.in_flight + 8
    for future in [first, *waiting]:
        future.result(WAIT_SECONDS)


def test_what_cannot_be_recorded_is_not_handed_out(world: OpenAuthority) -> None:
    with database_held(world), pytest.raises(StoreUnavailable, match="cannot record"):
        line_of(world).place(order()).result(WAIT_SECONDS)
    assert serials(world) == set()
    assert line_of(world).place(order()).result(WAIT_SECONDS).serial in serials(world)


def test_a_full_disk_stops_issuing_and_room_starts_it_again(world: OpenAuthority) -> None:
    def pages(limit: int) -> None:
        with world.database.engine.connect() as connection:
            used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            world.database.engine.dispose()
        world.database.engine.dispose()
        event.listen(
            world.database.engine,
            "connect",
            lambda dbapi, _record: dbapi.execute(f"PRAGMA max_page_count={used + limit}"),
        )

    pages(0)
    with pytest.raises(StoreUnavailable, match="full"):
        for _ in range(200):
            line_of(world).place(order()).result(WAIT_SECONDS)
    before = serials(world)
    pages(100_000)
    assert line_of(world).place(order()).result(WAIT_SECONDS).serial not in before


def test_nothing_is_signed_once_the_issuer_has_ended(world: OpenAuthority, clock: FakeClock) -> None:
    clock.advance(4 * 365 * 86_400)
    with pytest.raises(IssuerExpired):
        line_of(world).place(order()).result(WAIT_SECONDS)


def test_a_bug_in_a_stage_fails_the_order_and_not_the_line(world: OpenAuthority) -> None:
    with pytest.raises(CaError, match="issuing failed"):
        line_of(world).place(order(public_key="no key")).result(WAIT_SECONDS)
    assert line_of(world).place(order()).result(WAIT_SECONDS).spiffe_id == WEB
    assert [line["msg"] for line in world.log_lines()] == ["issuing failed"]


def test_closing_answers_what_was_placed_and_takes_no_more(world: OpenAuthority) -> None:
    placed = [line_of(world).place(order()) for _ in range(5)]
    line_of(world).close()
    assert len({future.result(0).serial for future in placed}) == 5
    with pytest.raises(StoreUnavailable, match="closed"):
        line_of(world).place(order())


def test_long_expired_records_are_pruned_in_passing(world: OpenAuthority, clock: FakeClock) -> None:
    old = line_of(world).place(order()).result(WAIT_SECONDS).serial
    clock.advance(LIMITS.keep_expired_seconds + 700)
    line_of(world).place(order()).result(WAIT_SECONDS)
    line_of(world).close()
    assert old not in serials(world)
    assert len(serials(world)) == 1


def test_serials_come_from_the_random_source(world: OpenAuthority) -> None:
    line_of(world)._random_bytes = lambda size: b"\x11" * size
    svid = line_of(world).place(order()).result(WAIT_SECONDS)
    assert svid.serial == "44444444444444444444444444444444"
    line_of(world)._random_bytes = secrets.token_bytes
