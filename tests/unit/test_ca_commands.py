"""``ringfence ca``: what it makes, what it prints, what it refuses with which exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from ca import AuthoritySettings, open_authority
from ca.commands import ca
from ringfence.spiffe import TrustBundle
from tests.authorities import SHOP, WEB

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module", autouse=True)
def _quick_scrypt() -> Iterator[None]:
    """An eighth of the work for each key: these tests are about something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ca.pbes2.SCRYPT_P", 1)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a passphrase file in it, and an authority in ``ca``."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    made = run(tmp_path, "init", "--trust-domain", "shop.example", "--passphrase-file", str(secret))
    assert made.exit_code == 0, made.output
    return tmp_path


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> Result:
    """Run ``ringfence ca …`` on the authority in ``folder``."""
    return CliRunner().invoke(ca, [*words, "--data", str(folder / "ca")], env=env, prog_name="ringfence ca")


def facts(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert isinstance(told, dict)
    return told


def opened(folder: Path):  # type: ignore[no-untyped-def]
    return open_authority(AuthoritySettings(data_dir=folder / "ca", passphrase=b"correct horse battery"))


def one_line(result: Result, exit_code: int) -> str:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_show_tells_the_facts_without_a_passphrase(folder: Path) -> None:
    told = facts(run(folder, "show", "--json"))
    root = x509.load_pem_x509_certificate((folder / "ca" / "root.pem").read_bytes())
    assert told["trust_domain"] == "shop.example"
    assert told["root_fingerprint"] == root.fingerprint(root.signature_hash_algorithm).hex()  # type: ignore[arg-type]
    assert told["dns_names"] == ["shop.example"]
    assert RFC3339.fullmatch(str(told["root_not_after"]))
    spoken = run(folder, "show").stdout
    assert str(told["root_fingerprint"]) in spoken
    assert "trust domain" in spoken


def test_init_says_what_it_made(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery")
    secret.chmod(0o600)
    words = ("init", "--trust-domain", "spiffe://shop.example", "--dns", "svc.cluster.local", "--json")
    told = facts(run(tmp_path, *words, env={"RINGFENCE_CA_PASSPHRASE_FILE": str(secret)}))
    assert told == facts(run(tmp_path, "show", "--json"))
    assert told["dns_names"] == ["shop.example", "svc.cluster.local"]


def test_init_never_touches_what_exists(folder: Path) -> None:
    before = (folder / "ca" / "root.pem").read_bytes()
    again = run(folder, "init", "--trust-domain", "shop.example", "--passphrase-file", str(folder / "passphrase"))
    assert "already holds an authority" in one_line(again, 2)
    assert (folder / "ca" / "root.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--trust-domain", "Sh%p"), "Invalid value for '--trust-domain'"),
        (("--trust-domain", "shop..example"), "empty label"),
        (("--trust-domain", "shop.example", "--dns", "*.local"), "DNS name"),
    ],
)
def test_init_refuses_bad_input_and_makes_nothing(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    (tmp_path / "passphrase").write_text("correct horse battery")
    result = run(tmp_path, "init", *words, "--passphrase-file", str(tmp_path / "passphrase"))
    assert why in one_line(result, 2)
    assert not (tmp_path / "ca").exists()


def test_init_wants_a_passphrase_and_never_as_an_argument(tmp_path: Path) -> None:
    result = run(tmp_path, "init", "--trust-domain", "shop.example")
    assert "RINGFENCE_CA_PASSPHRASE_FILE" in one_line(result, 2)
    assert run(tmp_path, "init", "--trust-domain", "shop.example", "--passphrase", "x").exit_code == 2
    assert not (tmp_path / "ca").exists()


def test_init_warns_of_a_passphrase_file_open_to_everybody(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery")
    secret.chmod(0o644)
    made = run(tmp_path, "init", "--trust-domain", "shop.example", "--passphrase-file", str(secret))
    assert made.exit_code == 0
    assert "chmod 600" in made.stderr


def test_bundle_prints_the_root_as_pem(folder: Path) -> None:
    printed = run(folder, "bundle").stdout
    root = x509.load_pem_x509_certificate((folder / "ca" / "root.pem").read_bytes())
    assert x509.load_der_x509_certificate(TrustBundle.from_pem(SHOP, printed).roots[0]) == root


def test_a_token_is_minted_straight_into_the_database(folder: Path) -> None:
    told = facts(run(folder, "token", "create", "--spiffe-id", str(WEB), "--ttl", "1h", "--json"))
    assert told["spiffe_id"] == str(WEB)
    assert RFC3339.fullmatch(str(told["expires_at"]))
    assert re.fullmatch(r"rfjoin_[\w-]{43}", str(told["token"]))
    bare = run(folder, "token", "create", "--spiffe-id", str(WEB)).stdout
    assert re.fullmatch(r"rfjoin_[\w-]{43}\n", bare)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--spiffe-id", "spiffe://partner.example/ns/shop/sa/web"), "not of trust domain shop.example"),
        (("--spiffe-id", "spiffe://shop.example/ns/ringfence-system/sa/controlplane"), "control plane's alone"),
        (("--spiffe-id", "shop/web"), "Invalid value for '--spiffe-id'"),
        (("--spiffe-id", str(WEB), "--ttl", "8d"), "token life"),
        (("--spiffe-id", str(WEB), "--ttl", "soon"), "write it like 30s"),
        (("--spiffe-id", str(WEB), "--ttl", "-1s"), "write it like 30s"),
    ],
)
def test_tokens_for_nobody_or_for_ever_are_refused(folder: Path, words: tuple[str, ...], why: str) -> None:
    assert why in one_line(run(folder, "token", "create", *words), 2)


def test_issued_svids_are_listed(folder: Path) -> None:
    assert run(folder, "issued", "list").stdout == "nothing issued yet\n"
    with opened(folder) as authority:
        svid = authority.issue_svid(WEB)
    (row,) = facts(run(folder, "issued", "list", "--json"))["issued"]  # type: ignore[misc]
    assert (row["serial"], row["spiffe_id"], row["proved_by"]) == (svid.serial, str(WEB), "own")
    assert RFC3339.fullmatch(row["not_after"])
    table = run(folder, "issued", "list", "--valid").stdout.splitlines()
    assert table[0].split() == ["SPIFFE", "ID", "SERIAL", "PROVED", "BY", "ISSUED", "AT", "NOT", "AFTER"]
    assert svid.serial in table[1]
    nobody = "spiffe://shop.example/ns/shop/sa/nobody"
    assert facts(run(folder, "issued", "list", "--spiffe-id", nobody, "--json")) == {"issued": []}


def test_a_host_key_that_is_not_enrolled_cannot_be_revoked(folder: Path) -> None:
    assert facts(run(folder, "host-keys", "list", "--json")) == {"host_keys": []}
    assert "ringfence ca host-keys list" in one_line(run(folder, "host-keys", "revoke", "ab" * 32), 2)


def test_without_an_authority_every_command_says_how_to_make_one(tmp_path: Path) -> None:
    for words in (("show",), ("bundle",), ("issued", "list"), ("token", "create", "--spiffe-id", str(WEB))):
        assert "ringfence ca init" in one_line(run(tmp_path, *words), 2)


def test_a_database_that_does_not_answer_is_a_failure_and_not_bad_input(folder: Path) -> None:
    url = folder / "url"
    url.write_text("postgresql://nobody@/ringfence?host=%2Fnowhere")
    line = one_line(run(folder, "issued", "list", "--database-url-file", str(url)), 1)
    assert "database cannot be read" in line


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("mysql://nobody:hush-hush@localhost/ringfence", "not supported"),
        ("postgresql://nobody:hush-hush@localhost:hush-hush/ringfence", "malformed"),
        ("postgresql://nobody:hush-hush@[::1/ringfence", "malformed"),
        ("hush-hush", "malformed"),
        (" \n", "is empty"),
        ("postgresql://" + "x" * 5000, "larger than 4096 bytes"),
        ("\udcff", "not valid UTF-8"),
    ],
)
def test_a_url_that_is_none_is_bad_input_and_its_password_is_not_repeated(
    folder: Path, written: str, told: str
) -> None:
    url = folder / "url"
    url.write_bytes(written.encode(errors="surrogateescape"))
    result = run(folder, "issued", "list", "--database-url-file", str(url))
    assert told in one_line(result, 2)
    assert "hush-hush" not in result.output


@pytest.mark.parametrize("words", [("init", "--trust-domain", "shop.example"), ("show",), ("issued", "list")])
def test_a_folder_that_the_system_refuses_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(ca, [*words, "--data", str(tmp_path / ("x" * 300))])
    assert result.exit_code in (1, 2)
    assert "File name too long" in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_url_file_that_is_not_there_is_named(folder: Path) -> None:
    assert "cannot read database url file /nowhere/url" in one_line(
        run(folder, "issued", "list", "--database-url-file", "/nowhere/url"), 2
    )


@pytest.mark.parametrize(
    "command", ["", "init", "show", "bundle", "token create", "issued list", "host-keys list", "host-keys revoke"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(ca, [*command.split(), "--help"], prog_name="ringfence ca")
    assert shown.exit_code == 0
    assert f"ringfence ca {command}".rstrip() in shown.stdout.split("Example:")[1]


def test_help_and_the_public_face_load_no_database_and_no_grpc() -> None:
    look = "import sys, ca, ca.commands; print([m for m in ('sqlalchemy', 'grpc', 'alembic') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "[]"
