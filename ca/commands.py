"""``ringfence ca``: make an authority, show it, mint join tokens, list what was issued, revoke host keys.

What the commands need (database, cryptography) is imported when one runs, so that ``ringfence --help`` stays quick.
"""

from __future__ import annotations

import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ca.database_url import DATABASE_URL_FILE_VARIABLE, read_database_url_file
from ca.errors import PassphraseError, RequestInvalid
from ca.passphrase import PASSPHRASE_FILE_VARIABLE, read_passphrase_file
from ca.words import (
    DurationType,
    SpiffeIdType,
    TrustDomainType,
    example,
    moment,
    say_facts,
    say_json,
    say_table,
    told,
)
from ringfence.kit.clock import SystemClock
from ringfence.spiffe import SpiffeId, TrustBundle, TrustDomain, fingerprint

if TYPE_CHECKING:
    from ca.hierarchy import Hierarchy
    from ca.store.database import Database

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)

_data = click.option("--data", "data_dir", type=_FOLDER, required=True, metavar="DIR", help="The authority's folder.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON object.")
_limit = click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Rows at most.")
_database = click.option(
    "--database-url-file",
    type=_FILE,
    envvar=DATABASE_URL_FILE_VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="File that holds the database's URL, if it is not SQLite in the folder.",
)
_passphrase = click.option(
    "--passphrase-file",
    type=_FILE,
    envvar=PASSPHRASE_FILE_VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="File that holds the passphrase, outside the folder; asked for on a terminal if not given.",
)
_known_root = click.option(
    "--known-root",
    type=_FILE,
    metavar="FILE",
    help="The root that the mesh had before, PEM, where FILE is there; then no other is taken or made.",
)


@click.group(name="ca", epilog=example("ringfence ca init --trust-domain shop.example --data ./ca"))
def ca() -> None:
    """The certificate authority: make one, look at it, mint join tokens."""


@ca.command(
    epilog=example(
        "ringfence ca init --trust-domain shop.example --data ./ca --dns svc.cluster.local \\",
        "    --passphrase-file ~/ca.pass",
    ),
)
@click.option("--trust-domain", type=TrustDomainType(), required=True, metavar="NAME", help="Such as shop.example.")
@_data
@click.option("--dns", "dns_names", multiple=True, metavar="NAME", help="DNS name to issue under, too; repeatable.")
@_passphrase
@click.option("--if-missing", is_flag=True, help="Done, if the authority of this trust domain is there and opens.")
@_known_root
@_json
@told
def init(
    *,
    trust_domain: TrustDomain,
    data_dir: Path,
    dns_names: tuple[str, ...],
    passphrase_file: Path | None,
    if_missing: bool,
    known_root: Path | None,
    as_json: bool,
) -> None:
    """Make a new authority: a root and a name-constrained issuing certificate, keys encrypted under a passphrase.

    An authority that exists already is never touched, and on any failure nothing is left behind.
    """
    from ca.authority import init_authority
    from ca.folder import check_vacant

    if known_root is not None and not if_missing:
        raise click.UsageError("--known-root goes with --if-missing (without it every authority found is in the way)")
    if if_missing and _found(data_dir, passphrase_file, known_root, trust_domain, as_json):
        return
    check_vacant(data_dir)  # before anybody types a passphrase
    hierarchy = init_authority(data_dir, trust_domain, _new_passphrase(passphrase_file, data_dir), dns_names=dns_names)
    _say(_facts(data_dir, hierarchy), as_json)


@ca.command(epilog=example("ringfence ca show --data ./ca --json"))
@_data
@_json
@told
def show(data_dir: Path, as_json: bool) -> None:
    """Show the authority: trust domain, root fingerprint, names it may issue under, ends. Needs no passphrase."""
    from ca.folder import read_certificates

    _say(_facts(data_dir, read_certificates(data_dir)), as_json)


@ca.command(epilog=example("ringfence ca bundle --data ./ca > bundle.pem"))
@_data
@told
def bundle(data_dir: Path) -> None:
    """Print the trust bundle, the roots to verify peers against, as PEM. Needs no passphrase."""
    from ca.folder import read_certificates

    hierarchy = read_certificates(data_dir)
    click.echo(TrustBundle(hierarchy.trust_domain, (hierarchy.root_der,)).to_pem(), nl=False)


@ca.command(name="export", epilog=example("ringfence ca export --data ./ca > ca-backup.pem"))
@_data
@told
def export_(data_dir: Path) -> None:
    """Print the authority as PEM, its keys under their passphrase still: a backup, and what import takes."""
    from ca.moving import export_authority

    click.echo(export_authority(data_dir), nl=False)


@ca.command(
    name="import",
    epilog=example("ringfence ca import --data ./ca --from ca-backup.pem --passphrase-file ~/ca.pass"),
)
@_data
@click.option("--from", "source", type=_FILE, required=True, metavar="FILE", help="What ringfence ca export printed.")
@_passphrase
@click.option("--if-missing", is_flag=True, help="Done, if the authority is there and opens.")
@_known_root
@_json
@told
def import_(
    *,
    data_dir: Path,
    source: Path,
    passphrase_file: Path | None,
    if_missing: bool,
    known_root: Path | None,
    as_json: bool,
) -> None:
    """Make the folder of an authority that lived elsewhere: another machine, or a volume that is lost."""
    from ca.folder import ROOT_CERTIFICATE, check_vacant
    from ca.moving import LIMIT_BYTES, Expected, check_same_root, import_authority

    there = if_missing and (data_dir / ROOT_CERTIFICATE).exists()
    if not there:
        check_vacant(data_dir)
    with source.open("rb") as stream:
        text = stream.read(LIMIT_BYTES + 1)
    if there:
        check_same_root(data_dir, text)
        _found(data_dir, passphrase_file, known_root, None, as_json)
        return
    expected = Expected(passphrase=_new_passphrase(passphrase_file, data_dir), known_root=_known_pem(known_root))
    hierarchy = import_authority(data_dir, text, expected, secrets.token_bytes)
    _say(_facts(data_dir, hierarchy), as_json)


@ca.group(epilog=example("ringfence ca token create --data ./ca --spiffe-id spiffe://shop.example/ns/shop/sa/web"))
def token() -> None:
    """Join tokens: one-time proofs for a workload's first SVID."""


@token.command(
    epilog=example("ringfence ca token create --data ./ca --spiffe-id spiffe://shop.example/ns/shop/sa/web --ttl 10m")
)
@_data
@click.option("--spiffe-id", type=SpiffeIdType(), required=True, metavar="ID", help="Whom the token stands for.")
@click.option("--ttl", type=DurationType(), default="10m", show_default=True, metavar="DURATION", help="How long.")
@_database
@_json
@told
def create(data_dir: Path, spiffe_id: SpiffeId, ttl: int, database_url_file: Path | None, as_json: bool) -> None:
    """Mint a join token, straight into the database, and print it: once, as only its hash is kept."""
    from ca.authority import mint_join_token
    from ca.settings import IssuingLimits

    with _store(data_dir, database_url_file) as (hierarchy, database):
        minted = mint_join_token(
            database,
            hierarchy.trust_domain,
            spiffe_id,
            ttl,
            now=SystemClock().now(),
            limits=IssuingLimits(),
            random_bytes=secrets.token_bytes,
        )
    if as_json:
        say_json({"token": minted.token, "spiffe_id": minted.spiffe_id, "expires_at": moment(minted.expires_at)})
    else:
        click.echo(minted.token)


@ca.group(epilog=example("ringfence ca issued list --data ./ca --json"))
def issued() -> None:
    """The record of issued SVIDs."""


@issued.command(name="list", epilog=example("ringfence ca issued list --data ./ca --valid --json"))
@_data
@click.option("--spiffe-id", type=SpiffeIdType(), metavar="ID", help="Only of this identity.")
@click.option("--valid", is_flag=True, help="Only those that are still valid.")
@_limit
@_database
@_json
@told
def list_svids(
    data_dir: Path,
    spiffe_id: SpiffeId | None,
    valid: bool,
    limit: int,
    database_url_file: Path | None,
    as_json: bool,
) -> None:
    """List issued SVIDs, the newest first."""
    from ca.store.issued import list_issued

    with _store(data_dir, database_url_file) as (_, database):
        records = list_issued(
            database,
            spiffe_id=None if spiffe_id is None else str(spiffe_id),
            valid_at=SystemClock().now() if valid else None,
            limit=limit,
        )
    rows = [
        record.as_json()
        | {
            "issued_at": moment(record.issued_at),
            "not_before": moment(record.not_before),
            "not_after": moment(record.not_after),
        }
        for record in records
    ]
    if as_json:
        say_json({"issued": rows})
    else:
        say_table(rows, ("spiffe_id", "serial", "proved_by", "issued_at", "not_after"), "nothing issued yet")


@ca.group(name="host-keys", epilog=example("ringfence ca host-keys list --data ./ca"))
def host_keys() -> None:
    """Host keys: what sidecars attest with after a restart."""


@host_keys.command(name="list", epilog=example("ringfence ca host-keys list --data ./ca --json"))
@_data
@_limit
@_database
@_json
@told
def list_keys(data_dir: Path, limit: int, database_url_file: Path | None, as_json: bool) -> None:
    """List enrolled host keys, the newest first."""
    from ca.store.host_keys import list_host_keys

    with _store(data_dir, database_url_file) as (_, database):
        keys = list_host_keys(database, limit=limit)
    rows: list[dict[str, object]] = [
        {
            "key_id": key.key_id,
            "spiffe_id": key.spiffe_id,
            "enrolled_at": moment(key.enrolled_at),
            "last_used_at": moment(key.last_used_at),
            "revoked_at": moment(key.revoked_at),
            "evidence_kind": key.provenance.kind if key.provenance else None,
            "subject": key.provenance.subject if key.provenance else None,
        }
        for key in keys
    ]
    if as_json:
        say_json({"host_keys": rows})
    else:
        columns = ("key_id", "spiffe_id", "enrolled_at", "last_used_at", "revoked_at", "subject")
        say_table(rows, columns, "no host key enrolled yet")


@host_keys.command(epilog=example("ringfence ca host-keys revoke --data ./ca 6b86b273ff34fce1…"))
@click.argument("key_id")
@_data
@_database
@told
def revoke(key_id: str, data_dir: Path, database_url_file: Path | None) -> None:
    """Revoke host key KEY_ID for good.

    It attests nothing more, and no SVID that descends from it is renewed; those that are out end by themselves.
    """
    from ca.store.host_keys import revoke_host_key

    with _store(data_dir, database_url_file) as (_, database):
        if not revoke_host_key(database, key_id, SystemClock().now()):
            raise RequestInvalid(f"no host key {key_id!r} is enrolled (ringfence ca host-keys list)")
    click.echo(f"revoked {key_id}")


@contextmanager
def _store(data_dir: Path, database_url_file: Path | None) -> Iterator[tuple[Hierarchy, Database]]:
    """The authority's certificates and its open database; no key, no passphrase."""
    from ca.authority import open_store
    from ca.folder import read_certificates

    hierarchy = read_certificates(data_dir)
    url = None if database_url_file is None else read_database_url_file(database_url_file)
    database, _ = open_store(data_dir, hierarchy, database_url=url)
    try:
        yield hierarchy, database
    finally:
        database.close()


def _found(
    data_dir: Path,
    passphrase_file: Path | None,
    known_root: Path | None,
    trust_domain: TrustDomain | None,
    as_json: bool,
) -> bool:
    """Whether the authority is there, and is the one that it must be."""
    from ca.moving import Expected, present_authority

    passphrase = _new_passphrase(passphrase_file, data_dir)
    expected = Expected(trust_domain=trust_domain, passphrase=passphrase, known_root=_known_pem(known_root))
    hierarchy = present_authority(data_dir, expected)
    if hierarchy is not None:
        _say(_facts(data_dir, hierarchy), as_json)
    return hierarchy is not None


def _known_pem(file: Path | None) -> bytes:
    """The root on record; nothing where there is no record."""
    if file is None or not file.exists():
        return b""
    with file.open("rb") as stream:
        return stream.read(65_536)


def _new_passphrase(file: Path | None, data_dir: Path) -> bytes:
    if file is not None:
        passphrase = read_passphrase_file(file, data_dir)
        if stat.S_IMODE(file.stat().st_mode) & 0o007:
            click.echo(f"warning: passphrase file {file} is open to every user (chmod 600)", err=True)
        return passphrase
    if not sys.stdin.isatty():
        raise PassphraseError(f"no passphrase (give --passphrase-file, or set {PASSPHRASE_FILE_VARIABLE})")
    typed: str = click.prompt("Passphrase of the new authority", hide_input=True, confirmation_prompt=True, err=True)
    return typed.encode()


def _facts(data_dir: Path, hierarchy: Hierarchy) -> dict[str, object]:
    root, issuing = hierarchy.root, hierarchy.intermediate
    return {
        "trust_domain": str(hierarchy.trust_domain),
        "root_fingerprint": fingerprint(hierarchy.root_der),
        "root_not_after": moment(root.not_valid_after_utc.timestamp()),
        "issuing_fingerprint": fingerprint(hierarchy.intermediate_der),
        "issuing_not_after": moment(issuing.not_valid_after_utc.timestamp()),
        "dns_names": list(hierarchy.dns_constraints),
        "data": str(data_dir),
    }


def _say(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        say_json(facts)
    else:
        say_facts(facts)
