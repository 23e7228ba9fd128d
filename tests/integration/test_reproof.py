"""SVIDs are renewed on living links: a proved one goes on, a withheld or forged proof ends it."""

from __future__ import annotations

import asyncio
import contextlib

from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import ChainVerifier, X509Svid
from sidecar.reprove import make_proof
from tests.data_path import API, WEB, HttpClient, Mesh, echo_app, http_app, until
from tests.pki import TestCa


async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"


async def test_a_link_outlives_the_svids_that_it_began_with_when_both_ends_prove_the_new_ones() -> None:
    ca = TestCa("shop.example")
    short = {"web_svid": ca.svid(WEB, lifetime=5.0), "api_svid": ca.svid(API, lifetime=5.0)}
    async with echo_app() as app, Mesh(tcp_app=app, ca=ca, **short) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await ping(reader, writer)
        [before] = mesh.web.outbound.pool.links
        begun_until = before.peer.not_after if before.peer else 0.0
        for _ in range(3):
            mesh.web.renew(ca.svid(WEB, lifetime=30.0))
            mesh.api.renew(ca.svid(API, lifetime=30.0))
            await ping(reader, writer)
        await until(lambda: mesh.web.proofs == ["accepted"] * 3 and mesh.api.proofs == ["accepted"] * 3)
        await until(lambda: mesh.web.clock.now() > begun_until + 0.5)
        await ping(reader, writer)
        assert mesh.web.outbound.pool.links == {before}
        writer.close()


async def test_the_app_is_told_the_new_certificate_of_its_caller_after_a_renewal() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/orders/1")
        mesh.web.renew(mesh.ca.svid(WEB))
        await until(lambda: mesh.api.proofs == ["accepted"])
        await client.ask("GET", "/orders/1")
        client.close()
        hashes = [head.partition(b"Hash=")[2][:64] for head in seen]
        assert len(set(hashes)) == 2


async def test_a_withheld_proof_ends_the_link_when_the_old_svid_is_over() -> None:
    ca = TestCa("shop.example")
    async with echo_app() as app, Mesh(tcp_app=app, ca=ca, web_svid=ca.svid(WEB, lifetime=5.0)) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await ping(reader, writer)
        [link] = mesh.api.inbound.links
        over = link.peer.not_after if link.peer else 0.0
        [own] = mesh.web.outbound.pool.links
        own._own_svid = ca.svid(WEB)  # a sidecar that goes on as if it had renewed, and proves nothing
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert mesh.api.clock.now() >= over
        assert link.end_reason is DenyReason.IDENTITY_EXPIRED
        assert mesh.api.proofs == ["missing"]
        assert mesh.api.log("identity expired")[0]["peer"] == str(WEB)


async def forged(mesh: Mesh, svid: X509Svid) -> DenyReason | None:
    """Renew web with an SVID that api must not take; how its link ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
    await ping(reader, writer)
    [link] = mesh.api.inbound.links
    mesh.web.context.svid = svid
    mesh.web.outbound.pool.renew()
    await until(lambda: link.closed)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    assert mesh.api.proofs == ["refused"]
    return link.end_reason


async def test_a_proof_by_another_authority_with_the_same_id_ends_the_link() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        assert await forged(mesh, TestCa("shop.example").svid(WEB)) is DenyReason.REPROOF_REFUSED


async def test_a_proof_of_another_id_ends_the_link() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        assert await forged(mesh, mesh.ca.svid(API)) is DenyReason.REPROOF_REFUSED


async def test_a_proof_of_an_expired_svid_ends_the_link() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        assert await forged(mesh, mesh.ca.svid(WEB, not_before=-7200, lifetime=-3600)) is DenyReason.REPROOF_REFUSED


async def test_a_replayed_proof_ends_the_link() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await ping(reader, writer)
        [link] = mesh.api.inbound.links
        [sender] = mesh.web.outbound.pool.links
        proof = make_proof(sender._engine, mesh.ca.svid(WEB), 1)
        sender.machine.prove(proof)
        await until(lambda: mesh.api.proofs == ["accepted"])
        sender.machine.prove(proof)
        await until(lambda: link.closed)
        assert link.end_reason is DenyReason.REPROOF_REFUSED
        writer.close()


async def test_new_bundles_end_the_links_of_peers_that_they_no_longer_vouch_for() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await ping(reader, writer)
        [link] = mesh.api.inbound.links
        mesh.api.context.verifier = ChainVerifier([TestCa("shop.example").bundle()])
        mesh.api.inbound.reverify()
        assert link.end_reason is DenyReason.PEER_REFUSED
        writer.close()
