"""``ringfence k8s explain``: may A call B, by the documents that the API server has; no control plane is asked."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from k8s.daytwo.options import Asked, asks, plain, refuse
from k8s.daytwo.world import written_world
from k8s.objects.names import SYSTEM_NAMESPACE
from ringfence.kit.clock import SystemClock

_FLAGS: Final = {"caller": "--from", "service": "--to", "headers": "--header"}


class _Header(click.ParamType[tuple[str, str]]):
    name = "header"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, colon, said = str(value).partition(":")
        if not colon or not name:
            self.fail(f"{str(value)[:80]!a} is no header (write NAME:VALUE)", param, ctx)
        return name, said.strip()


@click.command(
    name="explain",
    epilog="""\b
Example:
  ringfence k8s explain --from shop/web --to shop/orders --method PUT --path /orders/7
""",
)
@click.option("--from", "caller", required=True, metavar="WHO", help="A service, a SPIFFE ID, or unauthenticated.")
@click.option("--to", "service", required=True, metavar="SERVICE", help="The service called: NAMESPACE/NAME or NAME.")
@click.option("--port", type=int, metavar="PORT", help="A port that its pods listen on. [default: the only one]")
@click.option("--method", metavar="METHOD", help="[default: GET]")
@click.option("--path", metavar="PATH", help="[default: /]")
@click.option("--grpc", metavar="SERVICE/METHOD", help="A gRPC call, in place of --method and --path.")
@click.option("--host", default="", metavar="NAME", help="The host asked for.")
@click.option("--header", "headers", type=_Header(), multiple=True, metavar="NAME:VALUE", help="May be given again.")
@click.option("--address", default="", metavar="IP", help="Where the caller's connection comes from.")
@click.option("--opaque", is_flag=True, help="A connection whose bytes are no HTTP.")
@click.option("--trust-domain", default="", metavar="NAME", help="[default: as the pods have it]")
@click.option("--system-namespace", default=SYSTEM_NAMESPACE, show_default=True, metavar="N", help="The mesh's own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@asks
def command(*, trust_domain: str, system_namespace: str, as_json: bool, asked: Asked, **said: Any) -> None:
    """May one caller make one call? Names the rule, or the nearest rules and what would have to differ in each.

    Answered from the cluster's objects and documents as they are written now; no control plane is asked. In the place
    of a document that is refused stands what the control plane has in force: its version before, or, of a denylist
    without one, what refuses everybody. What sidecars enforce at this moment `ringfence k8s why` tells. Exit status: 0
    permitted, 1 denied, 2 bad input.
    """
    from ringfence.policy.analysis.calls import UnknownServiceError
    from ringfence.policy.analysis.explain import explain
    from ringfence.policy.analysis.explained import explanation_document, told
    from ringfence.policy.analysis.naming import CallWords, WordError, call_of

    now = SystemClock().now()
    found = asked.run(lambda cluster: written_world(cluster, trust_domain, system_namespace, now))
    try:
        call = call_of(CallWords(**said, time=now, namespace=asked.namespace or None), found.world)
        explanation = explain(found.world, call)
    except WordError as error:
        refuse(f"{_FLAGS.get(error.part, f'--{error.part}')}: {error}")
    except UnknownServiceError as error:
        refuse(f"--to: {error}")
    if as_json:
        document = {**explanation_document(explanation, found.world), "notes": list(found.notes)}
        document["refused"] = [one.document() for one in found.refused]
        click.echo(json.dumps(document, indent=2))
    else:
        denying = {rule.named.full_name for rule in explanation.denying}
        closed = [one for one in found.refused if one.closes and one.rule in denying]
        for line in told(explanation, found.world):
            click.echo(plain(line))
        for one in closed:
            click.echo(plain(f"{one.line()} (mend it, or remove it)"))
        for line in (*found.notes, *(one.line() for one in found.refused if one not in closed)):
            click.echo(plain(f"note: {line}"), err=True)
    if not explanation.decision.permitted:
        sys.exit(1)
