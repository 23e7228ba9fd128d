"""``ringfence proxy`` and ``ringfence tap``: an operator's questions to one running sidecar, by its admin socket.

Only the sidecar is asked: all of it works while the control plane is away. Exit statuses: 0 done, 1 failed while
running, 2 bad input and nothing done.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from ringfence.kit.log import LEVELS
from sidecar.admin_places import own_socket
from sidecar.proxy_text import certs_lines, connections_lines, status_lines, tap_line


def _given_or_own(context: click.Context, parameter: click.Parameter, given: Path | None) -> Path:
    found = given or own_socket(os.environ)
    if found is None:
        raise click.MissingParameter(ctx=context, param=parameter)
    return found


_SOCKET = click.option(
    "--socket",
    "admin_socket",
    type=click.Path(path_type=Path),
    callback=_given_or_own,
    metavar="PATH",
    help="The sidecar's admin socket (its --admin-socket).  [default: of the sidecar whose container this is]",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_EXAMPLE_SOCKET = ".ringfence/shop/sidecars/shop.orders/admin.sock"


def _ask(admin_socket: Path, path: str, post: dict[str, object] | None = None) -> dict[str, Any]:
    from sidecar.admin_client import AdminRefusedError, AdminUnreachableError, ask

    try:
        return ask(admin_socket, path, post)
    except AdminUnreachableError as error:
        _end(str(error), 1)
    except AdminRefusedError as error:
        _end(str(error), 2)


def _end(line: str, status: int) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(status)


def _show(document: dict[str, Any], as_json: bool, lines: Callable[[dict[str, Any]], Iterator[str]]) -> None:
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for line in lines(document):
        click.echo(line)


@click.group(
    epilog=f"""\b
Example:
  ringfence proxy certs --socket {_EXAMPLE_SOCKET}
  ringfence proxy connections --socket {_EXAMPLE_SOCKET} --json
"""
)
def proxy() -> None:
    """Look into a running sidecar, change its log level, drain it."""


@proxy.command(epilog=f"\b\nExample:\n  ringfence proxy config --socket {_EXAMPLE_SOCKET}\n")
@_SOCKET
@click.option("--json", "as_json", is_flag=True, help="Has no effect: the configuration is JSON always.")
def config(*, admin_socket: Path, as_json: bool) -> None:
    """Show the settings and the snapshot in force, secrets redacted, as JSON."""
    click.echo(json.dumps(_ask(admin_socket, "/config"), indent=2))


@proxy.command(epilog=f"\b\nExample:\n  ringfence proxy status --socket {_EXAMPLE_SOCKET}\n")
@_SOCKET
@_JSON
def status(*, admin_socket: Path, as_json: bool) -> None:
    """Show how the sidecar fares: ready or what it waits for, revision enforced, identity and version."""
    _show(_ask(admin_socket, "/status"), as_json, status_lines)


@proxy.command(epilog=f"\b\nExample:\n  ringfence proxy certs --socket {_EXAMPLE_SOCKET}\n")
@_SOCKET
@_JSON
def certs(*, admin_socket: Path, as_json: bool) -> None:
    """Show the SVID with the time it has left, and the trust bundles; never a key."""
    _show(_ask(admin_socket, "/certs"), as_json, certs_lines)


@proxy.command(epilog=f"\b\nExample:\n  ringfence proxy connections --socket {_EXAMPLE_SOCKET} --limit 50\n")
@_SOCKET
@_JSON
@click.option("--limit", type=click.IntRange(1, 10_000), metavar="N", help="Show at most N of each. [default: 1000]")
def connections(*, admin_socket: Path, as_json: bool, limit: int | None) -> None:
    """Show the living connections with peer, bytes and decision, and the links under them."""
    path = "/connections" if limit is None else f"/connections?limit={limit}"
    _show(_ask(admin_socket, path), as_json, connections_lines)


@proxy.command(
    epilog=f"""\b
Example:
  ringfence proxy loglevel --socket {_EXAMPLE_SOCKET}
  ringfence proxy loglevel --socket {_EXAMPLE_SOCKET} debug
"""
)
@_SOCKET
@_JSON
@click.argument("level", required=False, type=click.Choice(list(LEVELS)))
def loglevel(*, admin_socket: Path, as_json: bool, level: str | None) -> None:
    """Show the log level, or set it until the sidecar ends."""
    document = _ask(admin_socket, "/loglevel", {"level": level} if level is not None else None)
    _show(document, as_json, lambda told: iter([told["level"]]))


@proxy.command(epilog=f"\b\nExample:\n  ringfence proxy drain --socket {_EXAMPLE_SOCKET}\n")
@_SOCKET
@_JSON
def drain(*, admin_socket: Path, as_json: bool) -> None:
    """Have the sidecar end as by SIGTERM: not ready, what lives may end in its time, then it stops."""
    document = _ask(admin_socket, "/drain", {})
    _show(document, as_json, lambda told: iter(["draining already" if told["already"] else "draining"]))


@click.command(
    epilog=f"""\b
Example:
  ringfence tap --socket {_EXAMPLE_SOCKET} --denied
  ringfence tap --socket {_EXAMPLE_SOCKET} --from shop/web --to orders --json | jq .target
"""
)
@_SOCKET
@click.option("--denied", is_flag=True, help="Only what was denied or failed.")
@click.option("--would-deny", is_flag=True, help="Only what passes because the service is observed.")
@click.option("--shadow", is_flag=True, help="Only where the shadow policy thinks otherwise.")
@click.option("--from", "caller", metavar="WHO", help="Only calls of WHO: a SPIFFE ID, or [NAMESPACE/]SERVICE-ACCOUNT.")
@click.option("--to", "service", metavar="SERVICE", help="Only calls to [NAMESPACE/]SERVICE.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N lines. [default: at Ctrl-C]")
def tap(
    *,
    admin_socket: Path,
    denied: bool,
    would_deny: bool,
    shadow: bool,
    caller: str | None,
    service: str | None,
    as_json: bool,
    limit: int | None,
) -> None:
    """Watch requests and connections as a sidecar judges them, a line each.

    A denial is told at once, a permitted request when it is answered, an opaque connection when it ends. Calls from
    the workload ("outbound") and to it ("inbound") are both told. What passes only because the service is observed,
    and what the shadow policy thinks otherwise of, is told when it is judged, on a line of its own; of --denied,
    --would-deny and --shadow several may be given. What this reader is too slow for is not kept; the
    next line says how many were missed. A sidecar serves four taps at a time.
    """
    from sidecar.admin_client import AdminRefusedError, AdminUnreachableError, follow

    kinds = {"denied": denied, "would_deny": would_deny, "shadow": shadow}
    filters = {name: "1" for name, given in kinds.items() if given}
    filters.update({name: value for name, value in (("from", caller), ("to", service)) if value is not None})
    shown = 0
    try:
        for event in follow(admin_socket, filters):
            click.echo(json.dumps(event) if as_json else tap_line(event))
            shown += 1
            if shown == limit:
                return
    except AdminUnreachableError as error:
        _end(str(error), 1)
    except AdminRefusedError as error:
        _end(str(error), 2)
    except KeyboardInterrupt:
        return
    _end(f"the sidecar at {admin_socket} has ended the tap", 1)
