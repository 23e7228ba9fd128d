"""``ringfence policy why``: asks the sidecars of a mesh, by their admin sockets, for one call or for the latest."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click

_ID: Final = re.compile(r"[0-9a-f]{1,64}")
_SPAN: Final = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN_LIMIT_SECONDS: Final = 9_999_999


@click.command(
    epilog="""\b
Example:
  ringfence policy why 4f1c09a2b7d3e865
  ringfence policy why --since 5m
  ringfence policy why 4f1c09a2b7d3e865 --socket .ringfence/shop/sidecars/shop.orders/admin.sock --json
"""
)
@click.argument("request_id", metavar="REQUEST-ID", required=False)
@click.option("--since", metavar="SPAN", help="Without an id: the calls of the last SPAN (90s, 5m, 2h).  [default: 5m]")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    help="Without an id: at most so many calls.",
)
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
def why(
    *,
    request_id: str | None,
    since: str | None,
    limit: int,
    sockets: tuple[Path, ...],
    state: Path | None,
    as_json: bool,
) -> None:
    """Tell why a call was refused, by the request id that its caller was told; without an id of the latest calls.

    Sidecars remember the last thousand calls that they refused, let pass only for an observed service, or of which the
    shadow policy thinks otherwise. Exit status 1: none of those that answer knows the id, or any call
    of that time; 2: none answers.
    """
    from sidecar.admin_places import AdminPlacesError, find_admin_sockets, own_socket
    from sidecar.proxy_text import printable
    from sidecar.why import why_lines

    if request_id is not None and not _ID.fullmatch(request_id):
        _refuse(f"{printable(request_id[:80])!r} is no request id (give the hexadecimal one of the refusal)")
    if request_id is not None and since is not None:
        _refuse("--since: an id names one call (give one of them)")
    seconds = _seconds(since if since is not None else "5m")
    if seconds is None:
        _refuse(f"--since: {printable((since or '')[:80])!r} is no span (write 90s, 5m, 2h or 1d, at most 115d)")
    own = own_socket(os.environ) if not sockets and state is None else None
    try:
        places = find_admin_sockets((own,) if own is not None else sockets, state)
    except AdminPlacesError as error:
        _refuse(str(error))
    if request_id is None:
        _tell_latest(places, seconds, limit, as_json)
        return
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


def _refuse(line: str) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(2)


def _seconds(span: str) -> int | None:
    found = _SPAN.fullmatch(span)
    seconds = int(found[1]) * _SECONDS[found[2]] if found is not None else 0
    return seconds if 0 < seconds <= _SPAN_LIMIT_SECONDS else None


def _tell_latest(places: list[Path], seconds: int, limit: int, as_json: bool) -> None:
    """The stories of the latest calls of all sidecars, each once, as the sidecar tells it that refused it itself."""
    from sidecar.admin_client import AdminRefusedError, AdminUnreachableError, ask
    from sidecar.proxy_text import printable
    from sidecar.why import why_lines

    calls: dict[str, dict[str, Any]] = {}
    silent = []
    for place in places:
        try:
            told = ask(place, f"/why?since={seconds}&limit={limit}").get("calls")
        except (AdminUnreachableError, AdminRefusedError) as error:
            silent.append(str(error))
            continue
        for call in told if isinstance(told, list) else []:
            if call["own"] or call["request_id"] not in calls:
                calls[call["request_id"]] = call
    for line in silent:
        click.echo(line, err=True)
    latest = sorted(calls.values(), key=lambda call: float(call["time"]), reverse=True)[:limit]
    if as_json:
        click.echo(json.dumps({"calls": latest, "silent": silent}, indent=2))
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for call in latest if not as_json else ():
        alike.setdefault(tuple(why_lines({**call, "request_id": ""})), []).append(call)
    for several in alike.values():
        click.echo(f"time      {_stamp(several[0]['time'])}")
        for line in why_lines(several[0]):
            click.echo(printable(line))
        if len(several) > 1:
            click.echo(f"and       {len(several) - 1} like it before, since {_stamp(several[-1]['time'])}")
        click.echo()
    if not latest:
        answered = len(places) - len(silent)
        click.echo(f"{answered} of {len(places)} sidecars answered, and refused nothing in {seconds} s", err=True)
        sys.exit(1 if answered else 2)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%SZ")


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
