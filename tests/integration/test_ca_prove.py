"""Joining by a platform's evidence, over real gRPC and TLS: who gets what, and what is told of a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from ca.attesting import EvidenceSources
from ca.border import NOT_PERMITTED, TOLD
from ca.errors import RefusalReason
from ca.keys import new_key
from ca.settings import IssuingLimits
from ringfence.attestation import EVIDENCE_LIMIT_BYTES, EvidenceFault
from ringfence.spiffe import SpiffeId, TrustDomain, X509Svid
from ringfence.wire.gen import issuing_pb2 as pb
from tests.attestors import FakeAttestor
from tests.authorities import (
    SHOP,
    WEB,
    HostKeyPair,
    OpenAuthority,
    Served,
    make_csr,
    refusal_of,
    serve,
    svid_of,
)
from tests.issuing_backends import TurnedClock

EVIDENCE = b"evidence-of-web"
POD = "8b1c0f8e"


@pytest.fixture
def attestor() -> FakeAttestor:
    return FakeAttestor(known={EVIDENCE: (WEB, POD)})


@pytest.fixture
async def served(tmp_path: Path, attestor: FakeAttestor) -> AsyncIterator[Served]:
    limits = IssuingLimits(database_wait_seconds=2.0, attestations=2, attestation_seconds=5.0)
    with OpenAuthority(tmp_path, TurnedClock(), limits=limits) as world:
        async with serve(world, EvidenceSources(attestors=(attestor,), entries=attestor.entries)) as running:
            yield running


async def refused(served: Served, request: pb.ProveRequest) -> RefusalReason:
    """Why the request is refused; the caller is told the words for it."""
    error = await refusal_of(served.joining.Prove(request))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    reason = RefusalReason(served.world.refusals()[-1])
    assert error.details() == TOLD.get(reason, NOT_PERMITTED)
    assert served.world.authority.tally()["prove", reason] >= 1
    return reason


async def prove(served: Served, pair: HostKeyPair, evidence: bytes = EVIDENCE) -> X509Svid:
    key = new_key()
    return svid_of(await served.joining.Prove(pair.prove(evidence, make_csr(key))), key)


async def attest(served: Served, pair: HostKeyPair) -> pb.SvidResponse:
    challenge = await served.joining.Challenge(pb.ChallengeRequest(host_key_id=pair.key_id))
    return await served.joining.Attest(pair.attest(challenge.nonce))


async def renew(served: Served, svid: X509Svid) -> X509Svid:
    key = new_key()
    return svid_of(await served.renewal(svid).Renew(pb.RenewRequest(csr=make_csr(key))), key)


async def test_evidence_gets_the_identity_that_its_entry_gives(served: Served) -> None:
    pair = HostKeyPair()
    assert (await prove(served, pair)).spiffe_id == WEB
    (enrolled,) = served.world.authority.host_keys()
    assert enrolled.key_id == pair.key_id
    assert enrolled.provenance is not None
    assert (enrolled.provenance.kind, enrolled.provenance.subject) == ("fake", POD)
    assert served.world.authority.issued()[0].proved_by == "prove"


async def test_an_entry_bounds_the_lifetime(served: Served, attestor: FakeAttestor) -> None:
    async def life(asked: int) -> int:
        answer = await served.joining.Prove(HostKeyPair().prove(evidence_of(attestor), lifetime_seconds=asked))
        return int(answer.not_after - answer.not_before) - 60

    assert await life(0) == 3600
    attestor.lifetime_seconds = 900
    assert [await life(asked) for asked in (0, 300, 7200)] == [900, 300, 900]


def evidence_of(attestor: FakeAttestor) -> bytes:
    """New evidence of another subject."""
    evidence = b"evidence-%d" % len(attestor.known)
    attestor.known[evidence] = (WEB, evidence.decode())
    return evidence


async def test_evidence_serves_one_host_key_however_it_is_written(served: Served) -> None:
    pair = HostKeyPair()
    await prove(served, pair)
    await prove(served, pair)  # whose reply was lost
    assert await refused(served, HostKeyPair().prove(EVIDENCE)) is RefusalReason.EVIDENCE_SPENT
    assert await refused(served, HostKeyPair().prove(EVIDENCE + b"==")) is RefusalReason.EVIDENCE_SPENT


async def test_of_many_keys_with_the_same_evidence_at_once_one_wins(served: Served) -> None:
    async def present() -> bool:
        try:
            return bool((await served.joining.Prove(HostKeyPair().prove(EVIDENCE))).chain)
        except grpc.aio.AioRpcError as error:
            assert error.details() == TOLD[RefusalReason.EVIDENCE_SPENT]
            return False

    assert (await asyncio.gather(*(present() for _ in range(12)))).count(True) == 1
    assert len(served.world.authority.host_keys()) == 1


@pytest.mark.parametrize("fault", list(EvidenceFault))
async def test_what_is_wrong_with_evidence_is_told_and_counted(served: Served, fault: EvidenceFault) -> None:
    secret = f"{fault}:secret-part".encode()
    assert await refused(served, HostKeyPair().prove(secret)) == f"evidence_{fault}"
    assert "secret-part" not in str(served.world.log_lines())
    assert served.world.authority.host_keys() == []


async def test_evidence_that_ended_on_the_way_is_refused(served: Served, attestor: FakeAttestor) -> None:
    attestor.not_after = served.world.clock.now() - 1
    assert await refused(served, HostKeyPair().prove(EVIDENCE)) is RefusalReason.EVIDENCE_EXPIRED


async def test_evidence_of_a_kind_that_nobody_reads_is_refused_unasked(served: Served, attestor: FakeAttestor) -> None:
    for kind in ("other", "", "x" * 4000, "fake\n"):
        assert await refused(served, HostKeyPair().prove(EVIDENCE, kind=kind)) is RefusalReason.EVIDENCE_KIND_UNKNOWN
    assert attestor.asked == []


async def test_without_platforms_there_is_no_evidence(tmp_path: Path) -> None:
    with OpenAuthority(tmp_path, TurnedClock()) as world:
        async with serve(world) as served:
            assert await refused(served, HostKeyPair().prove(EVIDENCE)) is RefusalReason.EVIDENCE_KIND_UNKNOWN


@pytest.mark.parametrize(
    "identity",
    [
        SpiffeId.workload(SHOP, "ringfence-system", "controlplane"),
        SpiffeId.workload(TrustDomain("other.example"), "shop", "web"),
        SpiffeId.parse("spiffe://shop.example/web"),
    ],
)
async def test_an_entry_for_what_is_no_workload_of_this_mesh_gives_nothing(
    served: Served, attestor: FakeAttestor, identity: SpiffeId
) -> None:
    attestor.known[b"odd"] = (identity, "odd")
    assert await refused(served, HostKeyPair().prove(b"odd")) is RefusalReason.NOT_REGISTERED


async def test_without_an_entry_good_evidence_gives_nothing(tmp_path: Path, attestor: FakeAttestor) -> None:
    with OpenAuthority(tmp_path, TurnedClock()) as world:
        async with serve(world, EvidenceSources(attestors=(attestor,))) as served:
            assert await refused(served, HostKeyPair().prove(EVIDENCE)) is RefusalReason.NOT_REGISTERED
    assert f"fake:subject:{POD}" in world.log_lines()[-1]["detail"]


async def test_evidence_and_key_are_bound_by_the_proof(served: Served, attestor: FakeAttestor) -> None:
    pair, other = HostKeyPair(), HostKeyPair()
    stolen = pair.prove(EVIDENCE)
    requests = [
        pair.prove(EVIDENCE, csr=make_csr()),
        pair.prove(EVIDENCE, host_key_proof=b""),
        pair.prove(b"another", evidence=EVIDENCE),
        pb.ProveRequest(
            kind=stolen.kind, evidence=stolen.evidence, csr=stolen.csr,
            host_public_key=other.spki, host_key_proof=stolen.host_key_proof,
        ),
    ]  # fmt: skip
    for request in requests:
        assert await refused(served, request) is RefusalReason.HOST_KEY_PROOF_INVALID
    assert attestor.asked == [], "a platform is asked for nobody who holds no key"
    await prove(served, pair)  # nothing of it was spent


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host_public_key": b""}, "host key is not"),
        ({"csr": b"rubbish"}, "csr"),
        ({"evidence": b""}, "evidence of 0 bytes"),
        ({"evidence": b"x" * (EVIDENCE_LIMIT_BYTES + 1)}, "evidence of 16385 bytes"),
        ({"lifetime_seconds": 5}, "below this authority's floor"),
    ],
)
async def test_what_is_no_request_is_told(served: Served, changes: dict[str, bytes], words: str) -> None:
    error = await refusal_of(served.joining.Prove(HostKeyPair().prove(EVIDENCE, **changes)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in str(error.details())


async def test_a_platform_that_cannot_say_is_worth_another_try(served: Served, attestor: FakeAttestor) -> None:
    attestor.away, pair = True, HostKeyPair()
    error = await refusal_of(served.joining.Prove(pair.prove(EVIDENCE)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    attestor.away = False
    await prove(served, pair)
    attestor.away = True
    assert (await refusal_of(attest(served, pair))).code() is grpc.StatusCode.UNAVAILABLE
    assert served.world.authority.tally()["attest", "attestor_unavailable"] == 1


async def test_a_platform_that_hangs_is_waited_for_to_the_deadline(tmp_path: Path, attestor: FakeAttestor) -> None:
    attestor.hangs = True
    with OpenAuthority(tmp_path, TurnedClock(), limits=IssuingLimits(attestation_seconds=0.05)) as world:
        async with serve(world, EvidenceSources(attestors=(attestor,), entries=attestor.entries)) as served:
            error = await refusal_of(served.joining.Prove(HostKeyPair().prove(EVIDENCE)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert attestor.at_once == 0


async def test_no_more_are_asked_about_at_once_than_the_settings_allow(served: Served, attestor: FakeAttestor) -> None:
    evidence = [evidence_of(attestor) for _ in range(20)]
    await asyncio.gather(*(prove(served, HostKeyPair(), one) for one in evidence))
    assert len(attestor.asked) == 20
    assert attestor.most_at_once <= 2


async def test_a_host_key_of_a_pod_that_is_gone_attests_nothing(served: Served, attestor: FakeAttestor) -> None:
    pair = HostKeyPair()
    await prove(served, pair)
    assert (await attest(served, pair)).spiffe_id == str(WEB)
    attestor.gone.add(POD)
    error = await refusal_of(attest(served, pair))
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, TOLD[RefusalReason.SUBJECT_GONE])
    assert served.world.refusals() == [RefusalReason.SUBJECT_GONE]


async def test_nobody_is_asked_about_a_host_key_until_it_is_proved(served: Served, attestor: FakeAttestor) -> None:
    pair = HostKeyPair()
    await prove(served, pair)
    challenge = await served.joining.Challenge(pb.ChallengeRequest(host_key_id=pair.key_id))
    await refusal_of(served.joining.Attest(pair.attest(challenge.nonce, signature=b"x")))
    assert served.world.refusals() == [RefusalReason.SIGNATURE_INVALID]
    assert attestor.asked == ["attest"]


async def test_an_svid_of_a_pod_that_is_gone_is_not_renewed(served: Served, attestor: FakeAttestor) -> None:
    svid = await renew(served, await prove(served, HostKeyPair()))
    attestor.gone.add(POD)
    error = await refusal_of(served.renewal(svid).Renew(pb.RenewRequest(csr=make_csr())))
    assert error.details() == TOLD[RefusalReason.SUBJECT_GONE]
    assert served.world.refusals() == [RefusalReason.SUBJECT_GONE]


async def test_a_platform_that_cannot_say_costs_no_renewal(served: Served, attestor: FakeAttestor) -> None:
    svid = await prove(served, HostKeyPair())
    attestor.away = True
    assert (await renew(served, svid)).spiffe_id == WEB


async def test_lines_that_began_with_a_token_are_nobodys_but_ours(served: Served, attestor: FakeAttestor) -> None:
    key, pair = new_key(), HostKeyPair()
    svid = svid_of(await served.joining.Join(pair.join(served.world.token(WEB), make_csr(key))), key)
    await renew(served, svid)
    await attest(served, pair)
    assert attestor.asked == []


async def test_a_host_key_by_evidence_is_worth_nothing_where_its_platform_is_not(
    tmp_path: Path, attestor: FakeAttestor
) -> None:
    pair = HostKeyPair()
    with OpenAuthority(tmp_path, TurnedClock()) as world:
        async with serve(world, EvidenceSources(attestors=(attestor,), entries=attestor.entries)) as served:
            await prove(served, pair)
        async with serve(world) as served:
            error = await refusal_of(attest(served, pair))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert world.refusals() == [RefusalReason.EVIDENCE_KIND_UNKNOWN]
