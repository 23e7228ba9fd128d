"""``ringfence redirect``: put the rules of transparent interception in place, take them away, show them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import click

from sidecar.redirect import operations
from sidecar.redirect.backends import Held, ipv6_in_use, may_administer
from sidecar.redirect.errors import RedirectError, RedirectSettingsError
from sidecar.redirect.options import read_settings
from sidecar.redirect.settings import INBOUND_LISTENER, MESH_PORT, OUTBOUND_LISTENER, RedirectSettings
from sidecar.redirect.turn import taken_turn

F = TypeVar("F", bound=Callable[..., Any])

_GROUP_HELP: Final = """Send a workload's TCP connections to its sidecar without the workload knowing.

Rules hold for the network namespace in which the command runs: a pod, or a host. They need CAP_NET_ADMIN
(iptables-legacy needs CAP_NET_RAW, too), and the package nftables or iptables.

\b
Example:
  ringfence redirect install --sidecar-uid ringfence --signals-port 9402
  ringfence redirect show
  ringfence redirect remove
"""

_INSTALL_HELP: Final = """Put the rules in place, or in the place of those that are there.

Inbound connections go to the sidecar's inbound listener, outbound ones to its outbound listener; loopback stays as it
is. The rules come into force at once for both IP versions or not at all. The sidecar's own connections must be told
from others: by its user, its group, a mark that it puts on them, or several of these, of which all must then hold.

A connection that is open already stays as it is; restart the workload if it must not. On a host, say which inbound
ports are the workload's (--only-inbound-port), or you will not get in by SSH again.

Lists may be given as --exclude-inbound-port 22,9100 or by repeating the option.

\b
Example, in a pod:
  ringfence redirect install --sidecar-uid 15100 --sidecar-gid 15100 --signals-port 15020 \\
    --exclude-outbound-port 53 --exclude-cidr 10.0.0.0/24
\b
Example, on a host:
  ringfence redirect install --sidecar-uid ringfence --sidecar-mark 0x539/0xfff \\
    --only-inbound-port 8080 --exclude-uid root
"""

_REMOVE_HELP: Final = """Take the rules away; everything else in the packet filter stays as it is.

Connections that run through the sidecar end. If there are no rules, there is nothing to do, and that is no error.

\b
Example:
  ringfence redirect remove
"""

_SHOW_HELP: Final = """Show the rules that are in place, as the packet filter's own program lists them.

\b
Example:
  ringfence redirect show --json
"""


def _told(command: F) -> F:
    """A RedirectError ends the command by its one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RedirectError as error:
            raise click.ClickException(str(error)) from error

    return wrapped  # type: ignore[return-value]


def _text_option(name: str, metavar: str, text: str, default: int | None = None) -> Callable[[F], F]:
    shown = None if default is None else str(default)
    return click.option(name, metavar=metavar, default=shown, show_default=default is not None, help=text)


def _list_option(name: str, metavar: str, text: str) -> Callable[[F], F]:
    return click.option(name, metavar=metavar, multiple=True, help=text)


_backend = click.option(
    "--backend",
    type=click.Choice(operations.CHOICES),
    default=operations.AUTO,
    show_default=True,
    help="What holds the rules; auto takes the one that holds them already, or the first that can.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON object.")


@click.group(name="redirect", help=_GROUP_HELP)
def redirect() -> None:
    """The group; its help is above."""


@redirect.command(help=_INSTALL_HELP)
@_text_option("--sidecar-uid", "USER", "User that the sidecar runs as, by number or name.")
@_text_option("--sidecar-gid", "GROUP", "Group that the sidecar runs as, by number or name.")
@_text_option("--sidecar-mark", "VALUE[/MASK]", "Mark that the sidecar puts on its connections (SO_MARK).")
@_text_option("--inbound-listener", "PORT", "Where inbound connections go.", INBOUND_LISTENER)
@_text_option("--outbound-listener", "PORT", "Where outbound connections go.", OUTBOUND_LISTENER)
@_text_option("--mesh-port", "PORT", "Where sidecars meet; not redirected.", MESH_PORT)
@_list_option("--signals-port", "PORT", "Sidecar's health and metrics; inbound, not redirected.")
@_list_option("--only-inbound-port", "PORT", "Redirect only these inbound ports.")
@_list_option("--exclude-inbound-port", "PORT", "Inbound port that is not redirected.")
@_list_option("--exclude-outbound-port", "PORT", "Outbound destination port that is not redirected.")
@_list_option("--exclude-cidr", "NETWORK", "Outbound destinations that are not redirected.")
@_list_option("--exclude-uid", "USER", "User whose outbound connections are not redirected.")
@_list_option("--exclude-gid", "GROUP", "Group whose outbound connections are not redirected.")
@_list_option("--exclude-mark", "VALUE[/MASK]", "Outbound connections with this mark are not redirected.")
@click.option("--no-inbound", is_flag=True, help="Leave inbound connections alone.")
@click.option("--no-outbound", is_flag=True, help="Leave outbound connections alone.")
@click.option("--no-ipv6", is_flag=True, help="Leave IPv6 outside the mesh; only where nothing speaks it.")
@_backend
@click.option("--dry-run", is_flag=True, help="Print what would be applied, and change nothing.")
@_json
@_told
def install(backend: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    settings = _settings(options)
    if dry_run:
        script = operations.script(settings, backend)
        click.echo(json.dumps({"script": script}, indent=2) if as_json else script, nl=as_json)
        return
    may_administer()
    with taken_turn():
        installed = operations.install(settings, backend)
    if not installed.settings.ipv6 and ipv6_in_use():
        click.echo("Note: there are IPv6 addresses here, and IPv6 goes past the sidecar", err=True)
    if as_json:
        click.echo(json.dumps(_installed_facts(installed), indent=2))
        return
    for direction, listener in _listeners(installed.settings):
        versions = "IPv4 and IPv6" if installed.settings.ipv6 else "IPv4 only"
        click.echo(f"{direction} TCP goes to port {listener} ({versions}, by {installed.backend})")


@redirect.command(help=_REMOVE_HELP)
@_backend
@_json
@_told
def remove(backend: str, as_json: bool) -> None:
    may_administer()
    with taken_turn():
        removed = operations.remove(backend)
    if as_json:
        click.echo(json.dumps({"removed": [_held_facts(held) for held in removed]}, indent=2))
    elif not removed:
        click.echo("no redirect rules are installed")
    for held in () if as_json else removed:
        click.echo(f"removed from {held.backend} ({', '.join(held.versions)})")


@redirect.command(help=_SHOW_HELP)
@_backend
@_json
@_told
def show(backend: str, as_json: bool) -> None:
    may_administer()
    present = operations.show(backend)
    if as_json:
        click.echo(json.dumps(_facts(present), indent=2))
    elif not present:
        click.echo("no redirect rules are installed")
    for held in () if as_json else present:
        click.echo(f"# {held.backend} ({', '.join(held.versions)})")
        for rule in held.rules:
            click.echo(rule)


def _listeners(settings: RedirectSettings) -> Iterator[tuple[str, int]]:
    if settings.inbound is not None:
        yield "inbound", settings.inbound.listener
    if settings.outbound is not None:
        yield "outbound", settings.outbound.listener


def _installed_facts(installed: operations.Installed) -> dict[str, Any]:
    return {
        "installed": True,
        "backend": installed.backend,
        "versions": ["ipv4", "ipv6"] if installed.settings.ipv6 else ["ipv4"],
        "listeners": dict(_listeners(installed.settings)),
    }


def _facts(present: Sequence[Held]) -> dict[str, Any]:
    return {"installed": bool(present), "tables": [_held_facts(held) for held in present]}


def _held_facts(held: Held) -> dict[str, Any]:
    return {"backend": held.backend, "versions": list(held.versions), "rules": list(held.rules)}


def _settings(options: dict[str, Any]) -> RedirectSettings:
    """All settings, or every problem on standard error and exit status 2."""
    try:
        return read_settings(options)
    except RedirectSettingsError as error:
        for problem in error.problems:
            click.echo(f"Error: {problem}", err=True)
        raise SystemExit(2) from error
