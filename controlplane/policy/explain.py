"""``ringfence policy explain``: may A call B, by which rule, or what would have to differ."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from controlplane.policy.options import BAD_INPUT, Asked, Moment, Pair, asks
from ringfence.kit.clock import SystemClock
from ringfence.policy.analysis.calls import UnknownServiceError
from ringfence.policy.analysis.explain import explain
from ringfence.policy.analysis.explained import explanation_document, told
from ringfence.policy.analysis.naming import CallWords, WordError, call_of

DENIED: Final = 1
# Where a part of a call has another name on the command line.
_FLAGS: Final = {"caller": "--from", "service": "--to", "headers": "--header", "scopes": "--scope", "claims": "--claim"}
_EPILOG: Final = """\b
Example:
  ringfence policy explain --from web --to orders --method PUT --path /orders/7 --mesh mesh.yaml
  ringfence policy explain --from unauthenticated --to shop/orders --grpc shop.Orders/List --json --running
"""


@click.command(name="explain", epilog=_EPILOG)
@click.option("--from", "caller", required=True, metavar="WHO", help="A service, a SPIFFE ID, or unauthenticated.")
@click.option("--to", "service", required=True, metavar="SERVICE", help="The service called: NAMESPACE/NAME or NAME.")
@click.option("--port", type=int, metavar="PORT", help="Its port. [default: the only one]")
@click.option("--method", metavar="METHOD", help="[default: GET]")
@click.option("--path", metavar="PATH", help="[default: /]")
@click.option("--grpc", metavar="SERVICE/METHOD", help="A gRPC call, in place of --method and --path.")
@click.option("--host", default="", metavar="NAME", help="The host asked for.")
@click.option("--header", "headers", type=Pair(":"), multiple=True, metavar="NAME:VALUE", help="May be given again.")
@click.option("--issuer", metavar="NAME", help="The TokenIssuer of the request's token. [default: the only one]")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope of the token; may be given again.")
@click.option(
    "--claim",
    "claims",
    type=Pair("="),
    multiple=True,
    metavar="NAME=VALUE",
    help="A claim of the token; given again with the same name it is a list. A whole number is a number.",
)
@click.option("--address", default="", metavar="IP", help="Where the caller's connection comes from.")
@click.option("--time", type=Moment(), metavar="TIME", help="When it calls (RFC 3339). [default: now]")
@click.option("--opaque", is_flag=True, help="A connection whose bytes are no HTTP.")
@asks
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(*, asked: Asked, as_json: bool, **said: Any) -> None:
    """May one caller make one call? Names the rule, or the nearest rules and what would have to differ in each.

    Exit status: 0 permitted, 1 denied, 2 bad input or no answer.
    """
    said["time"] = said["time"] if said["time"] is not None else SystemClock().now()
    said["claims"] = _claims(said["claims"])
    world = asked.world()
    try:
        call = call_of(CallWords(**said), world)
        explanation = explain(world, call)
    except WordError as error:
        _refuse(f"{_FLAGS.get(error.part, f'--{error.part}')}: {error}")
    except UnknownServiceError as error:
        _refuse(f"--to: {error}")
    if as_json:
        click.echo(json.dumps(explanation_document(explanation, world), indent=2))
    else:
        for line in told(explanation, world):
            click.echo(line)
    if not explanation.decision.permitted:
        sys.exit(DENIED)


def _claims(pairs: tuple[tuple[str, str], ...]) -> dict[str, object]:
    claims: dict[str, object] = {}
    for name, text in pairs:
        value: object = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text
        held = claims.get(name)
        claims[name] = value if name not in claims else [*(held if isinstance(held, list) else [held]), value]
    return claims


def _refuse(line: str) -> None:
    click.echo(line, err=True)
    sys.exit(BAD_INPUT)
