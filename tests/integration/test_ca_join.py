"""Joining over real gRPC and TLS: a token for a first SVID, and one sentence for everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ca.border import NOT_PERMITTED, REQUEST_ID_KEY
from ca.errors import RefusalReason
from ca.keys import new_key
from ca.settings import IssuingLimits
from ringfence.spiffe import ChainVerifier
from ringfence.wire.gen import issuing_pb2 as pb
from tests.authorities import ORDERS, WEB, HostKeyPair, OpenAuthority, Served, make_csr, refusal_of, serve, svid_of
from tests.issuing_backends import TurnedClock

RIVALS = 16


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    with OpenAuthority(tmp_path, TurnedClock()) as world:
        async with serve(world) as running:
            yield running


async def refused(served: Served, request: pb.JoinRequest) -> str:
    """The request is refused as every other one is; the reason that the log has for it."""
    error = await refusal_of(served.joining.Join(request))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error.details() == NOT_PERMITTED
    line = served.world.log_lines()[-1]
    assert line["request_id"] == dict(error.trailing_metadata())[REQUEST_ID_KEY]
    return str(line["reason"])


async def invalid(served: Served, request: pb.JoinRequest) -> str:
    error = await refusal_of(served.joining.Join(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(error.details())


async def test_a_token_gets_an_svid_that_peers_believe(served: Served) -> None:
    world, key = served.world, new_key()
    response = await served.joining.Join(HostKeyPair().join(world.token(WEB), make_csr(key)))
    bundle = world.authority.bundle()
    peer = ChainVerifier([bundle]).verify(tuple(response.chain), world.clock.now(), [WEB])
    assert response.spiffe_id == str(WEB) == str(peer.spiffe_id)
    assert tuple(response.roots) == bundle.roots
    assert response.roots[0] not in response.chain
    assert abs(response.ca_time - world.clock.now()) < 60
    assert response.not_after - response.not_before == 3660
    assert svid_of(response, key).serial == peer.serial
    assert peer.serial in {record.serial for record in world.authority.issued()}


async def test_spent_expired_foreign_and_malformed_tokens_look_the_same_from_outside(served: Served) -> None:
    world = served.world
    spent, expired = world.token(), world.token(ttl_seconds=1)
    await served.joining.Join(HostKeyPair().join(spent))
    world.clock.offset_seconds = 5.0  # type: ignore[attr-defined]
    foreign = "rfjoin_" + "A" * 43
    reasons = [await refused(served, HostKeyPair().join(token)) for token in (spent, expired, foreign, "", "x" * 9000)]
    assert reasons == [
        RefusalReason.TOKEN_SPENT,
        RefusalReason.TOKEN_EXPIRED,
        RefusalReason.TOKEN_UNKNOWN,
        RefusalReason.TOKEN_UNKNOWN,
        RefusalReason.TOKEN_UNKNOWN,
    ]


async def test_no_log_line_holds_a_token(served: Served) -> None:
    token = served.world.token()
    pair = HostKeyPair()
    await served.joining.Join(pair.join(token))
    await refused(served, HostKeyPair().join(token))
    await refused(served, HostKeyPair().join(token, host_key_proof=b"x"))
    assert token[10:] not in str(served.world.log_lines())


async def test_of_sixteen_simultaneous_presents_exactly_one_wins(served: Served) -> None:
    token = served.world.token()
    requests = [HostKeyPair().join(token) for _ in range(RIVALS)]

    async def present(request: pb.JoinRequest) -> bool:
        try:
            return bool((await served.joining.Join(request)).chain)
        except grpc.aio.AioRpcError as error:
            assert error.details() == NOT_PERMITTED
            return False

    outcomes = await asyncio.gather(*map(present, requests))
    assert outcomes.count(True) == 1
    assert len(served.world.authority.host_keys()) == 1


async def test_a_reply_that_was_lost_can_be_asked_for_again_by_the_same_host(served: Served) -> None:
    token, pair = served.world.token(), HostKeyPair()
    first = await served.joining.Join(pair.join(token))
    again = await served.joining.Join(pair.join(token))
    assert again.spiffe_id == first.spiffe_id
    assert again.chain[0] != first.chain[0]
    assert await refused(served, HostKeyPair().join(token)) == RefusalReason.TOKEN_SPENT
    assert await refused(served, pb.JoinRequest(token=token, csr=make_csr())) == RefusalReason.TOKEN_SPENT


async def test_a_host_key_that_is_shown_but_not_proved_gets_nothing_and_spends_nothing(served: Served) -> None:
    token, mine, theirs = served.world.token(), HostKeyPair(), HostKeyPair()
    stolen = theirs.join(token)
    for request in (
        mine.join(token, host_public_key=theirs.spki),  # somebody else's key, my proof
        mine.join(token, csr=make_csr()),  # a proof for another csr
        mine.join(served.world.token(), host_key_proof=stolen.host_key_proof),
        mine.join(token, host_key_proof=b""),
    ):
        assert await refused(served, request) == RefusalReason.HOST_KEY_PROOF_INVALID
    assert (await served.joining.Join(mine.join(token))).chain


async def test_a_reused_token_does_not_help_whoever_copies_the_whole_request(served: Served) -> None:
    # A replayed request gets an SVID for the key in its csr, which the one who replays it does not hold.
    token, pair, key = served.world.token(), HostKeyPair(), new_key()
    request = pair.join(token, make_csr(key))
    await served.joining.Join(request)
    replayed = await served.joining.Join(request)
    assert svid_of(replayed, key).spiffe_id == WEB


async def test_joining_without_a_host_key_enrols_none(served: Served) -> None:
    token = served.world.token()
    assert (await served.joining.Join(pb.JoinRequest(token=token, csr=make_csr()))).chain
    assert served.world.authority.host_keys() == []
    assert await refused(served, pb.JoinRequest(token=token, csr=make_csr())) == RefusalReason.TOKEN_SPENT


async def test_a_host_key_stays_bound_to_its_workload(served: Served) -> None:
    pair, other = HostKeyPair(), served.world.token(ORDERS)
    await served.joining.Join(pair.join(served.world.token(WEB)))
    assert await refused(served, pair.join(other)) == RefusalReason.HOST_KEY_BOUND_ELSEWHERE
    assert (await served.joining.Join(HostKeyPair().join(other))).spiffe_id == str(ORDERS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"csr": b""}, "PKCS#10"),
        ({"csr": b"x" * 5000}, "larger than 4096"),
        ({"host_public_key": b"rubbish"}, "host key"),
        ({"host_public_key": b""}, "proof without a host key"),
        ({"lifetime_seconds": 1}, "floor"),
    ],
)
async def test_malformed_requests_are_told_what_is_wrong_and_spend_nothing(
    served: Served, changes: dict[str, Any], words: str
) -> None:
    token = served.world.token()
    assert words in await invalid(served, HostKeyPair().join(token, **changes))
    assert (await served.joining.Join(HostKeyPair().join(token))).chain


async def test_the_host_key_is_not_certified(served: Served) -> None:
    pair = HostKeyPair()
    assert "same" in await invalid(served, pair.join(served.world.token(), make_csr(pair.key)))


@pytest.mark.parametrize(("asked", "granted"), [(0, 3600), (300, 300), (86_400, 86_400), (4_000_000_000, 86_400)])
async def test_lifetimes_lie_between_floor_and_ceiling(served: Served, asked: int, granted: int) -> None:
    response = await served.joining.Join(HostKeyPair().join(served.world.token(), lifetime_seconds=asked))
    assert response.not_after - response.not_before - 60 == granted


async def test_every_answer_carries_a_request_id_that_the_record_knows(served: Served) -> None:
    call = served.joining.Join(HostKeyPair().join(served.world.token()))
    await call
    request_id = dict(await call.trailing_metadata())[REQUEST_ID_KEY]
    assert served.world.authority.issued()[0].request_id == request_id


async def test_a_message_beyond_reason_is_refused(served: Served) -> None:
    error = await refusal_of(served.joining.Join(HostKeyPair().join(served.world.token(), csr=b"x" * 5_000_000)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_happened_is_counted_by_closed_words(served: Served) -> None:
    token = served.world.token()
    await served.joining.Join(HostKeyPair().join(token))
    await refused(served, HostKeyPair().join(token))
    await invalid(served, HostKeyPair().join(token, csr=b""))
    assert served.world.authority.tally() == {
        ("join", "done"): 1,
        ("join", "token_spent"): 1,
        ("join", "invalid"): 1,
    }


async def test_more_requests_at_once_than_the_limit_are_told_to_come_back(tmp_path: Path) -> None:
    limits = IssuingLimits(in_flight=2, database_wait_seconds=20.0, deadline_seconds=40.0)
    with OpenAuthority(tmp_path, TurnedClock(), limits=limits) as world:
        tokens = [world.token() for _ in range(12)]
        async with serve(world) as served:
            await served.joining.Challenge(pb.ChallengeRequest(host_key_id="ab" * 32))  # the channel is up
            with world.database.write():  # nobody gets any further
                calls = [asyncio.ensure_future(joined(served, token)) for token in tokens]
                done, waiting = await asyncio.wait(calls, timeout=30, return_when=asyncio.FIRST_COMPLETED)
                while len(waiting) > limits.in_flight:
                    more, waiting = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
                    assert more
                    done |= more
            codes = [call.result() for call in done]
            assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * (len(tokens) - limits.in_flight)
            await asyncio.gather(*waiting)
            # Whoever was turned away has spent nothing.
            turned_away = [token for token, call in zip(tokens, calls, strict=True) if call in done]
            assert await joined(served, turned_away[0]) is grpc.StatusCode.OK


async def joined(served: Served, token: str) -> grpc.StatusCode:
    try:
        await served.joining.Join(HostKeyPair().join(token))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
