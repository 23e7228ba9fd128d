"""What the authority relies on its database for: one suite, run against SQLite and a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, text

from ca.errors import RefusalReason, RequestInvalid, StoreForeign, StoreTooNew, StoreUnavailable
from ca.nonces import SpentNonce
from ca.store import database as database_module
from ca.store.database import REVISIONS, VERSION_TABLE, Database, open_database
from ca.store.host_keys import EnrolledHostKey, Provenance, list_host_keys, revoke_host_key
from ca.store.issued import list_issued, prune
from ca.store.look_ups import LookUps
from ca.store.record import (
    AttestClaim,
    Claim,
    Entry,
    EvidenceClaim,
    HostKeyRow,
    OwnClaim,
    PlatformClaim,
    RenewClaim,
    TokenClaim,
    record,
)
from ca.store.schema import issued_svids, join_tokens, metadata, spent_evidence, spent_nonces
from ca.store.state import claim_database
from ca.store.tokens import mint_token, token_sha256

NOW = 1_800_000_000.0
WEB = "spiffe://shop.example/ns/shop/sa/web"
ORDERS = "spiffe://shop.example/ns/shop/sa/orders"
RIVALS = 16

Open = Callable[[], Database]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same database as often as called, as several processes would; closes them all at the end."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    opened: list[Database] = []

    def again() -> Database:
        opened.append(open_database(url, tmp_path / "ca.db", wait_seconds=10.0, connections=4))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


@pytest.fixture
def database(open_again: Open) -> Database:
    return open_again()


def mint(database: Database, spiffe_id: str = WEB, ttl_seconds: float = 600.0, live_limit: int = 1000) -> str:
    minted = mint_token(
        database,
        spiffe_id,
        ttl_seconds=ttl_seconds,
        now=NOW,
        random_bytes=secrets.token_bytes,
        live_limit=live_limit,
    )
    return minted.token


def new_host_key() -> HostKeyRow:
    spki = secrets.token_bytes(91)
    return HostKeyRow(key_id=sha256(spki).hexdigest(), spki=spki)


def entry(claim: Claim, spiffe_id: str = WEB, not_after: int = int(NOW) + 600) -> Entry:
    return Entry(
        claim=claim,
        serial=secrets.token_hex(16),
        spiffe_id=spiffe_id,
        not_before=int(NOW) - 60,
        not_after=not_after,
        leaf_sha256=secrets.token_hex(32),
        request_id="request",
    )


def token_claim(token: str, host_key: HostKeyRow | None = None) -> TokenClaim:
    return TokenClaim(token_sha256=token_sha256(token), host_key=host_key)


def one(database: Database, claim: Claim, spiffe_id: str = WEB, now: float = NOW) -> RefusalReason | None:
    """Record one SVID on ``claim``; the outcome, checked against what is in the database."""
    made = entry(claim, spiffe_id)
    (outcome,) = record(database, [made], now)
    kept = {row.serial for row in list_issued(database, limit=1000)}
    assert (made.serial in kept) == (outcome is None)
    return outcome


def attest_claim(host_key: HostKeyRow, nonce: str | None = None) -> AttestClaim:
    spent = SpentNonce(sha256=nonce or secrets.token_hex(32), expires_at=NOW + 30)
    return AttestClaim(nonce=spent, host_key_id=host_key.key_id)


def look_up(database: Database, token_hash: str, host_key_id: str | None, now: float) -> str | RefusalReason:
    with LookUps(database, now) as look_ups:
        return look_ups.token(token_hash, host_key_id)


def host_key(database: Database, key_id: str) -> EnrolledHostKey | None:
    with LookUps(database, NOW) as look_ups:
        return look_ups.host_key(key_id)


def rivals(open_again: Open, claims: list[Claim]) -> list[RefusalReason | None]:
    """Present every claim at the same moment, half of them through another replica's connections."""
    replicas = [open_again(), open_again()]
    start = threading.Barrier(len(claims))

    def present(number: int) -> RefusalReason | None:
        start.wait(30)
        return record(replicas[number % 2], [entry(claims[number])], NOW)[0]

    with ThreadPoolExecutor(len(claims)) as pool:
        return list(pool.map(present, range(len(claims))))


# join tokens


def test_a_token_is_good_once(database: Database) -> None:
    token = mint(database)
    assert one(database, token_claim(token)) is None
    assert one(database, token_claim(token)) is RefusalReason.TOKEN_SPENT
    assert one(database, token_claim(token, new_host_key())) is RefusalReason.TOKEN_SPENT


def test_a_token_is_stored_as_a_hash_only(database: Database) -> None:
    token = mint(database)
    with database.read() as connection:
        rows = connection.execute(text("SELECT * FROM join_tokens")).all()
    assert len(rows) == 1
    assert token not in str(rows)
    assert sha256(token.encode()).hexdigest() in str(rows)


def test_a_token_is_good_until_it_expires(database: Database) -> None:
    early, late = mint(database, ttl_seconds=60), mint(database, ttl_seconds=60)
    assert one(database, token_claim(early), now=NOW + 59.9) is None
    assert one(database, token_claim(late), now=NOW + 60.0) is RefusalReason.TOKEN_EXPIRED


def test_an_unknown_token_is_not_good(database: Database) -> None:
    assert one(database, token_claim("rfjoin_unknown")) is RefusalReason.TOKEN_UNKNOWN


def test_a_token_serves_only_the_identity_it_is_bound_to(database: Database) -> None:
    token = mint(database, WEB)
    assert one(database, token_claim(token), ORDERS) is not None
    assert one(database, token_claim(token), WEB) is None


def test_of_sixteen_simultaneous_uses_exactly_one_wins(open_again: Open) -> None:
    token = mint(open_again())
    outcomes = rivals(open_again, [token_claim(token, new_host_key()) for _ in range(RIVALS)])
    assert outcomes.count(None) == 1
    assert outcomes.count(RefusalReason.TOKEN_SPENT) == RIVALS - 1
    database = open_again()
    assert len(list_issued(database, limit=100)) == 1
    assert len(list_host_keys(database, limit=100)) == 1  # the losers enrolled nothing


def test_of_sixteen_simultaneous_uses_without_a_host_key_exactly_one_wins(open_again: Open) -> None:
    token = mint(open_again())
    outcomes = rivals(open_again, [token_claim(token)] * RIVALS)
    assert outcomes.count(None) == 1


def test_within_one_batch_a_token_is_good_once_too(database: Database) -> None:
    token = mint(database)
    outcomes = record(database, [entry(token_claim(token, new_host_key())) for _ in range(5)], NOW)
    assert outcomes.count(None) == 1
    assert len(list_host_keys(database, limit=10)) == 1


def test_a_lost_reply_is_made_good_for_the_same_host_key_until_the_token_expires(database: Database) -> None:
    token, mine = mint(database), new_host_key()
    assert one(database, token_claim(token, mine)) is None
    assert one(database, token_claim(token, mine), now=NOW + 100) is None
    assert one(database, token_claim(token, new_host_key())) is RefusalReason.TOKEN_SPENT
    assert one(database, token_claim(token)) is RefusalReason.TOKEN_SPENT
    assert one(database, token_claim(token, mine), now=NOW + 600) is RefusalReason.TOKEN_EXPIRED
    with database.read() as connection:
        assert connection.execute(text("SELECT spent_at FROM join_tokens")).scalar_one() == NOW


def test_a_token_spent_without_a_host_key_is_spent_for_everybody(database: Database) -> None:
    token = mint(database)
    assert one(database, token_claim(token)) is None
    assert one(database, token_claim(token, new_host_key())) is RefusalReason.TOKEN_SPENT


def test_the_look_ahead_agrees_with_the_decision(database: Database) -> None:
    token, mine = mint(database, ttl_seconds=60), new_host_key()
    hashed = token_sha256(token)
    assert look_up(database, hashed, None, NOW) == WEB
    assert look_up(database, hashed, None, NOW + 60) is RefusalReason.TOKEN_EXPIRED
    assert look_up(database, token_sha256("x"), None, NOW) is RefusalReason.TOKEN_UNKNOWN
    assert one(database, token_claim(token, mine)) is None
    assert look_up(database, hashed, mine.key_id, NOW) == WEB
    assert look_up(database, hashed, new_host_key().key_id, NOW) is RefusalReason.TOKEN_SPENT
    assert look_up(database, hashed, None, NOW) is RefusalReason.TOKEN_SPENT


def test_the_number_of_live_tokens_is_bounded(database: Database) -> None:
    for _ in range(3):
        mint(database, live_limit=3)
    with pytest.raises(RequestInvalid, match="3 unexpired join tokens"):
        mint(database, live_limit=3)


# host keys


def test_joining_enrols_the_host_key_for_that_workload(database: Database) -> None:
    key = new_host_key()
    assert one(database, token_claim(mint(database), key)) is None
    enrolled = host_key(database, key.key_id)
    assert enrolled is not None
    assert (enrolled.spiffe_id, enrolled.spki, enrolled.revoked_at) == (WEB, key.spki, None)
    assert list_issued(database, limit=1)[0].host_key_id == key.key_id


def test_a_host_key_may_be_enrolled_again_for_the_same_workload_only(database: Database) -> None:
    key = new_host_key()
    assert one(database, token_claim(mint(database), key)) is None
    assert one(database, token_claim(mint(database), key)) is None
    elsewhere = mint(database, ORDERS)
    assert one(database, token_claim(elsewhere, key), ORDERS) is RefusalReason.HOST_KEY_BOUND_ELSEWHERE
    assert one(database, token_claim(elsewhere, new_host_key()), ORDERS) is None  # and so the token was not spent


def test_a_revoked_host_key_never_comes_back(database: Database) -> None:
    key, token = new_host_key(), mint(database)
    assert one(database, token_claim(token, key)) is None
    assert revoke_host_key(database, key.key_id, NOW + 1)
    assert one(database, token_claim(token, key)) is RefusalReason.HOST_KEY_REVOKED
    assert one(database, token_claim(mint(database), key)) is RefusalReason.HOST_KEY_REVOKED
    assert one(database, attest_claim(key)) is RefusalReason.HOST_KEY_REVOKED
    enrolled = host_key(database, key.key_id)
    assert enrolled is not None
    assert enrolled.revoked_at == NOW + 1


def test_revoking_twice_keeps_the_first_time_and_an_unknown_key_is_told(database: Database) -> None:
    key = new_host_key()
    assert one(database, token_claim(mint(database), key)) is None
    assert revoke_host_key(database, key.key_id, NOW)
    assert revoke_host_key(database, key.key_id, NOW + 50)
    assert [row.revoked_at for row in list_host_keys(database, limit=5)] == [NOW]
    assert not revoke_host_key(database, "ab" * 32, NOW)


# attestation


def test_a_nonce_is_good_once(database: Database) -> None:
    key = new_host_key()
    assert one(database, token_claim(mint(database), key)) is None
    nonce = secrets.token_hex(32)
    assert one(database, attest_claim(key, nonce), now=NOW + 5) is None
    assert one(database, attest_claim(key, nonce)) is RefusalReason.NONCE_SPENT
    enrolled = host_key(database, key.key_id)
    assert enrolled is not None
    assert enrolled.last_used_at == NOW + 5


def test_of_sixteen_simultaneous_uses_of_a_nonce_exactly_one_wins(open_again: Open) -> None:
    key = new_host_key()
    assert one(open_again(), token_claim(mint(open_again()), key)) is None
    nonce = secrets.token_hex(32)
    outcomes = rivals(open_again, [attest_claim(key, nonce)] * RIVALS)
    assert outcomes.count(None) == 1
    assert outcomes.count(RefusalReason.NONCE_SPENT) == RIVALS - 1


def test_an_unknown_host_key_and_another_identity_attest_nothing(database: Database) -> None:
    key = new_host_key()
    assert one(database, attest_claim(key)) is not None
    assert one(database, token_claim(mint(database), key)) is None
    assert one(database, attest_claim(key), ORDERS) is not None


def enrolled_keys(database: Database, count: int) -> list[HostKeyRow]:
    keys = [new_host_key() for _ in range(count)]
    for key in keys:
        assert one(database, token_claim(mint(database), key)) is None
    return keys


def statements_of(database: Database, work: Callable[[], object]) -> list[str]:
    """The statements that ``work`` had the database execute; one for many rows counts once."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement.split()[0])

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return [statement for statement in seen if statement in ("INSERT", "UPDATE", "SELECT")]


def test_attestations_of_a_batch_are_recorded_by_one_statement_a_table(database: Database) -> None:
    keys = enrolled_keys(database, 4)
    batch = [entry(attest_claim(key)) for key in keys * 2]
    outcomes: list[object] = []
    assert statements_of(database, lambda: outcomes.extend(record(database, batch, NOW + 5))) == [
        "INSERT",
        "UPDATE",
        "INSERT",
    ]
    assert outcomes == [None] * 8
    assert {made.serial for made in batch} <= {row.serial for row in list_issued(database, limit=1000)}
    assert {row.last_used_at for row in list_host_keys(database, limit=9)} == {NOW + 5}


def test_in_a_batch_each_attestation_that_does_not_hold_fails_alone(database: Database) -> None:
    good, replayed, revoked, foreign = enrolled_keys(database, 4)
    spent, twice = secrets.token_hex(32), secrets.token_hex(32)
    assert one(database, attest_claim(replayed, spent)) is None
    assert revoke_host_key(database, revoked.key_id, NOW)
    batch = [
        entry(attest_claim(good)),
        entry(attest_claim(replayed, spent)),
        entry(attest_claim(good, twice)),
        entry(attest_claim(good, twice)),
        entry(attest_claim(revoked)),
        entry(attest_claim(foreign), ORDERS),
        entry(attest_claim(new_host_key())),
        entry(token_claim(mint(database), new_host_key())),
        entry(attest_claim(foreign)),
    ]
    outcomes = record(database, batch, NOW)
    assert sorted(str(outcome) for outcome in outcomes[2:4]) == sorted(["None", str(RefusalReason.NONCE_SPENT)])
    assert outcomes[:2] == [None, RefusalReason.NONCE_SPENT]
    assert outcomes[4:7] == [RefusalReason.HOST_KEY_REVOKED] * 3
    assert outcomes[7:] == [None, None]
    kept = {row.serial for row in list_issued(database, limit=1000)}
    assert [made.serial in kept for made in batch] == [outcome is None for outcome in outcomes]


@pytest.mark.parametrize("what", ["nonce", "key"])
def test_one_attestation_that_does_not_hold_is_found_among_many_that_do(database: Database, what: str) -> None:
    keys = enrolled_keys(database, 3)
    spent = secrets.token_hex(32)
    assert one(database, attest_claim(keys[1], spent)) is None
    if what == "key":
        assert revoke_host_key(database, keys[1].key_id, NOW)
    batch = [attest_claim(keys[0]), attest_claim(keys[1], spent if what == "nonce" else None), attest_claim(keys[2])]
    refusal = RefusalReason.NONCE_SPENT if what == "nonce" else RefusalReason.HOST_KEY_REVOKED
    assert record(database, [entry(claim) for claim in batch], NOW) == [None, refusal, None]
    # What held was spent once, and for good.
    assert one(database, batch[0]) is RefusalReason.NONCE_SPENT


# renewal


def issued_serial(database: Database, claim: Claim) -> str:
    made = entry(claim)
    assert record(database, [made], NOW) == [None]
    return made.serial


def test_what_was_issued_may_be_renewed_over_and_over(database: Database) -> None:
    serial = issued_serial(database, OwnClaim())
    for _ in range(3):
        serial = issued_serial(database, RenewClaim(serial=serial))
    assert [row.proved_by for row in list_issued(database, limit=9)].count("renew") == 3


def test_what_was_never_recorded_is_not_renewed(database: Database) -> None:
    assert one(database, RenewClaim(serial="abcdef")) is RefusalReason.SERIAL_UNKNOWN
    serial = issued_serial(database, OwnClaim())
    assert one(database, RenewClaim(serial=serial), ORDERS) is RefusalReason.SERIAL_UNKNOWN


def test_revoking_a_host_key_ends_every_line_that_descends_from_it(database: Database) -> None:
    key, other = new_host_key(), new_host_key()
    mine = issued_serial(database, token_claim(mint(database), key))
    theirs = issued_serial(database, token_claim(mint(database), other))
    renewed = issued_serial(database, RenewClaim(serial=mine))
    again = issued_serial(database, RenewClaim(serial=renewed))
    revoke_host_key(database, key.key_id, NOW)
    for serial in (mine, renewed, again):
        assert one(database, RenewClaim(serial=serial)) is RefusalReason.HOST_KEY_REVOKED
    assert one(database, RenewClaim(serial=theirs)) is None


# batches


def test_a_batch_records_the_good_and_leaves_no_trace_of_the_bad(database: Database) -> None:
    key = new_host_key()
    claims: list[Claim] = [
        OwnClaim(),
        token_claim("rfjoin_unknown", new_host_key()),
        token_claim(mint(database), key),
        RenewClaim(serial="nothing"),
    ]
    entries = [entry(claim) for claim in claims]
    assert record(database, entries, NOW) == [
        None,
        RefusalReason.TOKEN_UNKNOWN,
        None,
        RefusalReason.SERIAL_UNKNOWN,
    ]
    assert {row.serial for row in list_issued(database, limit=9)} == {entries[0].serial, entries[2].serial}
    assert [row.key_id for row in list_host_keys(database, limit=9)] == [key.key_id]


def test_a_batch_that_cannot_be_written_leaves_nothing_at_all(database: Database) -> None:
    token = mint(database)
    clash = entry(OwnClaim())
    twins = [entry(token_claim(token, new_host_key())), clash, clash]  # one serial twice
    with pytest.raises(StoreUnavailable, match="cannot record"):
        record(database, twins, NOW)
    assert list_issued(database, limit=9) == []
    assert list_host_keys(database, limit=9) == []
    assert one(database, token_claim(token)) is None  # still unspent


# evidence


POD = Provenance(kind="kubernetes", subject="8b1c0f8e-pod")


def evidence_claim(key: HostKeyRow, evidence: str = "ev", expires_at: float = NOW + 600.0) -> EvidenceClaim:
    return EvidenceClaim(evidence_sha256=evidence, expires_at=expires_at, host_key=key)


def pod_key(provenance: Provenance | None = POD) -> HostKeyRow:
    return dataclasses.replace(new_host_key(), provenance=provenance)


def test_evidence_enrols_one_host_key_which_keeps_whose_it_is(database: Database) -> None:
    key = pod_key()
    assert one(database, evidence_claim(key)) is None
    assert one(database, evidence_claim(key)) is None  # the reply was lost
    assert one(database, evidence_claim(pod_key())) is RefusalReason.EVIDENCE_SPENT
    assert one(database, evidence_claim(key, "newer")) is None
    assert one(database, evidence_claim(key, "late", NOW), now=NOW) is RefusalReason.EVIDENCE_EXPIRED
    (enrolled,) = list_host_keys(database, limit=9)
    assert (enrolled.key_id, enrolled.provenance) == (key.key_id, POD)
    assert one(database, attest_claim(key)) is None


def test_of_rival_keys_with_the_same_evidence_one_wins(open_again: Open) -> None:
    claims: list[Claim] = [evidence_claim(pod_key()) for _ in range(RIVALS)]
    outcomes = rivals(open_again, claims)
    assert outcomes.count(None) == 1
    assert outcomes.count(RefusalReason.EVIDENCE_SPENT) == RIVALS - 1
    assert len(list_host_keys(open_again(), limit=99)) == 1


def test_a_host_key_stays_with_what_enrolled_it(database: Database) -> None:
    key = pod_key()
    assert one(database, evidence_claim(key)) is None
    other = dataclasses.replace(key, provenance=Provenance(kind="kubernetes", subject="another-pod"))
    elsewhere = RefusalReason.HOST_KEY_BOUND_ELSEWHERE
    assert one(database, evidence_claim(other, "another")) is elsewhere
    assert one(database, evidence_claim(key, "another"), ORDERS) is elsewhere
    assert one(database, token_claim(mint(database), dataclasses.replace(key, provenance=None))) is elsewhere
    joined = new_host_key()
    assert one(database, token_claim(mint(database), joined)) is None
    assert one(database, evidence_claim(dataclasses.replace(joined, provenance=POD), "another")) is elsewhere
    assert one(database, evidence_claim(pod_key(), "another")) is None  # none of them spent it
    assert revoke_host_key(database, key.key_id, NOW)
    assert one(database, evidence_claim(key, "fresh")) is RefusalReason.HOST_KEY_REVOKED


def test_the_line_of_an_svid_leads_to_the_evidence_that_began_it(database: Database) -> None:
    key = pod_key()
    first = issued_serial(database, evidence_claim(key))
    second = issued_serial(database, RenewClaim(serial=first))
    by_token = issued_serial(database, token_claim(mint(database), new_host_key()))
    with LookUps(database, NOW) as look_ups:
        assert [look_ups.line(serial) for serial in (first, second)] == [POD, POD]
        assert [look_ups.line(serial) for serial in (by_token, "unknown")] == [None, None]


def test_pruning_forgets_evidence_at_its_end_and_host_keys_that_it_enrolled_when_long_idle(database: Database) -> None:
    idle, renewing, revoked, joined = pod_key(), pod_key(), pod_key(), new_host_key()
    for number, key in enumerate((idle, renewing, revoked)):
        serial = issued_serial(database, evidence_claim(key, str(number)))
        if key is renewing:
            later = entry(RenewClaim(serial=serial))
            assert record(database, [later], NOW + 86_400.0) == [None]
    assert one(database, token_claim(mint(database), joined)) is None
    assert revoke_host_key(database, revoked.key_id, NOW)

    def kept() -> int:
        with database.read() as connection:
            return len(connection.execute(spent_evidence.select()).all())

    prune(database, now=NOW + 600, keep_expired_seconds=86_400.0, limit=100)
    assert kept() == 3
    prune(database, now=NOW + 600 + 301, keep_expired_seconds=86_400.0, limit=100)
    assert kept() == 0
    assert len(list_host_keys(database, limit=9)) == 4
    prune(database, now=NOW + 86_401, keep_expired_seconds=86_400.0, limit=100)
    left = {key.key_id for key in list_host_keys(database, limit=9)}
    assert left == {renewing.key_id, revoked.key_id, joined.key_id}


def test_what_the_platform_asked_for_is_renewed_by_it_alone(database: Database) -> None:
    serial = issued_serial(database, PlatformClaim())
    assert one(database, RenewClaim(serial=serial)) is RefusalReason.RENEWED_BY_PLATFORM


# listing and pruning


def test_issued_svids_are_listed_the_newest_first_and_filtered(database: Database) -> None:
    first, second, third = entry(OwnClaim(), ORDERS), entry(OwnClaim()), entry(OwnClaim(), not_after=int(NOW) + 10)
    for number, made in enumerate((first, second, third)):
        record(database, [made], NOW + number)
    assert [row.serial for row in list_issued(database, limit=2)] == [third.serial, second.serial]
    assert [row.serial for row in list_issued(database, spiffe_id=ORDERS, limit=9)] == [first.serial]
    valid = list_issued(database, valid_at=NOW + 11, limit=9)
    assert [row.serial for row in valid] == [second.serial, first.serial]
    assert valid[0].as_json()["request_id"] == "request"


def test_pruning_takes_what_is_long_past_and_nothing_else(database: Database) -> None:
    key = new_host_key()
    token = mint(database, ttl_seconds=100)
    assert one(database, token_claim(token, key)) is None
    assert one(database, attest_claim(key)) is None
    day = 86_400.0

    def left() -> tuple[int, ...]:
        with database.read() as connection:
            return tuple(
                len(connection.execute(table.select()).all()) for table in (issued_svids, join_tokens, spent_nonces)
            )

    assert prune(database, now=NOW + 600, keep_expired_seconds=day, limit=100) == 1
    assert left() == (2, 1, 0)
    assert prune(database, now=NOW + 600 + day + 1, keep_expired_seconds=day, limit=1) == 2
    assert left() == (1, 0, 0)
    assert prune(database, now=NOW + 600 + day + 1, keep_expired_seconds=day, limit=100) == 1
    assert left() == (0, 0, 0)
    assert len(list_host_keys(database, limit=5)) == 1


# schema and ownership


def test_migrations_lead_to_the_schema_that_the_code_uses(database: Database) -> None:
    with database.read() as connection:
        options = {"version_table": VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, VERSION_TABLE}


def test_the_code_knows_every_migration_there_is() -> None:
    folder = Path(database_module.__file__).parent / "migrations"
    steps = ScriptDirectory(str(folder)).walk_revisions("base", "heads")
    assert tuple(step.revision for step in steps)[::-1] == REVISIONS


def test_a_database_of_the_first_release_is_brought_up_to_date_with_all_that_is_in_it(
    open_again: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "REVISIONS", REVISIONS[:1])
    old, key = open_again(), new_host_key()
    columns = "key_id, public_key, spiffe_id, enrolled_at"
    with old.write() as connection:
        row = {"key": key.key_id, "spki": key.spki, "id": WEB, "at": NOW}
        connection.execute(text(f"INSERT INTO host_keys ({columns}) VALUES (:key, :spki, :id, :at)"), row)
    old.close()
    monkeypatch.undo()
    new = open_again()
    (enrolled,) = list_host_keys(new, limit=9)
    assert (enrolled.key_id, enrolled.spki, enrolled.provenance) == (key.key_id, key.spki, None)
    assert one(new, attest_claim(key)) is None
    assert one(new, evidence_claim(pod_key())) is None


def test_opening_again_keeps_everything(open_again: Open) -> None:
    serial = issued_serial(open_again(), OwnClaim())
    assert [row.serial for row in list_issued(open_again(), limit=5)] == [serial]


def test_replicas_that_open_an_empty_database_together_all_find_it_ready(open_again: Open) -> None:
    start = threading.Barrier(4)

    def opening(_number: int) -> list[object]:
        start.wait(30)
        return list(list_issued(open_again(), limit=1))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opening, range(4))) == [[]] * 4


def test_a_database_from_a_newer_release_is_refused_and_left_alone(open_again: Open) -> None:
    database = open_again()
    with database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match=r"'9999'.*newer release"):
        open_again()
    with database.read() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one() == "9999"


def test_a_database_serves_one_authority_only(open_again: Open) -> None:
    secret = claim_database(open_again(), "aa" * 32, secrets.token_bytes)
    assert len(secret) == 32
    assert claim_database(open_again(), "aa" * 32, secrets.token_bytes) == secret
    with pytest.raises(StoreForeign, match="bb" * 32):
        claim_database(open_again(), "bb" * 32, secrets.token_bytes)


def test_replicas_that_start_together_share_one_nonce_secret(open_again: Open) -> None:
    replicas = [open_again() for _ in range(4)]
    start = threading.Barrier(4)

    def claiming(database: Database) -> bytes:
        start.wait(30)
        return claim_database(database, "aa" * 32, secrets.token_bytes)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(claiming, replicas))) == 1
