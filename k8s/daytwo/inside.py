"""``ringfence k8s why|tap|logs|config|loglevel POD``: questions to the sidecars of pods, asked inside them.

The control plane has no part in it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import click

from k8s.client.resources import PODS
from k8s.daytwo.cluster import Cluster, ClusterError, Place, Ran
from k8s.daytwo.finding_pods import pods_of, sidecar_of
from k8s.daytwo.options import Asked, asks, plain, refuse
from ringfence.kit.log import LEVELS

ASKED_AT_ONCE: Final = 8
_POD: Final = click.argument("pod", metavar="POD")
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_TAPS_LIMIT: Final = 20


async def run_in_each(
    cluster: Cluster, places: Sequence[Place], argv: Sequence[str]
) -> list[tuple[Place, Ran | ClusterError]]:
    """What the same command gives in each place, some of them at a time; an error is an answer, too."""
    slots = asyncio.Semaphore(ASKED_AT_ONCE)

    async def one(place: Place) -> tuple[Place, Ran | ClusterError]:
        async with slots:
            try:
                return place, await cluster.run(place, argv)
            except ClusterError as error:
                return place, error

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(place), name=f"ask {place}") for place in places]
    return [task.result() for task in asked]


async def _places(cluster: Cluster, asked: Asked, pod: str) -> list[Place]:
    return [sidecar_of(one) for one in await pods_of(cluster, pod, asked.namespace)]


_Answers = Sequence[tuple[Place, Ran | ClusterError]]


def _complaints(answers: _Answers) -> list[str]:
    """Of whom nothing could be had, and why."""
    said = []
    for place, answer in answers:
        if isinstance(answer, ClusterError):
            said.append(f"{place}: {answer}")
        elif answer.status:
            said += [f"{place}: {line}" for line in answer.stderr.splitlines()[-3:] or ["it says no more"]]
    return said


def _objects(answers: _Answers) -> tuple[list[tuple[Place, dict[str, Any]]], list[str]]:
    """What each of them told, and of whom nothing could be had."""
    found, said = [], _complaints(answers)
    for place, answer in answers:
        if isinstance(answer, ClusterError) or answer.status:
            continue
        try:
            document = json.loads(answer.stdout)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            found.append((place, document))
        else:
            said.append(f"{place}: the sidecar's answer is no JSON object")
    return found, said


@click.command(
    name="why",
    epilog="""\b
Example:
  ringfence k8s why deploy/orders -n shop --since 5m
  ringfence k8s why shop/orders-5d9f7c-abcde 4f1c09a2b7d3e865
""",
)
@_POD
@click.argument("request_id", metavar="REQUEST-ID", required=False)
@click.option("--since", metavar="SPAN", help="Without an id: the calls of the last SPAN.  [default: 5m]")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="At most so many calls.")
@_JSON
@asks
def why(*, pod: str, request_id: str | None, since: str | None, limit: int, as_json: bool, asked: Asked) -> None:
    """Tell why calls were refused in POD, the latest first, or the one with REQUEST-ID.

    POD is [NAMESPACE/]NAME, or deploy/NAME, sts/NAME, svc/NAME for all of its pods. Exit status 1: nothing was refused,
    or nobody knows the id.
    """
    argv = ["ringfence", "policy", "why"]
    if request_id is not None:
        if not request_id.isalnum():
            refuse(f"{request_id[:80]!a} is no request id (give the hexadecimal one of the refusal)")
        argv.append(request_id)
    else:
        argv += ["--since", since or "5m", "--limit", str(limit)]

    async def ask(cluster: Cluster) -> list[tuple[Place, Ran | ClusterError]]:
        places = await _places(cluster, asked, pod)
        return await run_in_each(cluster, places, [*argv, "--json"] if as_json else argv)

    answers = asked.run(ask)
    told = [(place, one) for place, one in answers if isinstance(one, Ran) and one.status == 0]
    # Among others one that refused nothing is no complaint.
    silent = [one for one in answers if not (told and isinstance(one[1], Ran) and one[1].status in (0, 1))]
    if as_json:
        found, said = _objects([*told, *silent])
        click.echo(json.dumps({"pods": {str(place): one for place, one in found}}, indent=2))
    else:
        said = _complaints(silent)
        for place, one in told:
            click.echo(f"# {place}")
            for line in one.stdout.splitlines():
                click.echo(plain(line))
    for complaint in said:
        click.echo(plain(complaint), err=True)
    if not (found if as_json else told):
        sys.exit(2 if any(isinstance(one, Ran) and one.status == 2 for _, one in answers) else 1)


@click.command(
    name="config",
    epilog="""\b
Example:
  ringfence k8s config shop/orders-5d9f7c-abcde | jq .revision
""",
)
@_POD
@click.option("--json", "as_json", is_flag=True, help="Has no effect: the configuration is JSON always.")
@asks
def config(*, pod: str, as_json: bool, asked: Asked) -> None:
    """Show the settings and the snapshot in force of each sidecar of POD, secrets redacted, as JSON."""

    async def ask(cluster: Cluster) -> list[tuple[Place, Ran | ClusterError]]:
        return await run_in_each(cluster, await _places(cluster, asked, pod), ["ringfence", "proxy", "config"])

    answers = asked.run(ask)
    found, said = _objects(answers)
    for line in said:
        click.echo(plain(line), err=True)
    if len(answers) == 1 and found:
        click.echo(json.dumps(found[0][1], indent=2))
    elif found:
        click.echo(json.dumps({str(place): document for place, document in found}, indent=2))
    if len(found) < len(answers):
        sys.exit(1)


@click.command(
    name="loglevel",
    epilog="""\b
Example:
  ringfence k8s loglevel deploy/orders -n shop
  ringfence k8s loglevel deploy/orders -n shop debug
""",
)
@_POD
@click.argument("level", required=False, type=click.Choice(list(LEVELS)))
@_JSON
@asks
def loglevel(*, pod: str, level: str | None, as_json: bool, asked: Asked) -> None:
    """Show the log level of the sidecars of POD, or set it until they end."""
    argv = ["ringfence", "proxy", "loglevel", "--json", *([level] if level is not None else [])]

    async def ask(cluster: Cluster) -> list[tuple[Place, Ran | ClusterError]]:
        return await run_in_each(cluster, await _places(cluster, asked, pod), argv)

    answers = asked.run(ask)
    told, said = _objects(answers)
    found = {str(place): str(document.get("level", "")) for place, document in told}
    if as_json:
        click.echo(json.dumps({"pods": found}, indent=2))
    else:
        for name, held in found.items():
            click.echo(plain(f"{name}  {held}"))
    for line in said:
        click.echo(plain(line), err=True)
    if len(found) < len(answers):
        sys.exit(1)


@click.command(
    name="tap",
    epilog="""\b
Example:
  ringfence k8s tap deploy/orders -n shop --denied
""",
)
@_POD
@click.option("--denied", is_flag=True, help="Only what was denied or failed.")
@click.option("--would-deny", is_flag=True, help="Only what passes because the service is observed.")
@click.option("--shadow", is_flag=True, help="Only where the shadow policy thinks otherwise.")
@click.option("--from", "caller", metavar="WHO", help="Only calls of WHO: a SPIFFE ID, or [NAMESPACE/]SERVICE-ACCOUNT.")
@click.option("--to", "service", metavar="SERVICE", help="Only calls to [NAMESPACE/]SERVICE.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N lines. [default: at Ctrl-C]")
@_JSON
@asks
def tap(*, pod: str, limit: int | None, as_json: bool, asked: Asked, **filters: Any) -> None:
    """Watch requests and connections as the sidecars of POD judge them, a line each."""
    argv = ["ringfence", "tap"]
    for name in ("denied", "would_deny", "shadow"):
        argv += [f"--{name.replace('_', '-')}"] if filters[name] else []
    # One word each, so that nothing that is given is read as another option.
    argv += [f"--from={filters['caller']}"] if filters["caller"] else []
    argv += [f"--to={filters['service']}"] if filters["service"] else []
    argv += ["--json"] if as_json else []

    async def ask(cluster: Cluster) -> None:
        places = _few(await _places(cluster, asked, pod))
        streams = [cluster.stream(place, argv) for place in places]
        await _show(list(zip(places, streams, strict=True)), limit)

    asked.run(ask)


def _few(places: list[Place]) -> list[Place]:
    if len(places) > _TAPS_LIMIT:
        raise ClusterError(f"{len(places)} pods are more than {_TAPS_LIMIT} to watch at once (name one)")
    return places


class _Enough(Exception):
    """As many lines as were asked for have been shown."""


async def _show(
    streams: Sequence[tuple[Place, AsyncGenerator[str, None]]], limit: int | None, *, as_json: bool = False
) -> None:
    """Each line as it comes, with its pod where there are several, or as an object of both."""
    shown = 0

    async def one(place: Place, lines: AsyncGenerator[str, None]) -> None:
        nonlocal shown
        # Closed by the task that opened it: the library's connections cannot be left to others.
        async with aclosing(lines):
            async for line in lines:
                if as_json:
                    click.echo(json.dumps({"pod": str(place), "line": line}))
                else:
                    click.echo(plain(line if len(streams) == 1 else f"{place.pod}  {line}"))
                shown += 1
                if shown == limit:
                    raise _Enough

    failed: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for place, lines in streams:
                tasks.create_task(one(place, lines), name=f"watch {place}")
    except* _Enough:
        pass
    except* ClusterError as errors:
        failed += errors.exceptions
    if failed:  # not raised above: out of ``except*`` it would come as a group, in Python before 3.11.4
        raise ClusterError(str(failed[0])) from failed[0]


@click.command(
    name="logs",
    epilog="""\b
Example:
  ringfence k8s logs shop/orders-5d9f7c-abcde --tail 50
  ringfence k8s logs deploy/orders -n shop --follow
""",
)
@_POD
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--previous", is_flag=True, help="Of the sidecar that ended last.")
@click.option("--tail", type=click.IntRange(0, 100_000), default=200, show_default=True, help="The last N lines.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N lines.")
@click.option("--json", "as_json", is_flag=True, help='A JSON object a line: {"pod": …, "line": …}.')
@asks
def logs(*, pod: str, follow: bool, previous: bool, tail: int, limit: int | None, as_json: bool, asked: Asked) -> None:
    """Show the log of the sidecars of POD."""

    async def ask(cluster: Cluster) -> None:
        places = _few(await _places(cluster, asked, pod))
        streams = []
        for place in places:
            params = {"container": place.container, "tailLines": str(tail)}
            params |= {"follow": "true"} if follow else {}
            params |= {"previous": "true"} if previous else {}
            streams.append((place, cluster.lines(PODS.path(place.namespace, place.pod, "log"), params)))
        await _show(streams, limit, as_json=as_json)

    asked.run(ask)
