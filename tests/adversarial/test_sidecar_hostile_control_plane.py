"""Whoever answers for the control plane may be hostile: every wait ends, every buffer is bounded, no token leaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from cryptography import x509
from OpenSSL import SSL

from ringfence.kit.clock import SystemClock
from ringfence.spiffe import MAX_CHAIN_CERTIFICATES, X509Svid, control_plane_id, fingerprint
from ringfence.wire.gen import issuing_pb2 as pb
from sidecar.identity.anchor import Anchor, RootFingerprint
from sidecar.identity.client import IssuingClient
from sidecar.identity.errors import IdentityUnavailable, WrongRoot
from sidecar.identity.host_key import HostKey
from sidecar.identity.request import draw_request
from sidecar.settings import HostPort
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, FakeBackend
from tests.pki import TestCa, new_key

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[HostPort]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


TOKEN = "the join token"


async def authenticate(address: HostPort, anchor: Anchor, deadline_seconds: float = 10.0) -> None:
    """Try to join there, with a token that nobody may see who is not the control plane."""
    client = IssuingClient(
        join=address,
        renew=address,
        trust_domain=TRUST_DOMAIN,
        anchor=lambda: anchor,
        lifetime_seconds=0,
        clock=SystemClock(),
    )
    await client.join(TOKEN, HostKey(new_key()), draw_request(ORDERS).csr, deadline_seconds)


PIN = RootFingerprint(sha256="0" * 64)


async def test_a_server_that_says_nothing_is_left() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with serving(silent) as address:
        with pytest.raises(IdentityUnavailable, match=r"no TLS handshake within 0\.05 s"):
            await authenticate(address, PIN, deadline_seconds=0.05)


async def test_a_server_that_drips_is_left() -> None:
    # A record header that promises 16 KiB, and then a byte now and then: no single read ever times out.
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x03\x40\x00")
        while True:
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.001)

    async with serving(drip) as address:
        with pytest.raises(IdentityUnavailable):
            await authenticate(address, PIN, deadline_seconds=0.2)


@pytest.mark.parametrize(
    "flood",
    [b"\0" * 4096, b"\x16\x03\x03\x00\x00" * 800, b"\x14\x03\x03\x00\x01\x01" * 700, b"HTTP/1.1 200 OK\r\n\r\n" * 200],
)
async def test_a_server_that_floods_is_left(flood: bytes) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(flood)
            await writer.drain()

    async with serving(pour) as address:
        with pytest.raises(IdentityUnavailable):
            await authenticate(address, PIN)


async def test_a_server_that_closes_at_once_is_told() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with serving(close) as address:
        with pytest.raises(IdentityUnavailable):
            await authenticate(address, PIN)


def tls_server(
    svid: X509Svid, above: tuple[bytes, ...], maximum: int = SSL.TLS1_3_VERSION
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A TLS server that shows the SVID and whatever is put above it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(maximum)
    context.use_certificate(x509.load_der_x509_certificate(svid.chain[0]))
    context.use_privatekey(svid.private_key)
    for der in above:
        context.add_extra_chain_cert(x509.load_der_x509_certificate(der))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine = SSL.Connection(context, None)
        engine.set_accept_state()
        while True:
            failed = False
            try:
                engine.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                failed = True  # the alert still has to go out
            with suppress(SSL.WantReadError):
                writer.write(engine.bio_read(1 << 20))
            data = b"" if failed else await reader.read(65536)
            if not data:
                await writer.drain()
                writer.write_eof()
                await reader.read()
                break
            engine.bio_write(data)

    return serve


@pytest.fixture
def ca() -> TestCa:
    return TestCa(TRUST_DOMAIN)


async def test_the_pinned_root_alone_proves_nothing(ca: TestCa) -> None:
    # Roots are public: an attacker can show the true root beside a chain of its own.
    other = TestCa(TRUST_DOMAIN)
    forged = other.svid(control_plane_id(TRUST_DOMAIN))
    pin = RootFingerprint(sha256=fingerprint(ca.root.der))
    async with serving(tls_server(forged, (*forged.chain[1:], ca.root.der))) as address:
        with pytest.raises(WrongRoot, match="does not show the pinned root"):
            await authenticate(address, pin)
        with pytest.raises(WrongRoot, match="is not the control plane"):
            await authenticate(address, ca.bundle())


async def test_another_trust_domains_control_plane_is_not_ours() -> None:
    partner = TestCa("partner.example")
    svid = partner.svid(control_plane_id(partner.trust_domain))
    pin = RootFingerprint(sha256=fingerprint(partner.root.der))
    async with serving(tls_server(svid, (*svid.chain[1:], partner.root.der))) as address:
        with pytest.raises(WrongRoot):
            await authenticate(address, pin)


async def test_an_expired_control_plane_is_told_by_the_clock(ca: TestCa) -> None:
    svid = ca.svid(control_plane_id(TRUST_DOMAIN), lifetime=-10.0, not_before=-3600.0)
    pin = RootFingerprint(sha256=fingerprint(ca.root.der))
    async with serving(tls_server(svid, (*svid.chain[1:], ca.root.der))) as address:
        with pytest.raises(IdentityUnavailable, match="is expired by this machine's clock"):
            await authenticate(address, pin)


async def test_an_older_tls_is_not_spoken(ca: TestCa) -> None:
    svid = ca.svid(control_plane_id(TRUST_DOMAIN))
    pin = RootFingerprint(sha256=fingerprint(ca.root.der))
    async with serving(tls_server(svid, (*svid.chain[1:], ca.root.der), SSL.TLS1_2_VERSION)) as address:
        with pytest.raises(IdentityUnavailable, match=r"TLS 1\.3"):
            await authenticate(address, pin)


async def test_a_very_long_chain_is_refused(ca: TestCa) -> None:
    issuer = ca.issuing
    for _ in range(MAX_CHAIN_CERTIFICATES):
        issuer = ca.intermediate(issuer)
    svid = ca.svid(control_plane_id(TRUST_DOMAIN), issuer=issuer)
    pin = RootFingerprint(sha256=fingerprint(ca.root.der))
    async with serving(tls_server(svid, (*svid.chain[1:], ca.root.der))) as address:
        with pytest.raises(WrongRoot, match="too_long_chain"):
            await authenticate(address, pin)


async def test_what_belongs_to_no_chain_counts_for_nothing(ca: TestCa) -> None:
    # A workload's SVID of the true CA, with the control plane's own certificate shown behind it.
    svid = ca.svid(ORDERS)
    extra = ca.svid(control_plane_id(TRUST_DOMAIN)).chain[0]
    pin = RootFingerprint(sha256=fingerprint(ca.root.der))
    async with serving(tls_server(svid, (*svid.chain[1:], extra, ca.root.der))) as address:
        with pytest.raises(WrongRoot, match="is not the control plane"):
            await authenticate(address, pin)


# ------------------------------------------------------------------------------------------ a hostile answer after TLS


@pytest.fixture
async def backend() -> AsyncIterator[FakeBackend]:
    made = FakeBackend()
    await made.start()
    yield made
    await made.stop()


async def join(backend: FakeBackend, deadline_seconds: float = 10.0) -> None:
    anchor = RootFingerprint(sha256=backend.root_fingerprint)
    client = IssuingClient(
        join=backend.servers.join,
        renew=backend.servers.renew,
        trust_domain=TRUST_DOMAIN,
        anchor=lambda: anchor,
        lifetime_seconds=0,
        clock=SystemClock(),
    )
    await client.join(backend.mint(ORDERS), HostKey(new_key()), draw_request(ORDERS).csr, deadline_seconds)


@pytest.mark.parametrize("count", [0, 5])
async def test_an_answer_with_an_impossible_chain_is_not_taken(backend: FakeBackend, count: int) -> None:
    def bend(answer: pb.SvidResponse) -> pb.SvidResponse:
        leaf = answer.chain[0]
        del answer.chain[:]
        answer.chain.extend([leaf] * count)
        return answer

    backend.bend = bend
    with pytest.raises(IdentityUnavailable, match=f"answered with {count} certificates"):
        await join(backend)


@pytest.mark.parametrize("count", [0, 17])
async def test_an_answer_with_impossible_roots_is_not_taken(backend: FakeBackend, count: int) -> None:
    def bend(answer: pb.SvidResponse) -> pb.SvidResponse:
        root = answer.roots[0]
        del answer.roots[:]
        answer.roots.extend([root] * count)
        return answer

    backend.bend = bend
    with pytest.raises(IdentityUnavailable, match=f"{count} roots"):
        await join(backend)


async def test_an_answer_larger_than_any_identity_is_not_received(backend: FakeBackend) -> None:
    backend.bend = lambda _: pb.SvidResponse(chain=[b"x" * (1 << 20)], roots=[b"x"])
    with pytest.raises(IdentityUnavailable, match="larger than max"):
        await join(backend)


async def test_a_ca_that_never_answers_is_left(backend: FakeBackend) -> None:
    hang = asyncio.Event()

    async def enter(call: str, context: object) -> None:
        await hang.wait()

    backend.enter = enter  # type: ignore[method-assign]
    with pytest.raises(IdentityUnavailable):
        await join(backend, deadline_seconds=0.5)
    hang.set()
