"""``ringfence policy why``: asks the sidecars of a mesh, by their admin sockets, for one call."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click

_ID: Final = re.compile(r"[0-9a-f]{1,64}")


@click.command(
    epilog="""\b
Example:
  ringfence policy why 4f1c09a2b7d3e865
  ringfence policy why 4f1c09a2b7d3e865 --socket .ringfence/shop/sidecars/shop.orders/admin.sock --json
"""
)
@click.argument("request_id", metavar="REQUEST-ID")
@click.option(
    "--socket",
    "sockets",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH",
    help="Ask this sidecar's admin socket only. May be given several times.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Ask every sidecar of this state folder of `ringfence up`. [default: the only one under .ringfence]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def why(*, request_id: str, sockets: tuple[Path, ...], state: Path | None, as_json: bool) -> None:
    """Tell why a call was refused, by the request id that its caller was told.

    Sidecars remember the last thousand calls that they refused, let pass only for an observed service, or of which the
    shadow policy thinks otherwise. Exit status 1: none of those that answer knows the id; 2: none answers.
    """
    from sidecar.admin_places import AdminPlacesError, find_admin_sockets
    from sidecar.proxy_text import printable
    from sidecar.why import why_lines

    if not _ID.fullmatch(request_id):
        click.echo(
            f"{printable(request_id[:80])!r} is no request id (give the hexadecimal one of the refusal)", err=True
        )
        sys.exit(2)
    try:
        places = find_admin_sockets(sockets, state)
    except AdminPlacesError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    found, silent = _asked(places, request_id)
    if found is None:
        for line in silent:
            click.echo(line, err=True)
        answered = len(places) - len(silent)
        click.echo(f"{answered} of {len(places)} sidecars answered, and none of them knows {request_id}", err=True)
        sys.exit(1 if answered else 2)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in why_lines(found):
        click.echo(printable(line))


def _asked(places: list[Path], request_id: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The call as the sidecar tells it that refused it itself, or else another; and who did not answer."""
    from sidecar.admin_client import AdminRefusedError, AdminUnreachableError, ask

    told: dict[str, Any] | None = None
    silent = []
    for place in places:
        try:
            call = ask(place, f"/why?id={request_id}").get("call")
        except (AdminUnreachableError, AdminRefusedError) as error:
            silent.append(str(error))
            continue
        if isinstance(call, dict):
            if call.get("own"):
                return call, silent
            told = told or call
    return told, silent
