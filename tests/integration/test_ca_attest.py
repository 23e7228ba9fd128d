"""Attesting again by the host key, over real gRPC and TLS: the way back after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ca.border import NOT_PERMITTED
from ca.errors import RefusalReason
from ca.keys import new_key
from ringfence.wire.gen import issuing_pb2 as pb
from tests.authorities import (
    ORDERS,
    WEB,
    HostKeyPair,
    MadeHierarchy,
    OpenAuthority,
    Served,
    make_csr,
    make_hierarchy,
    refusal_of,
    serve,
    svid_of,
)
from tests.issuing_backends import TurnedClock

RIVALS = 8


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    with OpenAuthority(tmp_path, TurnedClock()) as world:
        async with serve(world) as running:
            yield running


@pytest.fixture
async def pair(served: Served) -> HostKeyPair:
    """The host key of a workload that joined as web."""
    enrolled = HostKeyPair()
    await served.joining.Join(enrolled.join(served.world.token(WEB)))
    return enrolled


async def challenge(served: Served, pair: HostKeyPair) -> bytes:
    return bytes((await served.joining.Challenge(pb.ChallengeRequest(host_key_id=pair.key_id))).nonce)


async def refused(served: Served, request: pb.AttestRequest) -> str:
    error = await refusal_of(served.joining.Attest(request))
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, NOT_PERMITTED)
    return served.world.refusals()[-1]


async def test_the_same_workload_comes_back_with_a_new_key(served: Served, pair: HostKeyPair) -> None:
    key = new_key()
    response = await served.joining.Attest(pair.attest(await challenge(served, pair), make_csr(key)))
    assert svid_of(response, key).spiffe_id == WEB
    assert served.world.authority.issued()[0].proved_by == "attest"


async def test_a_nonce_serves_once(served: Served, pair: HostKeyPair) -> None:
    nonce = await challenge(served, pair)
    await served.joining.Attest(pair.attest(nonce))
    assert await refused(served, pair.attest(nonce)) == RefusalReason.NONCE_SPENT


async def test_of_simultaneous_uses_of_a_nonce_exactly_one_wins(served: Served, pair: HostKeyPair) -> None:
    nonce = await challenge(served, pair)

    async def attest() -> bool:
        try:
            await served.joining.Attest(pair.attest(nonce))
        except grpc.aio.AioRpcError as error:
            assert error.details() == NOT_PERMITTED
            return False
        return True

    assert sum(await asyncio.gather(*(attest() for _ in range(RIVALS)))) == 1


async def test_a_nonce_ends_with_its_time(served: Served, pair: HostKeyPair) -> None:
    nonce = await challenge(served, pair)
    served.world.clock.offset_seconds = 31.0  # type: ignore[attr-defined]
    assert await refused(served, pair.attest(nonce)) == RefusalReason.NONCE_EXPIRED


async def test_the_nonce_of_another_host_key_is_no_good(served: Served, pair: HostKeyPair) -> None:
    other = HostKeyPair()
    await served.joining.Join(other.join(served.world.token(ORDERS)))
    assert await refused(served, pair.attest(await challenge(served, other))) == RefusalReason.NONCE_INVALID
    assert await refused(served, pair.attest(b"n" * 56)) == RefusalReason.NONCE_INVALID
    assert await refused(served, pair.attest(b"")) == RefusalReason.NONCE_INVALID


async def test_only_the_host_key_itself_attests_and_only_this_csr(served: Served, pair: HostKeyPair) -> None:
    nonce, thief = await challenge(served, pair), HostKeyPair()
    forged = thief.attest(nonce, host_key_id=pair.key_id)
    swapped = pair.attest(nonce, csr=make_csr())
    for request in (forged, swapped, pair.attest(nonce, signature=b""), pair.attest(nonce, signature=b"\x30\x00")):
        assert await refused(served, request) == RefusalReason.SIGNATURE_INVALID
    await served.joining.Attest(pair.attest(nonce))  # none of that has spent the nonce


async def test_an_enrolment_proof_is_no_attestation(served: Served, pair: HostKeyPair) -> None:
    nonce, csr = await challenge(served, pair), make_csr()
    enrolment = pair.join("rfjoin_" + "A" * 43, csr).host_key_proof
    assert await refused(served, pair.attest(nonce, csr, signature=enrolment)) == RefusalReason.SIGNATURE_INVALID


async def test_an_unknown_host_key_is_challenged_like_any_other_and_then_refused(served: Served) -> None:
    stranger = HostKeyPair()
    nonce = await challenge(served, stranger)
    assert len(nonce) == 56
    assert await refused(served, stranger.attest(nonce)) == RefusalReason.HOST_KEY_UNKNOWN


async def test_a_revoked_host_key_is_refused_even_with_a_nonce_in_hand(served: Served, pair: HostKeyPair) -> None:
    nonce = await challenge(served, pair)
    assert served.world.authority.revoke_host_key(pair.key_id)
    assert await refused(served, pair.attest(nonce)) == RefusalReason.HOST_KEY_REVOKED


async def test_challenges_leave_nothing_behind(served: Served, pair: HostKeyPair) -> None:
    def rows() -> int:
        with served.world.database.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM spent_nonces").scalar_one())

    for _ in range(20):
        await challenge(served, pair)
    assert rows() == 0
    await served.joining.Attest(pair.attest(await challenge(served, pair)))
    assert rows() == 1


@pytest.mark.parametrize("key_id", ["", "AB" * 32, "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "\n"])
async def test_what_is_no_host_key_id_is_told_so(served: Served, key_id: str) -> None:
    calls = (
        served.joining.Challenge(pb.ChallengeRequest(host_key_id=key_id)),
        served.joining.Attest(HostKeyPair().attest(b"n" * 56, host_key_id=key_id)),
    )
    for call in calls:
        error = await refusal_of(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "64 lower-case hex digits" in str(error.details())


@pytest.mark.parametrize(
    ("changes", "words"), [({"csr": b""}, "PKCS#10"), ({"lifetime_seconds": 299}, "at least 300 s")]
)
async def test_malformed_attestations_are_told_what_is_wrong(
    served: Served, pair: HostKeyPair, changes: dict[str, Any], words: str
) -> None:
    error = await refusal_of(served.joining.Attest(pair.attest(await challenge(served, pair), **changes)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in str(error.details())


async def test_the_host_key_itself_is_not_certified(served: Served, pair: HostKeyPair) -> None:
    nonce, csr = await challenge(served, pair), make_csr(pair.key)
    error = await refusal_of(served.joining.Attest(pair.attest(nonce, csr)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_second_replica_takes_what_the_first_one_gave(tmp_path: Path, postgres_url: str) -> None:
    made: MadeHierarchy = make_hierarchy(TurnedClock().now())
    one = OpenAuthority(tmp_path / "one", TurnedClock(), made=made, database_url=postgres_url)
    two = OpenAuthority(tmp_path / "two", TurnedClock(), made=made, database_url=postgres_url)
    pair, key = HostKeyPair(), new_key()
    with one, two:
        async with serve(one) as first, serve(two) as second:
            await first.joining.Join(pair.join(two.token(WEB)))
            request = pair.attest(await challenge(first, pair), make_csr(key))
            assert svid_of(await second.joining.Attest(request), key).spiffe_id == WEB
            assert await refused(first, request) == RefusalReason.NONCE_SPENT
