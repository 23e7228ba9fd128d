"""``ringfence controlplane`` and ``ringfence status``: from the command line to the process, or to the admin socket.

Exit statuses: 0 done, 1 failed while running, 2 bad input and nothing started.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO, cast

import click

from ringfence.kit.addresses import AddressError, SocketAddress, parse_socket_address
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import LEVELS, Logger
from ringfence.kit.log_sink import LogSink

if TYPE_CHECKING:
    from controlplane.settings import PlatformSettings
    from ringfence.mesh import TokenIssuerRules
    from ringfence.spiffe import TrustDomain

_LINES_SHOWN = 200
_PASSPHRASE_VARIABLE = "RINGFENCE_CA_PASSPHRASE_FILE"
_DATABASE_VARIABLE = "RINGFENCE_CA_DATABASE_URL_FILE"
_SECONDS = click.IntRange(1, 10 * 365 * 86_400)
# A cluster has more workloads than a mesh file, and an identity more pods.
_PLATFORM_LIMITS: Mapping[str, int] = {"subscriptions": 12_000, "subscriptions_an_identity": 256}


class _Address(click.ParamType[SocketAddress]):
    """``HOST:PORT`` with an IP address; port 0 lets the system choose."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SocketAddress:
        if isinstance(value, SocketAddress):
            return value
        try:
            return parse_socket_address(str(value), zero=True)
        except AddressError as error:
            self.fail(str(error), param, ctx)


_PATH = click.Path(path_type=Path)


class _Option(click.ParamType[tuple[str, str]]):
    """``KEY=VALUE``."""

    name = "option"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, said = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!a} is not KEY=VALUE", param, ctx)
        return key, said


class _TrustDomain(click.ParamType["TrustDomain"]):
    """A trust domain's name."""

    name = "trust domain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TrustDomain:
        from ringfence.spiffe import SpiffeIdError, TrustDomain

        try:
            return TrustDomain.parse(str(value))
        except SpiffeIdError as error:
            self.fail(str(error), param, ctx)


def _address_option(flag: str, name: str, help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(flag, name, type=_Address(), metavar="HOST:PORT", help=help_text)


@click.command(
    epilog="""\b
Example:
  ringfence ca init --trust-domain shop.example --data state/ca --passphrase-file ../ca.passphrase
  ringfence controlplane --mesh mesh.yaml --state state --passphrase-file ../ca.passphrase
  ringfence controlplane --platform kubernetes --trust-domain shop.example --state state
"""
)
@click.option("--mesh", "mesh_file", type=_PATH, metavar="FILE", help="The mesh file; it is watched.")
@click.option(
    "--platform", metavar="NAME", help="In the place of --mesh: what runs the workloads, and keeps the documents."
)
@click.option(
    "--platform-option",
    "platform_options",
    multiple=True,
    type=_Option(),
    metavar="KEY=VALUE",
    help="For the platform; repeatable.",
)
@click.option(
    "--trust-domain", type=_TrustDomain(), metavar="NAME", help="With --platform: the mesh's, and so the CA's."
)
@click.option(
    "--token-issuer-host",
    "issuer_hosts",
    multiple=True,
    metavar="HOST",
    help="With --platform: a host from which keys of token issuers may be fetched, or *.NAME; repeatable.",
)
@click.option(
    "--token-issuer-network",
    "issuer_networks",
    multiple=True,
    metavar="CIDR",
    help="With --platform: a private network in which such a host may have its address; repeatable.",
)
@click.option(
    "--token-issuer-ca-file",
    "issuer_ca_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="With --platform: who signs their certificates (PEM). [default: the system's authorities]",
)
@click.option("--lifetime", type=_SECONDS, metavar="SECONDS", help="With --platform: of an SVID, unasked. [3600]")
@click.option("--lifetime-floor", type=_SECONDS, metavar="SECONDS", help="With --platform: of an SVID at least. [300]")
@click.option(
    "--lifetime-ceiling", type=_SECONDS, metavar="SECONDS", help="With --platform: of an SVID at most. [86400]"
)
@click.option(
    "--state", type=_PATH, required=True, metavar="DIR", help="Folder of this process alone; made if it is not there."
)
@click.option(
    "--passphrase-file",
    type=_PATH,
    envvar=_PASSPHRASE_VARIABLE,
    metavar="FILE",
    help=f"File with the CA's passphrase, outside its data folder; else ${_PASSPHRASE_VARIABLE}, else a prompt.",
)
@click.option("--ca-data", type=_PATH, metavar="DIR", help="Data folder of the CA. [default: ca in the state folder]")
@click.option(
    "--database-url-file",
    type=_PATH,
    envvar=_DATABASE_VARIABLE,
    metavar="FILE",
    help=f"File with the URL of the CA's database (postgresql://…); else ${_DATABASE_VARIABLE}. "
    "[default: SQLite in --ca-data]",
)
@_address_option("--join-listen", "join", "Where sidecars join (server TLS), over controlPlane.join.")
@_address_option("--listen", "listen", "Where sidecars are served (mutual TLS), over controlPlane.listen.")
@_address_option("--signals", "signals", "Where /healthz, /readyz and /metrics are, over controlPlane.signals.")
@click.option(
    "--admin-socket", type=_PATH, metavar="PATH", help="Unix socket for operators. [default: run/admin.sock in --state]"
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), default="info", show_default=True)
def controlplane(
    *,
    mesh_file: Path | None,
    platform: str | None,
    platform_options: tuple[tuple[str, str], ...],
    trust_domain: TrustDomain | None,
    issuer_hosts: tuple[str, ...],
    issuer_networks: tuple[str, ...],
    issuer_ca_file: Path | None,
    lifetime: int | None,
    lifetime_floor: int | None,
    lifetime_ceiling: int | None,
    state: Path,
    passphrase_file: Path | None,
    ca_data: Path | None,
    database_url_file: Path | None,
    join: SocketAddress | None,
    listen: SocketAddress | None,
    signals: SocketAddress | None,
    admin_socket: Path | None,
    log_level: str,
) -> None:
    """Run the control plane with its CA: reads the mesh and its policies, and tells each sidecar its share.

    It watches the files: a change is checked as a whole and put in force, or refused as a whole with file and line. On
    a platform there are no files: it says which workloads there are, and each document is judged by itself.
    """
    # Or its C core writes a line of its own, past our log and its bounds, for each handshake that a stranger fails.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from controlplane.app import run_control_plane
    from controlplane.settings import ControlPlaneSettings
    from controlplane.start import StartRefusedError

    issuers = _token_issuers(issuer_hosts, issuer_networks, issuer_ca_file)
    lifetimes = (lifetime, lifetime_floor, lifetime_ceiling)
    chosen = _platform(mesh_file, platform, trust_domain, _Said(dict(platform_options), lifetimes, issuers))
    ca_data = ca_data or state / "ca"
    settings = ControlPlaneSettings(
        mesh_file=mesh_file,
        platform=chosen,
        **(_PLATFORM_LIMITS if chosen is not None else {}),
        state=state,
        ca_data=ca_data,
        passphrase=_passphrase(passphrase_file, ca_data),
        admin_socket=admin_socket or state / "run" / "admin.sock",
        database_url=_database_url(database_url_file),
        join=join,
        listen=listen,
        signals=signals,
    )
    sink = LogSink(sys.stderr)
    log = Logger("controlplane", level=log_level, stream=cast(TextIO, sink))
    try:
        asyncio.run(run_control_plane(settings, log=log, clock=SystemClock()))
    except StartRefusedError as refused:
        sink.close()
        _refuse(refused.lines)
    except Exception as error:  # the process's border
        log.error("control plane failed", error=repr(error))
        sink.close()
        sys.exit(1)
    sink.close()


class _Said(NamedTuple):
    """What else the flags say of a platform; lifetimes: usual, floor, ceiling."""

    options: Mapping[str, str]
    lifetimes: tuple[int | None, int | None, int | None]
    token_issuers: TokenIssuerRules


def _token_issuers(hosts: tuple[str, ...], networks: tuple[str, ...], ca_file: Path | None) -> TokenIssuerRules:
    from controlplane.mesh.token_issuers import parse_private_network
    from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
    from ringfence.mesh import TokenIssuerRules

    try:
        return TokenIssuerRules(
            hosts=tuple(parse_host_pattern(one) for one in hosts),
            private_networks=tuple(parse_private_network(one) for one in networks),
            # Read at each fetch, and not resolved: what a platform mounts is a link to where the newest is.
            ca_file=str(ca_file.absolute()) if ca_file is not None else "",
        )
    except HostPatternError as error:
        _refuse([f"--token-issuer-host: {error}"])
    except AddressError as error:
        _refuse([f"--token-issuer-network: {error}"])


def _platform(
    mesh_file: Path | None, name: str | None, trust_domain: TrustDomain | None, said: _Said
) -> PlatformSettings | None:
    """What the flags say of a platform; None where there is a mesh file instead."""
    from controlplane.settings import PlatformSettings
    from ringfence.mesh import IdentityLifetimes, TokenIssuerRules

    if (mesh_file is None) == (name is None):
        _refuse(["--mesh: give it, or --platform in its place" if name is None else "--mesh: not with --platform"])
    if name is None:
        if trust_domain is not None or said != _Said({}, (None, None, None), TokenIssuerRules()):
            flags = "--trust-domain, --platform-option, lifetimes and token issuers"
            _refuse([f"{flags}: the mesh file says them (remove the flags)"])
        return None
    if trust_domain is None:
        _refuse(["--trust-domain: missing (give the trust domain of the CA)"])
    standard = IdentityLifetimes()
    usual, floor, ceiling = said.lifetimes
    found = IdentityLifetimes(
        lifetime_seconds=usual or standard.lifetime_seconds,
        floor_seconds=floor or min(standard.floor_seconds, usual or standard.floor_seconds),
        ceiling_seconds=ceiling or max(standard.ceiling_seconds, usual or 0),
    )
    if not found.floor_seconds <= found.lifetime_seconds <= found.ceiling_seconds:
        _refuse(
            [
                f"--lifetime: {found.lifetime_seconds} s is not between the floor of {found.floor_seconds} s and the "
                f"ceiling of {found.ceiling_seconds} s (change one of them)"
            ]
        )
    return PlatformSettings(
        name=name,
        trust_domain=trust_domain,
        identities=found,
        options=said.options,
        token_issuers=said.token_issuers,
    )


def _passphrase(file: Path | None, ca_data: Path) -> bytes:
    import ca

    if file is None:
        if not sys.stdin.isatty():
            _refuse([f"--passphrase-file: missing (give the flag, or ${_PASSPHRASE_VARIABLE})"])
        return str(click.prompt("passphrase of the CA", hide_input=True, err=True)).encode()
    try:
        return ca.read_passphrase_file(file, ca_data)
    except ca.CaError as error:
        _refuse([f"--passphrase-file: {error}"])


def _database_url(file: Path | None) -> str | None:
    import ca

    if file is None:
        return None
    try:
        return ca.read_database_url_file(file)
    except ca.CaError as error:
        _refuse([f"--database-url-file: {error}"])


@click.command(
    epilog="""\b
Example:
  ringfence status --state .ringfence/shop
  ringfence status --state .ringfence/shop --json | jq '.workloads[].sidecars[].standing'
"""
)
@click.option("--admin-socket", type=_PATH, metavar="PATH", help="The control plane's admin socket.")
@click.option(
    "--state",
    type=_PATH,
    metavar="DIR",
    help="State folder of the control plane, or of `ringfence up`. [default: the only one under .ringfence]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def status(*, admin_socket: Path | None, state: Path | None, as_json: bool) -> None:
    """Show workloads, their identities with time to expiry, and the revision each sidecar enforces."""
    from controlplane.operate.admin_client import AdminUnreachableError, get_document
    from controlplane.operate.admin_place import AdminPlaceError, find_admin_socket
    from controlplane.operate.status_table import status_lines

    try:
        document = get_document(find_admin_socket(admin_socket, state), "/status")
    except AdminPlaceError as error:
        _refuse([str(error)])
    except AdminUnreachableError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for line in status_lines(document):
        click.echo(line)


def _refuse(lines: list[str]) -> NoReturn:
    """Bad input: one line for each problem, exit status 2."""
    for line in lines[:_LINES_SHOWN]:
        click.echo(line, err=True)
    if len(lines) > _LINES_SHOWN:
        click.echo(f"and {len(lines) - _LINES_SHOWN} more problems", err=True)
    sys.exit(2)
