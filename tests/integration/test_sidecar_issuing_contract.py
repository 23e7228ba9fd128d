"""What a sidecar relies on when it joins, attests and renews: one suite, run on the fake CA and on the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ringfence.kit.clock import Clock, SystemClock
from ringfence.spiffe import X509Svid, fingerprint
from sidecar.identity.acceptance import Accepted, accept
from sidecar.identity.anchor import Anchor, RootFingerprint
from sidecar.identity.client import Evidence, IssuingClient
from sidecar.identity.errors import IdentityRefused, IdentityUnavailable, WrongRoot
from sidecar.identity.host_key import HostKey
from sidecar.identity.request import draw_request
from sidecar.settings import HostPort
from tests.attestors import KIND
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, WEB, Backend, FakeBackend, RealBackend, TurnedClock
from tests.pki import TestCa, new_key

DEADLINE_SECONDS = 10.0


@pytest.fixture(params=["fake", "real"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend = FakeBackend() if request.param == "fake" else RealBackend(tmp_path)
    await made.start()
    yield made
    await made.stop()


def client_of(backend: Backend, *, anchor: Anchor | None = None, clock: Clock | None = None) -> IssuingClient:
    pinned = anchor or RootFingerprint(sha256=backend.root_fingerprint)
    return IssuingClient(
        join=backend.servers.join,
        renew=backend.servers.renew,
        trust_domain=TRUST_DOMAIN,
        anchor=lambda: pinned,
        lifetime_seconds=0,
        clock=clock or SystemClock(),
    )


def new_host_key() -> HostKey:
    return HostKey(new_key())


async def joined(backend: Backend, host_key: HostKey, token: str | None = None) -> Accepted:
    request = draw_request(ORDERS)
    issued = await client_of(backend).join(token or backend.mint(ORDERS), host_key, request.csr, DEADLINE_SECONDS)
    return accept(issued, request.private_key, ORDERS)


async def renewed(backend: Backend, svid: X509Svid) -> Accepted:
    request = draw_request(ORDERS)
    issued = await client_of(backend).renew(svid, backend.bundle, request.csr, DEADLINE_SECONDS)
    return accept(issued, request.private_key, ORDERS)


async def attested(backend: Backend, host_key: HostKey) -> Accepted:
    request = draw_request(ORDERS)
    issued = await client_of(backend).attest(host_key, request.csr, DEADLINE_SECONDS)
    return accept(issued, request.private_key, ORDERS)


async def test_a_token_gets_the_identity_it_is_bound_to(backend: Backend) -> None:
    accepted = await joined(backend, new_host_key())
    assert accepted.svid.spiffe_id == ORDERS
    assert accepted.bundle == backend.bundle
    assert abs(accepted.skew_seconds) < 5.0


async def test_a_bundle_file_serves_as_well_as_a_fingerprint(backend: Backend) -> None:
    request = draw_request(ORDERS)
    client = client_of(backend, anchor=backend.bundle)
    issued = await client.join(backend.mint(ORDERS), new_host_key(), request.csr, DEADLINE_SECONDS)
    assert accept(issued, request.private_key, ORDERS).svid.spiffe_id == ORDERS


async def test_a_spent_an_expired_and_a_foreign_token_are_refused_in_the_same_words(backend: Backend) -> None:
    spent = backend.mint(ORDERS)
    await joined(backend, new_host_key(), spent)
    expired = backend.mint(ORDERS, ttl_seconds=60.0)
    foreign = "0" * len(spent)
    backend.clock.offset_seconds = 61.0
    told = set()
    for token in (spent, expired, foreign):
        with pytest.raises(IdentityRefused) as refusal:
            await joined(backend, new_host_key(), token)
        told.add(str(refusal.value).partition(", request id")[0])
    assert len(told) == 1


async def test_an_enrolled_host_key_gets_the_same_identity_again(backend: Backend) -> None:
    host_key = new_host_key()
    first = await joined(backend, host_key)
    again = await attested(backend, host_key)
    assert again.svid.spiffe_id == first.svid.spiffe_id
    assert again.svid.serial != first.svid.serial


async def test_a_host_key_that_was_never_enrolled_is_refused(backend: Backend) -> None:
    with pytest.raises(IdentityRefused):
        await attested(backend, new_host_key())


async def test_a_revoked_host_key_is_refused(backend: Backend) -> None:
    host_key = new_host_key()
    await joined(backend, host_key)
    backend.revoke_host_key(host_key.id)
    with pytest.raises(IdentityRefused):
        await attested(backend, host_key)


async def proved(backend: Backend, host_key: HostKey, evidence: bytes, kind: str = KIND) -> Accepted:
    request = draw_request(ORDERS)
    shown = Evidence(kind=kind, content=evidence)
    issued = await client_of(backend).prove(shown, host_key, request.csr, DEADLINE_SECONDS)
    return accept(issued, request.private_key, ORDERS)


async def test_evidence_gets_the_identity_of_whom_it_is_and_its_host_key_serves_again(backend: Backend) -> None:
    host_key = new_host_key()
    first = await proved(backend, host_key, backend.give_evidence(ORDERS))
    assert first.svid.spiffe_id == ORDERS
    again = await attested(backend, host_key)
    assert again.svid.spiffe_id == ORDERS
    assert (await renewed(backend, again.svid)).svid.spiffe_id == ORDERS


async def test_evidence_holds_again_for_its_host_key_and_for_no_other(backend: Backend) -> None:
    host_key, evidence = new_host_key(), backend.give_evidence(ORDERS)
    await proved(backend, host_key, evidence)
    await proved(backend, host_key, evidence)
    with pytest.raises(IdentityRefused, match="the evidence was used for another host key"):
        await proved(backend, new_host_key(), evidence)


async def test_evidence_that_is_no_good_and_of_another_kind_is_refused_in_words(backend: Backend) -> None:
    with pytest.raises(IdentityRefused, match="the evidence is not"):
        await proved(backend, new_host_key(), b"made up")
    with pytest.raises(IdentityRefused, match="evidence of this kind is not taken here"):
        await proved(backend, new_host_key(), backend.give_evidence(ORDERS), "other")


async def test_a_host_key_of_one_that_is_gone_is_refused(backend: Backend) -> None:
    host_key = new_host_key()
    await proved(backend, host_key, backend.give_evidence(ORDERS))
    backend.end_all_subjects()
    with pytest.raises(IdentityRefused):
        await attested(backend, host_key)


async def test_a_living_svid_is_renewed_with_a_new_key(backend: Backend) -> None:
    first = await joined(backend, new_host_key())
    second = await renewed(backend, first.svid)
    assert second.svid.serial != first.svid.serial
    assert second.svid.private_key.public_key() != first.svid.private_key.public_key()
    assert second.svid.spiffe_id == ORDERS


async def test_renewal_without_an_svid_of_this_ca_gets_nothing(backend: Backend) -> None:
    with pytest.raises(IdentityUnavailable):
        await renewed(backend, TestCa(TRUST_DOMAIN).svid(ORDERS))


async def test_a_wrong_fingerprint_stops_before_the_token_is_shown(backend: Backend) -> None:
    wrong = TestCa(TRUST_DOMAIN).root.der
    token = backend.mint(ORDERS)
    client = client_of(backend, anchor=RootFingerprint(sha256=fingerprint(wrong)))
    with pytest.raises(WrongRoot, match=fingerprint(wrong)) as refusal:
        await client.join(token, new_host_key(), draw_request(ORDERS).csr, DEADLINE_SECONDS)
    assert "\n" not in str(refusal.value)
    # The token was not shown to whoever answered: it is still good.
    await joined(backend, new_host_key(), token)


async def test_a_bundle_of_another_ca_stops_before_the_token_is_shown(backend: Backend) -> None:
    token = backend.mint(ORDERS)
    client = client_of(backend, anchor=TestCa(TRUST_DOMAIN).bundle())
    with pytest.raises(WrongRoot):
        await client.join(token, new_host_key(), draw_request(ORDERS).csr, DEADLINE_SECONDS)
    await joined(backend, new_host_key(), token)


async def test_the_pin_of_an_intermediate_is_told_to_be_no_root(backend: Backend) -> None:
    issuing = (await joined(backend, new_host_key())).svid.chain[1]
    client = client_of(backend, anchor=RootFingerprint(sha256=fingerprint(issuing)))
    with pytest.raises(WrongRoot, match="is no root"):
        await client.join(backend.mint(ORDERS), new_host_key(), draw_request(ORDERS).csr, DEADLINE_SECONDS)


async def test_the_token_of_another_workload_is_told_as_such(backend: Backend) -> None:
    with pytest.raises(IdentityRefused, match=str(WEB)):
        await joined(backend, new_host_key(), backend.mint(WEB))


async def test_nobody_at_the_address_is_worth_another_try(backend: Backend) -> None:
    await backend.servers.stop()
    with pytest.raises(IdentityUnavailable):
        await joined(backend, new_host_key())


async def test_a_clock_that_is_behind_still_gets_an_identity(backend: Backend) -> None:
    backend.clock.offset_seconds = 93.0
    accepted = await joined(backend, new_host_key())
    assert accepted.skew_seconds == pytest.approx(93.0, abs=2.0)


async def test_a_clock_that_is_far_ahead_is_told_from_a_false_control_plane(backend: Backend) -> None:
    ahead = TurnedClock()
    ahead.offset_seconds = 7200.0
    client = client_of(backend, clock=ahead)
    with pytest.raises(IdentityUnavailable, match="check the clock"):
        await client.join(backend.mint(ORDERS), new_host_key(), draw_request(ORDERS).csr, DEADLINE_SECONDS)


async def test_a_port_that_speaks_no_tls_is_no_control_plane(backend: Backend) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        backend.servers.join = HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(IdentityUnavailable, match="TLS"):
            await joined(backend, new_host_key())
