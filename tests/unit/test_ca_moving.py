"""An authority that is installed again, or carried elsewhere: it is never made anew in the place of an old one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ca.commands import ca

DOMAIN = ("--trust-domain", "shop.example")


@pytest.fixture(scope="module", autouse=True)
def _quick_scrypt() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ca.pbes2.SCRYPT_P", 1)
        yield


@pytest.fixture
def place(tmp_path: Path) -> Path:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    return tmp_path


def run(place: Path, *words: str, data: str = "ca") -> Result:
    # As in an installation, one line is told where it can be read: the log of a container.
    return CliRunner().invoke(
        ca,
        [*words, "--data", str(place / data)],
        env={"RINGFENCE_CA_PASSPHRASE_FILE": str(place / "passphrase")},
        prog_name="ringfence ca",
    )


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def backup(place: Path) -> bytes:
    found = run(place, "export")
    assert found.exit_code == 0, found.output
    (place / "backup.pem").write_bytes(found.stdout_bytes)
    return found.stdout_bytes


def test_the_second_time_nothing_is_touched(place: Path) -> None:
    first = run(place, "init", *DOMAIN, "--if-missing", "--json")
    before = files(place / "ca")
    second = run(place, "init", *DOMAIN, "--if-missing", "--json")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert files(place / "ca") == before


def test_without_the_flag_an_authority_is_in_the_way(place: Path) -> None:
    run(place, "init", *DOMAIN)
    assert "already holds an authority" in refused(run(place, "init", *DOMAIN))


def test_another_trust_domain_is_not_taken_for_ones_own(place: Path) -> None:
    run(place, "init", *DOMAIN)
    line = refused(run(place, "init", "--trust-domain", "else.example", "--if-missing"))
    assert "holds the authority of shop.example, not of else.example" in line


def test_a_passphrase_that_does_not_open_it_is_told_at_once(place: Path) -> None:
    run(place, "init", *DOMAIN)
    (place / "passphrase").write_text("another passphrase")
    assert "issuing.key" in refused(run(place, "init", *DOMAIN, "--if-missing"))


def test_a_lost_volume_is_not_filled_with_a_new_root(place: Path) -> None:
    run(place, "init", *DOMAIN)
    (place / "known.pem").write_bytes((place / "ca" / "root.pem").read_bytes())
    shutil.rmtree(place / "ca")
    known = ("--known-root", str(place / "known.pem"))
    line = refused(run(place, "init", *DOMAIN, "--if-missing", *known))
    assert "holds no authority, but the mesh has the root " in line
    assert "ringfence ca import" in line
    assert not (place / "ca").exists()


def test_a_foreign_volume_is_not_taken(place: Path) -> None:
    run(place, "init", *DOMAIN)
    run(place, "init", *DOMAIN, data="other")
    known = ("--known-root", str(place / "other" / "root.pem"))
    assert "bring the right volume back" in refused(run(place, "init", *DOMAIN, "--if-missing", *known))


def test_no_record_of_a_root_is_the_first_installation(place: Path) -> None:
    assert run(place, "init", *DOMAIN, "--if-missing", "--known-root", str(place / "none.pem")).exit_code == 0


def test_a_record_that_is_no_certificate_is_no_leave_to_make_a_root(place: Path) -> None:
    (place / "known.pem").write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    known = ("--known-root", str(place / "known.pem"))
    assert "no PEM certificate" in refused(run(place, "init", *DOMAIN, "--if-missing", *known))


def test_what_was_exported_is_the_same_authority_elsewhere(place: Path) -> None:
    run(place, "init", *DOMAIN, "--dns", "svc.cluster.local")
    backup(place)
    there = run(place, "import", "--from", str(place / "backup.pem"), "--json", data="there")
    assert there.exit_code == 0, there.output
    here = json.loads(run(place, "show", "--json").stdout)
    assert {**json.loads(there.stdout), "data": here["data"]} == here
    # And it opens: by the same passphrase, and no other.
    assert run(place, "init", *DOMAIN, "--if-missing", data="there").exit_code == 0


def test_no_plain_key_leaves(place: Path) -> None:
    run(place, "init", *DOMAIN)
    text = backup(place)
    assert text.count(b"BEGIN ENCRYPTED PRIVATE KEY") == 2
    assert b"BEGIN PRIVATE KEY" not in text


def test_an_import_that_was_done_is_not_done_again(place: Path) -> None:
    run(place, "init", *DOMAIN)
    backup(place)
    before = files(place / "ca")
    assert run(place, "import", "--from", str(place / "backup.pem"), "--if-missing").exit_code == 0
    assert files(place / "ca") == before
    assert "already holds an authority" in refused(run(place, "import", "--from", str(place / "backup.pem")))


def test_an_authority_that_is_there_is_not_taken_for_another_backups(place: Path) -> None:
    run(place, "init", *DOMAIN)
    run(place, "init", *DOMAIN, data="other")
    (place / "other.pem").write_text(run(place, "export", data="other").stdout)
    before = files(place / "ca")
    line = refused(run(place, "import", "--from", str(place / "other.pem"), "--if-missing"))
    assert "bring the right volume or the right backup" in line
    (place / "other.pem").write_text("nothing\n")
    assert "two certificates" in refused(run(place, "import", "--from", str(place / "other.pem"), "--if-missing"))
    assert files(place / "ca") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text + b"\n# mine\n",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(b"ENCRYPTED PRIVATE", b"PRIVATE"),
        lambda text: text * 200,
    ],
)
def test_half_a_backup_is_refused_whole(place: Path, change) -> None:  # type: ignore[no-untyped-def]
    run(place, "init", *DOMAIN)
    (place / "backup.pem").write_bytes(change(backup(place)))
    line = refused(run(place, "import", "--from", str(place / "backup.pem"), data="there"))
    assert "ringfence ca export" in line
    assert not (place / "there").exists()


def test_keys_of_another_authority_are_refused(place: Path) -> None:
    run(place, "init", *DOMAIN)
    mine = backup(place)
    shutil.rmtree(place / "ca")
    run(place, "init", *DOMAIN)
    other = backup(place)
    cut = mine.index(b"-----BEGIN ENCRYPTED")
    (place / "mixed.pem").write_bytes(mine[:cut] + other[other.index(b"-----BEGIN ENCRYPTED") :])
    line = refused(run(place, "import", "--from", str(place / "mixed.pem"), data="there"))
    assert "keys of other certificates" in line


def test_the_wrong_passphrase_imports_nothing(place: Path) -> None:
    run(place, "init", *DOMAIN)
    backup(place)
    (place / "passphrase").write_text("another passphrase")
    refused(run(place, "import", "--from", str(place / "backup.pem"), data="there"))
    assert not (place / "there").exists()


def test_a_backup_of_another_root_is_not_imported(place: Path) -> None:
    run(place, "init", *DOMAIN)
    backup(place)
    run(place, "init", *DOMAIN, data="other")
    known = ("--known-root", str(place / "other" / "root.pem"))
    line = refused(run(place, "import", "--from", str(place / "backup.pem"), *known, data="there"))
    assert "bring the right backup" in line
    assert not (place / "there").exists()


def test_a_known_root_without_its_flag_is_refused(place: Path) -> None:
    result = run(place, "init", *DOMAIN, "--known-root", str(place / "none.pem"))
    assert result.exit_code == 2
    assert "goes with --if-missing" in result.stderr
