"""Renewing over real mutual TLS: the caller is who its certificate says, checked anew at each call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.border import NOT_PERMITTED
from ca.errors import RefusalReason, Refused
from ca.hierarchy import utc
from ca.keys import new_key
from ca.renewal import identify
from ringfence.spiffe import TrustDomain, X509Svid
from ringfence.wire.gen import issuing_pb2 as pb
from tests.authorities import (
    SHOP,
    WEB,
    HostKeyPair,
    OpenAuthority,
    Served,
    make_csr,
    make_hierarchy,
    refusal_of,
    serve,
    svid_of,
)
from tests.issuing_backends import TurnedClock
from tests.pki import key_usage

LIFETIMES = {"default_lifetime_seconds": 600, "floor_seconds": 300}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    with OpenAuthority(tmp_path, TurnedClock(), lifetimes=LIFETIMES) as world:
        async with serve(world) as running:
            yield running


async def join(served: Served, pair: HostKeyPair | None = None) -> X509Svid:
    key, token = new_key(), served.world.token(WEB)
    request = pair.join(token, make_csr(key)) if pair else pb.JoinRequest(token=token, csr=make_csr(key))
    return svid_of(await served.joining.Join(request), key)


async def renew(served: Served, svid: X509Svid, lifetime_seconds: int = 0) -> X509Svid:
    key = new_key()
    request = pb.RenewRequest(csr=make_csr(key), lifetime_seconds=lifetime_seconds)
    return svid_of(await served.renewal(svid).Renew(request), key)


async def refused(served: Served, svid: X509Svid) -> str:
    error = await refusal_of(served.renewal(svid).Renew(pb.RenewRequest(csr=make_csr())))
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, NOT_PERMITTED)
    return served.world.refusals()[-1]


def rogue(
    served: Served,
    uris: tuple[str, ...],
    *,
    usage: tuple[str, ...] = ("digital_signature",),
    ca: bool = False,
) -> X509Svid:
    """A certificate that the real issuing key signed, behind the authority's back."""
    made, key, now = served.world.made, new_key(), time.time()
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName("web.shop.example")]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(made.hierarchy.intermediate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc(now - 60))
        .not_valid_after(utc(now + 600))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(key_usage(*usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .sign(made.keys.issuing, hashes.SHA256())
    )
    return X509Svid(
        spiffe_id=WEB,
        chain=(leaf.public_bytes(Encoding.DER), made.hierarchy.intermediate_der),
        private_key=key,
        not_before=now - 60,
        not_after=now + 600,
        serial=f"{leaf.serial_number:x}",
    )


async def test_an_svid_is_renewed_again_and_again_each_time_with_a_new_key(served: Served) -> None:
    svid = await join(served)
    serials = {svid.serial}
    for _ in range(3):
        svid = await renew(served, svid)
        assert svid.spiffe_id == WEB
        serials.add(svid.serial)
    assert len(serials) == 4
    assert [record.proved_by for record in served.world.authority.issued()].count("renew") == 3


async def test_a_caller_without_a_certificate_does_not_get_as_far_as_the_service(served: Served) -> None:
    error = await refusal_of(served.renewal(None).Renew(pb.RenewRequest(csr=make_csr()), timeout=10))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert served.world.authority.tally() == {}


async def test_a_certificate_of_another_authority_does_not_either(served: Served) -> None:
    twin = make_hierarchy(time.time())
    key, now = new_key(), time.time()
    from ca.template import prepare_template

    template = prepare_template(
        WEB, key.public_key(), lifetime_seconds=600, backdate_seconds=60, now=now, issuer=twin.issuer.span, serial=9
    )
    svid = X509Svid.from_chain((twin.issuer.sign(template), twin.hierarchy.intermediate_der), key)
    error = await refusal_of(served.renewal(svid).Renew(pb.RenewRequest(csr=make_csr()), timeout=10))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert served.world.authority.tally() == {}


async def test_the_identity_comes_from_the_certificate_and_not_from_the_csr(served: Served) -> None:
    svid, key = await join(served), new_key()
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://shop.example/ns/shop/sa/admin")])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    csr = request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    renewed = svid_of(await served.renewal(svid).Renew(pb.RenewRequest(csr=csr)), key)
    assert renewed.spiffe_id == WEB


async def test_the_connection_outlives_the_certificate_but_the_permission_does_not(served: Served) -> None:
    svid = await join(served)
    renewal = served.renewal(svid)
    await renewal.Renew(pb.RenewRequest(csr=make_csr()))
    served.world.clock.offset_seconds = 601.0  # type: ignore[attr-defined]
    error = await refusal_of(renewal.Renew(pb.RenewRequest(csr=make_csr())))
    assert error.details() == NOT_PERMITTED
    assert served.world.refusals() == [RefusalReason.CERTIFICATE_EXPIRED]


async def test_revoking_the_host_key_ends_renewal_of_all_that_descends_from_it(served: Served) -> None:
    pair = HostKeyPair()
    svid = await renew(served, await join(served, pair))
    assert served.world.authority.revoke_host_key(pair.key_id)
    assert await refused(served, svid) == RefusalReason.HOST_KEY_REVOKED
    assert (await renew(served, await join(served))).spiffe_id == WEB


async def test_the_control_plane_is_not_renewed_over_the_network(served: Served) -> None:
    assert await refused(served, served.world.authority.issue_control_plane()) == RefusalReason.RESERVED_IDENTITY


async def test_what_the_authority_never_recorded_is_not_renewed(served: Served) -> None:
    assert await refused(served, rogue(served, (str(WEB),))) == RefusalReason.SERIAL_UNKNOWN


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (str(WEB), "spiffe://shop.example/ns/shop/sa/orders"),
        ("https://shop.example/web",),
        ("spiffe://shop.example",),
    ],
    ids=["no uri", "two uris", "not spiffe", "no path"],
)
async def test_certificates_that_name_no_one_workload_are_refused(served: Served, uris: tuple[str, ...]) -> None:
    assert await refused(served, rogue(served, uris)) == RefusalReason.CERTIFICATE_INVALID


async def test_the_key_of_the_current_svid_is_not_certified_again(served: Served) -> None:
    svid = await join(served)
    error = await refusal_of(served.renewal(svid).Renew(pb.RenewRequest(csr=make_csr(svid.private_key))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "new key" in str(error.details())


@pytest.mark.parametrize("asked", [1, 299])
async def test_less_than_the_floor_is_refused_with_the_floor(served: Served, asked: int) -> None:
    svid = await join(served)
    error = await refusal_of(served.renewal(svid).Renew(pb.RenewRequest(csr=make_csr(), lifetime_seconds=asked)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at least 300 s" in str(error.details())


async def test_a_malformed_csr_is_told_so(served: Served) -> None:
    error = await refusal_of(served.renewal(await join(served)).Renew(pb.RenewRequest(csr=b"x")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


# Who is it? Cases that no handshake lets through, by the function that judges the certificate.


def shown(svid: X509Svid) -> list[bytes]:
    return [x509.load_der_x509_certificate(svid.chain[0]).public_bytes(Encoding.PEM)]


def reason(certificates: list[bytes], trust_domain: TrustDomain = SHOP, now: float | None = None) -> RefusalReason:
    with pytest.raises(Refused) as refusal:
        identify(certificates, trust_domain, time.time() if now is None else now)
    return refusal.value.reason


async def test_a_caller_is_identified_by_exactly_one_certificate(served: Served) -> None:
    svid = served.world.authority.issue_svid(WEB)
    assert identify(shown(svid), SHOP, time.time()).spiffe_id == WEB
    assert identify(shown(svid), SHOP, time.time()).serial == svid.serial
    assert reason([]) is RefusalReason.NO_CERTIFICATE
    assert reason(shown(svid) * 2) is RefusalReason.NO_CERTIFICATE
    assert reason([b"rubbish"]) is RefusalReason.CERTIFICATE_INVALID


async def test_a_caller_of_another_trust_domain_is_foreign(served: Served) -> None:
    svid = served.world.authority.issue_svid(WEB)
    assert reason(shown(svid), TrustDomain("partner.example")) is RefusalReason.FOREIGN_TRUST_DOMAIN


async def test_a_caller_is_valid_from_its_first_second_to_before_its_last(served: Served) -> None:
    svid = served.world.authority.issue_svid(WEB)
    identify(shown(svid), SHOP, svid.not_before)
    identify(shown(svid), SHOP, svid.not_after - 0.001)
    assert reason(shown(svid), now=svid.not_before - 0.001) is RefusalReason.CERTIFICATE_EXPIRED
    assert reason(shown(svid), now=svid.not_after) is RefusalReason.CERTIFICATE_EXPIRED


async def test_a_signing_certificate_is_no_caller(served: Served) -> None:
    for certificate in (served.world.made.hierarchy.root, served.world.made.hierarchy.intermediate):
        assert reason([certificate.public_bytes(Encoding.PEM)]) is RefusalReason.CERTIFICATE_INVALID
    assert reason(shown(rogue(served, (str(WEB),), ca=True))) is RefusalReason.CERTIFICATE_INVALID
    assert reason(shown(rogue(served, (str(WEB),), usage=("key_agreement",)))) is RefusalReason.CERTIFICATE_INVALID


async def test_a_workload_of_another_shape_is_no_caller(served: Served) -> None:
    assert reason(shown(rogue(served, ("spiffe://shop.example/web",)))) is RefusalReason.CERTIFICATE_INVALID
