"""A zoo of rogue certificates: each is refused inside the handshake, for its own reason, and no app byte moves.

Every rogue tries both roles. As a client it may believe itself connected for a moment (TLS 1.3 lets the client send
first) and sends app bytes at once; they must never come out at the server.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from OpenSSL import SSL

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import SpiffeId, VerifyReason, X509Svid
from sidecar.tls import TlsEngine, TlsFailed, TlsFault, TlsIdentity
from tests.pki import TestCa, key_usage
from tests.tls_ends import CLIENT_SECRET, SERVER_SECRET, End, Outcome, RawEnd, meet, only, raw_context, refused_by_peer

NOW = 1_800_000_000.0
WEB = "spiffe://shop.example/ns/shop/sa/web"
GOOD_ID = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
WEB_ID = SpiffeId.parse(WEB)

SHOP = TestCa("shop.example", now=NOW)
OTHER_SHOP = TestCa("shop.example", now=NOW)  # another CA that claims the same trust domain
PARTNER = TestCa("partner.example", now=NOW)  # its bundle is held
STRANGER = TestCa("stranger.example", now=NOW)  # its bundle is not


def _bundles() -> list:
    return [SHOP.bundle(), PARTNER.bundle()]


def _good(clock: FakeClock | None = None) -> TlsIdentity:
    return TlsIdentity(SHOP.svid(GOOD_ID), _bundles(), clock or FakeClock(NOW))


def _svid(**rogue: object) -> X509Svid:
    return SHOP.svid(WEB, **rogue)  # type: ignore[arg-type]


def _deep(intermediates: int) -> X509Svid:
    issuer = SHOP.root
    for _ in range(intermediates):
        issuer = SHOP.intermediate(issuer)
    return SHOP.svid(WEB, issuer=issuer)


def _raw_san(der: bytes) -> X509Svid:
    """A leaf whose subject alternative name is ``der``, readable or not."""
    san = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.17"), der)
    return _svid(san=False, extra=[(san, True)])


R = VerifyReason
ROGUES: dict[str, tuple[Callable[[], X509Svid], VerifyReason]] = {
    "two URI names": (lambda: _svid(uris=[WEB, str(GOOD_ID)]), R.SPIFFE_ID_COUNT),
    "the same URI name twice": (lambda: _svid(uris=[WEB, WEB]), R.SPIFFE_ID_COUNT),
    "a SPIFFE ID and another URI": (lambda: _svid(uris=[WEB, "https://shop.example/"]), R.SPIFFE_ID_COUNT),
    "no subject alternative name": (lambda: _svid(san=False), R.SPIFFE_ID_COUNT),
    "a DNS name only": (lambda: _svid(uris=[], dns=["web.shop.example"]), R.SPIFFE_ID_COUNT),
    "unreadable names": (lambda: _raw_san(b"\x30\x05\x86\x7fxyz"), R.MALFORMED),
    "a URI name beyond ASCII": (lambda: _raw_san(b"\x30\x0c\x86\x0aspiffe://\xc3"), R.MALFORMED),
    "a CA as a leaf": (lambda: _svid(ca=True), R.LEAF_RULES),
    "keyCertSign": (lambda: _svid(usage=key_usage("digital_signature", "key_cert_sign")), R.LEAF_RULES),
    "cRLSign": (lambda: _svid(usage=key_usage("digital_signature", "crl_sign")), R.LEAF_RULES),
    "no key usage": (lambda: _svid(usage=None), R.LEAF_RULES),
    "key usage not critical": (lambda: _svid(usage_critical=False), R.LEAF_RULES),
    "no digitalSignature": (lambda: _svid(usage=key_usage("key_agreement")), R.LEAF_RULES),
    "clientAuth alone": (lambda: _svid(extended=[ExtendedKeyUsageOID.CLIENT_AUTH]), R.LEAF_RULES),
    "serverAuth alone": (lambda: _svid(extended=[ExtendedKeyUsageOID.SERVER_AUTH]), R.LEAF_RULES),
    "any extended use": (lambda: _svid(extended=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), R.LEAF_RULES),
    "expired": (lambda: _svid(not_before=-7200, lifetime=-1), R.EXPIRED),
    "not yet valid": (lambda: _svid(not_before=2, lifetime=3600), R.NOT_YET_VALID),
    "an expired issuer": (
        lambda: _svid(issuer=SHOP.intermediate(SHOP.root, lifetime=-1)),
        R.EXPIRED,
    ),
    "another CA, same ID": (lambda: OTHER_SHOP.svid(WEB), R.UNTRUSTED),
    "another CA, with its root": (
        lambda: OTHER_SHOP.svid(WEB, chain=[*OTHER_SHOP.issuing.above, OTHER_SHOP.root.der]),
        R.UNTRUSTED,
    ),
    "another CA, with our issuer in its chain": (
        lambda: OTHER_SHOP.svid(WEB, chain=[SHOP.issuing.der, SHOP.root.der]),
        R.UNTRUSTED,
    ),
    "our ID from a federated CA": (
        lambda: PARTNER.svid(WEB, issuer=PARTNER.intermediate(PARTNER.root)),
        R.UNTRUSTED,
    ),
    "a trust domain without a bundle": (
        lambda: STRANGER.svid("spiffe://stranger.example/ns/shop/sa/web"),
        R.UNKNOWN_TRUST_DOMAIN,
    ),
    "a longer name that ends in ours": (
        lambda: SHOP.svid("spiffe://evil-shop.example/ns/shop/sa/web", issuer=SHOP.root),
        R.UNKNOWN_TRUST_DOMAIN,
    ),
    "an issuer constrained to another host": (
        lambda: _svid(issuer=SHOP.intermediate(SHOP.root, permitted_host="dev.shop.example")),
        R.UNTRUSTED,
    ),
    "self-signed": (lambda: _svid(self_signed=True), R.UNTRUSTED),
    "the issuer left out": (lambda: _svid(chain=[]), R.UNTRUSTED),
    "a leaf as an issuer": (
        lambda: _svid(issuer=SHOP.intermediate(SHOP.root, ca=False, usage=key_usage("digital_signature"))),
        R.UNTRUSTED,
    ),
    "an issuer that does not say CA": (lambda: _svid(issuer=SHOP.intermediate(SHOP.root, ca=None)), R.UNTRUSTED),
    "an issuer without keyCertSign": (
        lambda: _svid(issuer=SHOP.intermediate(SHOP.root, usage=key_usage("crl_sign"))),
        R.UNTRUSTED,
    ),
    "an unknown critical extension": (
        lambda: _svid(extra=[(x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)]),
        R.UNTRUSTED,
    ),
    "four intermediates": (lambda: _deep(4), R.TOO_LONG_CHAIN),
    "eight intermediates": (lambda: _deep(8), R.TOO_LONG_CHAIN),
}

INVALID_IDS = [
    "",
    "spiffe://",
    "spiffe://shop.example",
    "spiffe://shop.example/",
    "spiffe:///ns/shop/sa/web",
    "spiffe:/shop.example/web",
    "https://shop.example/ns/shop/sa/web",
    "spiffe://shop.example/ns/shop/sa/web/",
    "spiffe://shop.example//ns/shop/sa/web",
    "spiffe://shop.example/ns/./sa/web",
    "spiffe://shop.example/ns/../sa/web",
    "spiffe://shop.example/ns/shop/sa/%77eb",
    "spiffe://shop.example/ns/shop/sa/web?admin",
    "spiffe://shop.example/ns/shop/sa/web#top",
    "spiffe://web@shop.example/ns/shop/sa/web",
    "spiffe://shop.example:8443/ns/shop/sa/web",
    "spiffe://shop.example/ns/shop/sa/web\n",
    "spiffe://shop.example/ns/shop/sa/web\x00.evil",
    " spiffe://shop.example/ns/shop/sa/web",
    "spiffe://shop.example/" + "a" * 2048,
]


def _as_client(rogue: X509Svid) -> tuple[Outcome, TlsFailed]:
    """The rogue dials a good server; the outcome and what the server says."""
    server = _good().server()
    outcome = meet(RawEnd(raw_context(rogue), is_client=True), server)
    assert not server.established
    assert server.peer is None
    assert outcome.server_got == b""
    assert outcome.client_got == b""
    assert isinstance(outcome.server_error, TlsFailed)
    assert refused_by_peer(outcome.client_error)
    return outcome, outcome.server_error


def _as_server(rogue: X509Svid) -> tuple[Outcome, TlsFailed]:
    """A good client dials the rogue, wanting exactly the identity that it claims."""
    client = _good().client(frozenset({WEB_ID, rogue.spiffe_id}))
    outcome = meet(client, RawEnd(raw_context(rogue, is_client=False), is_client=False))
    assert not client.established
    assert client.peer is None
    assert outcome.server_got == b""
    assert outcome.client_got == b""
    assert isinstance(outcome.client_error, TlsFailed)
    assert refused_by_peer(outcome.server_error)
    return outcome, outcome.client_error


@pytest.mark.parametrize("role", [_as_client, _as_server], ids=["client", "server"])
@pytest.mark.parametrize("name", ROGUES)
def test_rogue_is_refused_for_its_own_reason(name: str, role: Callable[[X509Svid], tuple[Outcome, TlsFailed]]) -> None:
    make, reason = ROGUES[name]
    _outcome, failed = role(make())
    assert failed.verification is not None, failed
    assert (failed.fault, failed.verification.reason) == (TlsFault.VERIFICATION, reason), failed


@pytest.mark.parametrize("role", [_as_client, _as_server], ids=["client", "server"])
@pytest.mark.parametrize("uri", INVALID_IDS)
def test_invalid_spiffe_id_is_refused(uri: str, role: Callable[[X509Svid], tuple[Outcome, TlsFailed]]) -> None:
    # An unconstrained issuer, so that the refusal is ours.
    rogue = SHOP.svid(WEB, uris=[uri], issuer=SHOP.intermediate(SHOP.root))
    _outcome, failed = role(rogue)
    assert failed.verification is not None, failed
    assert failed.verification.reason is VerifyReason.SPIFFE_ID_INVALID


GOOD: dict[str, Callable[[], X509Svid]] = {
    "through the constrained issuer": _svid,
    "no intermediate": lambda: _svid(issuer=SHOP.root),
    "the root shown too": lambda: _svid(chain=[*SHOP.issuing.above, SHOP.root.der]),
    "three intermediates": lambda: _deep(3),
    "no extended key usage": lambda: _svid(extended=None),
    "no basic constraints": lambda: _svid(ca=None),
    "key agreement besides": lambda: _svid(usage=key_usage("digital_signature", "key_agreement", "key_encipherment")),
    "DNS names besides": lambda: _svid(dns=["web.shop.example", "web"]),
    "in its last second": lambda: _svid(not_before=-7200, lifetime=0),
    "in its first second": lambda: _svid(not_before=0),
    "upper case scheme and trust domain": lambda: _svid(
        uris=["SPIFFE://Shop.Example/ns/shop/sa/web"], issuer=SHOP.intermediate(SHOP.root)
    ),
    "the longest ID": lambda: SHOP.svid("spiffe://shop.example/" + "a" * (2048 - 22)),
    "a federated trust domain": lambda: PARTNER.svid("spiffe://partner.example/ns/shop/sa/web"),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_neighbours_of_the_rogues_are_accepted_in_both_roles(name: str) -> None:
    svid = GOOD[name]()
    server = _good().server()
    outcome = meet(RawEnd(raw_context(svid), is_client=True), server)
    assert (outcome.server_error, outcome.client_error) == (None, None)
    assert server.peer is not None
    assert server.peer.spiffe_id == svid.spiffe_id
    assert (outcome.server_got, outcome.client_got) == (CLIENT_SECRET, SERVER_SECRET)

    client = _good().client(only(svid.spiffe_id))
    outcome = meet(client, RawEnd(raw_context(svid, is_client=False), is_client=False))
    assert (outcome.server_error, outcome.client_error) == (None, None)
    assert client.peer is not None
    assert client.peer.spiffe_id == svid.spiffe_id
    assert (outcome.server_got, outcome.client_got) == (CLIENT_SECRET, SERVER_SECRET)


def test_wrong_identity_behind_the_dialled_address_is_refused() -> None:
    client = _good().client(only(SpiffeId.parse("spiffe://shop.example/ns/shop/sa/payments")))
    server = TlsIdentity(_svid(), _bundles(), FakeClock(NOW)).server()
    outcome = meet(client, server)
    assert client.failure is not None
    assert client.failure.reason is VerifyReason.UNEXPECTED_PEER
    assert not server.established
    assert isinstance(outcome.server_error, TlsFailed)
    assert outcome.server_error.fault is TlsFault.PEER_ALERT
    assert outcome.server_error.reason == "bad_certificate"
    assert outcome.server_got == outcome.client_got == b""


def test_client_that_expects_nobody_takes_nobody() -> None:
    client = _good().client(frozenset())
    meet(client, TlsIdentity(_svid(), _bundles(), FakeClock(NOW)).server())
    assert client.failure is not None
    assert client.failure.reason is VerifyReason.UNEXPECTED_PEER


def test_client_without_a_certificate_is_refused() -> None:
    server = _good().server()
    outcome = meet(RawEnd(raw_context(None), is_client=True), server)
    assert server.failure is not None
    assert server.failure.reason is VerifyReason.NO_CERTIFICATE
    assert not server.established
    assert outcome.server_got == b""
    assert "certificate required" in str(outcome.client_error)


def test_identity_expires_by_our_clock_and_not_the_machines() -> None:
    clock = FakeClock(NOW)
    identity = _good(clock)
    clock.advance(3601)
    server = identity.server()
    meet(RawEnd(raw_context(_svid()), is_client=True), server)
    assert server.failure is not None
    assert server.failure.reason is VerifyReason.EXPIRED


def test_end_within_the_last_second_counts() -> None:
    server = _good(FakeClock(NOW + 3600.5)).server()
    meet(RawEnd(raw_context(_svid()), is_client=True), server)
    assert server.failure is not None
    assert server.failure.reason is VerifyReason.EXPIRED


def test_tls_1_2_is_refused() -> None:
    server = _good().server()
    outcome = meet(RawEnd(raw_context(_svid(), version=SSL.TLS1_2_VERSION), is_client=True), server)
    assert isinstance(outcome.server_error, TlsFailed)
    assert outcome.server_error.fault is TlsFault.PROTOCOL_VERSION
    assert outcome.server_got == b""
    assert "protocol version" in str(outcome.client_error)


def test_tls_1_2_server_is_refused() -> None:
    client = _good().client(only(WEB_ID))
    old = raw_context(_svid(), version=SSL.TLS1_2_VERSION, is_client=False)
    outcome = meet(client, RawEnd(old, is_client=False))
    assert not client.established
    assert isinstance(outcome.client_error, TlsFailed)
    assert outcome.client_got == outcome.server_got == b""


@pytest.mark.parametrize("alpn", [None, [b"http/1.1"], [b"h2c", b"h3"]], ids=["none", "http/1.1", "look-alikes"])
def test_client_without_h2_is_refused(alpn: list[bytes] | None) -> None:
    server = _good().server()
    outcome = meet(RawEnd(raw_context(_svid(), alpn=alpn), is_client=True), server)
    assert isinstance(outcome.server_error, TlsFailed)
    assert outcome.server_error.fault is TlsFault.NO_H2
    assert not server.established
    assert outcome.server_got == outcome.client_got == b""


def test_server_without_h2_is_refused() -> None:
    client = _good().client(only(WEB_ID))
    outcome = meet(client, RawEnd(raw_context(_svid(), alpn=None, is_client=False), is_client=False))
    assert isinstance(outcome.client_error, TlsFailed)
    assert outcome.client_error.fault is TlsFault.NO_H2
    assert not client.established
    assert outcome.server_got == outcome.client_got == b""


def _offer_session(server_of: Callable[[], End], rogue: X509Svid | None) -> tuple[Outcome, End]:
    """A good client connects; then a rogue offers the good one's session. What comes of the second handshake."""
    good = RawEnd(raw_context(_svid()), is_client=True)  # kept: OpenSSL spoils the session of a connection let go
    first = server_of()
    plain_hello = meet(good, first).crossed[0]
    assert first.established
    second = server_of()
    outcome = meet(RawEnd(raw_context(rogue), is_client=True, session=good.connection.get_session()), second)
    assert len(outcome.crossed[0]) > len(plain_hello), "the rogue offered no session"
    return outcome, second


@pytest.mark.parametrize(
    ("rogue", "reason"),
    [
        (lambda: _svid(not_before=-7200, lifetime=-1), VerifyReason.EXPIRED),
        (lambda: OTHER_SHOP.svid(WEB), VerifyReason.UNTRUSTED),
        (lambda: None, VerifyReason.NO_CERTIFICATE),
    ],
    ids=["expired", "another CA", "no certificate"],
)
def test_session_of_a_good_connection_opens_no_door_to_a_rogue(
    rogue: Callable[[], X509Svid | None], reason: VerifyReason
) -> None:
    outcome, server = _offer_session(_good().server, rogue())
    assert isinstance(server, TlsEngine)
    assert server.failure is not None
    assert server.failure.reason is reason
    assert not server.established
    assert outcome.server_got == b""


def test_session_would_open_the_door_of_a_server_that_resumes() -> None:
    """The control: the same offer, to a context that allows resumption, lets in who has no certificate at all."""
    context = raw_context(SHOP.svid(GOOD_ID), is_client=False)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.set_session_id(b"resuming")
    outcome, server = _offer_session(lambda: RawEnd(context, is_client=False), None)
    assert server.established
    assert outcome.server_got == CLIENT_SECRET


def test_offered_session_leads_to_a_full_handshake_with_verification() -> None:
    other = SHOP.svid("spiffe://shop.example/ns/shop/sa/payments")
    _outcome, server = _offer_session(_good().server, other)
    assert isinstance(server, TlsEngine)
    assert server.peer is not None
    assert server.peer.spiffe_id == other.spiffe_id


def test_stolen_certificate_without_its_key_proves_nothing() -> None:
    stolen = _svid()
    with pytest.raises(ValueError, match="private key is not the one"):
        TlsIdentity(
            X509Svid(
                spiffe_id=stolen.spiffe_id,
                chain=stolen.chain,
                private_key=_svid().private_key,
                not_before=stolen.not_before,
                not_after=stolen.not_after,
                serial=stolen.serial,
            ),
            _bundles(),
            FakeClock(NOW),
        )
