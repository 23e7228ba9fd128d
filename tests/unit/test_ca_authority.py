"""Making and opening an authority: all of it or nothing, and only with everything in its place."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import (
    Authority,
    AuthoritySettings,
    DataFolderError,
    IdentityRefused,
    PassphraseError,
    RequestInvalid,
    init_authority,
    open_authority,
)
from ca.keys import new_key
from ringfence.kit.clock import FakeClock
from ringfence.spiffe import (
    ChainVerifier,
    SpiffeId,
    TrustBundle,
    TrustDomain,
    control_plane_dns_name,
    control_plane_id,
    fingerprint,
)
from tests.authorities import SHOP, WEB

PASSPHRASE = b"correct horse battery"
NOW = 1_800_000_000.0


@pytest.fixture(scope="module", autouse=True)
def _quick_scrypt() -> Iterator[None]:
    """An eighth of the work for each key: these tests are about something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ca.pbes2.SCRYPT_P", 1)
        yield


@pytest.fixture(scope="module")
def template_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority") / "ca"
    init_authority(folder, SHOP, PASSPHRASE, dns_names=("svc.cluster.local",), clock=FakeClock(NOW))
    return folder


@pytest.fixture
def folder(template_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template_folder, tmp_path / "ca"))


def opened(folder: Path, passphrase: bytes = PASSPHRASE, clock: FakeClock | None = None) -> Authority:
    return open_authority(AuthoritySettings(data_dir=folder, passphrase=passphrase), clock or FakeClock(NOW))


def test_a_new_authority_is_closed_to_others_and_complete(template_folder: Path) -> None:
    assert stat.S_IMODE(template_folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in template_folder.iterdir()}
    assert files == {"root.pem": 0o600, "root.key": 0o600, "issuing.pem": 0o600, "issuing.key": 0o600}


def span(authority: Authority, least_seconds: int, most_seconds: int) -> int:
    key = new_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    svid = authority.certify(WEB, key, least_seconds=least_seconds, most_seconds=most_seconds)
    leaf = x509.load_pem_x509_certificate(svid.chain_pem())
    assert leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key
    assert ChainVerifier([authority.bundle()]).verify(svid.chain, NOW).spiffe_id == WEB
    assert authority.issued()[0].proved_by == "platform"
    return svid.not_after - svid.not_before


def test_a_platform_gets_certificates_that_last_as_long_as_it_can_bear(folder: Path) -> None:
    with opened(folder) as authority:
        assert span(authority, 3600, 86_400) == 3660
        assert span(authority, 3600, 3600) == 3600
        assert span(authority, 7200, 86_400) == 7200
        with pytest.raises(RequestInvalid, match="raise its ceiling"):
            span(authority, 3 * 86_400, 4 * 86_400)
    short = AuthoritySettings(data_dir=folder, passphrase=PASSPHRASE, default_lifetime_seconds=300, ceiling_seconds=600)
    with open_authority(short, FakeClock(NOW)) as authority, pytest.raises(RequestInvalid, match="at most 660 s"):
        span(authority, 3600, 86_400)


def test_a_platform_gets_nothing_for_who_is_no_workload_or_on_what_is_no_key(folder: Path) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    with opened(folder) as authority:
        good = new_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        foreign = SpiffeId.workload(TrustDomain("other.example"), "shop", "web")
        for spiffe_id in (control_plane_id(SHOP), foreign):
            with pytest.raises(IdentityRefused):
                authority.certify(spiffe_id, good, least_seconds=600, most_seconds=3600)
        for key in (
            b"",
            b"rubbish",
            rsa_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            b"x" * 5000,
        ):
            with pytest.raises(RequestInvalid):
                authority.certify(WEB, key, least_seconds=600, most_seconds=3600)
        assert authority.issued() == []


def test_it_opens_and_issues_for_itself(folder: Path) -> None:
    with opened(folder) as authority:
        svid = authority.issue_control_plane()
        assert svid.spiffe_id == control_plane_id(SHOP)
        names = x509.load_der_x509_certificate(svid.chain[0]).extensions
        dns = names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        assert dns == [control_plane_dns_name(SHOP)]
        assert ChainVerifier([authority.bundle()]).verify(svid.chain, NOW).serial == svid.serial
        assert [record.serial for record in authority.issued()] == [svid.serial]
        assert authority.root_fingerprint == fingerprint(authority.bundle().roots[0])
    assert stat.S_IMODE((folder / "ca.db").stat().st_mode) == 0o600


def test_everything_beside_the_database_is_0600_too(folder: Path) -> None:
    with opened(folder) as authority:
        authority.issue_svid(WEB)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert any(path.name.endswith("-wal") for path in folder.iterdir())
    assert modes == {0o600}


def test_an_authority_that_exists_is_never_touched(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataFolderError, match="already holds an authority"):
        init_authority(folder, SHOP, PASSPHRASE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "note").touch()
    with pytest.raises(DataFolderError, match="not an empty folder"):
        init_authority(tmp_path / "ca", SHOP, PASSPHRASE)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir(mode=0o755)
    init_authority(tmp_path / "ca", SHOP, PASSPHRASE)
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(path: Path, _content: bytes) -> None:
        written.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ca.folder.replace_private", full)
    with pytest.raises(DataFolderError, match="No space left"):
        init_authority(tmp_path / "ca", SHOP, PASSPHRASE)
    assert written
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_are_made_in_one_place_one_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The rival fills the folder after both have looked at it.
    rival = tmp_path / "ca"
    monkeypatch.setattr("ca.folder.check_vacant", lambda _path: (rival.mkdir(), (rival / "root.pem").touch()))
    with pytest.raises(DataFolderError, match="cannot make"):
        init_authority(rival, SHOP, PASSPHRASE)
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]
    assert [path.name for path in rival.iterdir()] == ["root.pem"]


@pytest.mark.parametrize("name", ["Svc.local", "*.local", ".local", "a b"])
def test_bad_dns_names_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestInvalid, match="DNS name"):
        init_authority(tmp_path / "ca", SHOP, PASSPHRASE, dns_names=[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".shop.example", "shop..example", "shop.example."])
def test_a_trust_domain_that_a_constraint_would_widen_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestInvalid, match="empty label"):
        init_authority(tmp_path / "ca", TrustDomain(name), PASSPHRASE)


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError):
        init_authority(tmp_path / "ca", SHOP, b"short")
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_passphrase_opens_nothing(folder: Path) -> None:
    with pytest.raises(PassphraseError):
        opened(folder, b"wrong horse battery")
    assert not (folder / "ca.db").exists()


@pytest.mark.parametrize("name", ["root.pem", "issuing.pem", "issuing.key"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataFolderError, match=name):
        opened(folder)


def test_the_root_key_may_be_kept_elsewhere(folder: Path) -> None:
    (folder / "root.key").unlink()
    with opened(folder) as authority:
        assert authority.issue_svid(WEB).spiffe_id == WEB


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    shutil.copy2(folder / "root.key", folder / "issuing.key")
    with pytest.raises(DataFolderError, match=r"not the key of issuing\.pem"):
        opened(folder)


def test_a_database_open_to_others_is_refused(folder: Path) -> None:
    (folder / "ca.db").touch(mode=0o644)
    (folder / "ca.db").chmod(0o644)
    with pytest.raises(DataFolderError, match="chmod 600"):
        opened(folder)


@pytest.mark.parametrize(("name", "mode"), [(".", 0o770), (".", 0o707), ("root.pem", 0o620), ("issuing.pem", 0o602)])
def test_what_others_may_write_is_not_believed(folder: Path, name: str, mode: int) -> None:
    # Whoever swaps the root, or the database, decides whom the mesh trusts.
    (folder / name).chmod(mode)
    with pytest.raises(DataFolderError, match="may be written by others"):
        opened(folder)


def test_what_others_may_read_of_the_certificates_is_no_secret(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "root.pem").chmod(0o644)
    with opened(folder) as authority:
        assert authority.trust_domain == SHOP


def test_it_issues_to_workloads_of_its_own_trust_domain_only(folder: Path) -> None:
    with opened(folder) as authority:
        for refused in (control_plane_id(SHOP), SpiffeId.parse("spiffe://partner.example/ns/shop/sa/web")):
            with pytest.raises(IdentityRefused):
                authority.issue_svid(refused)
            with pytest.raises(IdentityRefused):
                authority.mint_join_token(refused, 60)
        assert authority.issued() == []


@pytest.mark.parametrize("ttl", [0, 0.5, -1, 7 * 86_400 + 1, float("inf"), float("nan")])
def test_tokens_live_neither_nothing_nor_for_ever(folder: Path, ttl: float) -> None:
    with opened(folder) as authority, pytest.raises(RequestInvalid, match="token life"):
        authority.mint_join_token(WEB, ttl)


def test_no_leaf_outlives_its_issuer_and_then_nothing_is_issued(folder: Path) -> None:
    clock = FakeClock(NOW)
    with opened(folder, clock=clock) as authority:
        clock.advance(authority.issuing_not_after - NOW - 100)
        assert authority.issue_svid(WEB).not_after == authority.issuing_not_after
        clock.advance(100)
        with pytest.raises(Exception, match="issuing certificate is valid from"):
            authority.issue_svid(WEB)


def test_closing_twice_is_harmless_and_a_closed_authority_issues_nothing(folder: Path) -> None:
    authority = opened(folder)
    authority.close()
    authority.close()
    with pytest.raises(Exception, match="closed"):
        authority.issue_svid(WEB)


def test_the_bundle_is_the_root_alone(folder: Path) -> None:
    with opened(folder) as authority:
        root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
        assert TrustBundle.from_pem(SHOP, authority.bundle().to_pem()) == authority.bundle()
        assert x509.load_der_x509_certificate(authority.bundle().roots[0]) == root
