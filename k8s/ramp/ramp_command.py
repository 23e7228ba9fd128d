"""``ringfence k8s ramp|who-would-break|uninstall``: a namespace's way into the mesh, to strict, and out again."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from k8s.daytwo.cluster import Cluster
from k8s.daytwo.options import Asked, asks_of_target, plain, refuse
from k8s.objects.lenient import Json, labels, text
from k8s.objects.names import MODE, NEVER_MESHED, REVISION, SYSTEM_NAMESPACE
from k8s.ramp.breaking import breaking_lines
from k8s.ramp.check import check
from k8s.ramp.doing import Doer
from k8s.ramp.injected import current_images, injector_of
from k8s.ramp.plan import (
    POSTURE_NAME,
    Goal,
    Step,
    blockers,
    by_hand,
    forgotten,
    goal_reached,
    into_observe,
    into_revision,
    into_strict,
    kept_strict,
    let_through,
    out_of_mesh,
)
from k8s.ramp.reading import read_cluster
from k8s.ramp.seen import Seen, who_would_break
from k8s.ramp.snapshot import Cluster as Snapshot
from k8s.ramp.snapshot import name_of, namespace_of
from ringfence.kit.clock import SystemClock

_SPAN: Final = re.compile(r"[1-9][0-9]{0,4}[smhd]")
_OUT_DAYS: Final = 2
_LEFT: Final = (
    "what two of them say to each other ends with their identities, once the control plane is gone (make them anew "
    "before you remove the mesh itself)"
)
_SYSTEM: Final = click.option(
    "--system-namespace", default=SYSTEM_NAMESPACE, show_default=True, metavar="N", help="The mesh's own."
)
_SINCE: Final = click.option("--since", default="24h", show_default=True, metavar="SPAN", help="How far to look back.")
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
_TIMEOUT: Final = click.option(
    "--timeout", type=click.IntRange(1, 86_400), default=600, show_default=True, help="Seconds for each rollout."
)


class _No(Exception):
    """It is not done, for the reasons given."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@click.command(
    name="who-would-break",
    epilog="""\b
Example:
  ringfence k8s who-would-break shop --since 24h
""",
)
@click.argument("target", metavar="NAMESPACE")
@_SINCE
@_SYSTEM
@_JSON
@asks_of_target
def who(*, target: str, since: str, system_namespace: str, as_json: bool, asked: Asked) -> None:
    """List the calls to and from NAMESPACE that pass only because it is observed or permissive.

    Exit status: 0 there are none, 1 there are some or not everybody could be asked, 2 bad input.
    """
    _check_span(since)
    seen = asked.run(lambda cluster: _seen(cluster, target, since, system_namespace))
    if as_json:
        told = [one.document() for one in seen.breaking]
        click.echo(json.dumps({"calls": told, "unknown": list(seen.unknown), "asked": seen.asked}, indent=2))
    else:
        for line in breaking_lines(seen.breaking) if seen.breaking else ("nobody would break",):
            click.echo(plain(line))
        for line in seen.unknown:
            click.echo(plain(f"not known: {line}"), err=True)
    sys.exit(1 if seen.breaking or seen.unknown else 0)


@click.command(
    name="ramp",
    epilog="""\b
Example:
  ringfence k8s ramp shop --to observe           what it would do
  ringfence k8s ramp shop --to observe --apply
  ringfence k8s ramp shop --to strict --apply
""",
)
@click.argument("target", metavar="NAMESPACE")
@click.option("--to", "goal", type=click.Choice([one.value for one in Goal]), help="[default: the next]")
@click.option("--apply", "apply_it", is_flag=True, help="Do it; without, only tell.")
@click.option("--days", type=click.IntRange(1, 89), default=14, show_default=True, help="How long to observe at most.")
@click.option("--despite-callers", is_flag=True, help="Go strict although somebody would break.")
@_SINCE
@_TIMEOUT
@_SYSTEM
@_JSON
@asks_of_target
def ramp(
    *,
    target: str,
    goal: str | None,
    apply_it: bool,
    days: int,
    despite_callers: bool,
    since: str,
    timeout: int,
    system_namespace: str,
    as_json: bool,
    asked: Asked,
) -> None:
    """Bring NAMESPACE into the mesh (observe), then to default deny (strict), or out again.

    Tells each step with the command that does it by hand; --apply does them, waits for each rollout, and verifies.
    Strict is refused while somebody is seen who would break. Exit status 1: refused, or a step failed.
    """
    _check_span(since)
    if target in NEVER_MESHED or target == system_namespace:
        refuse(f"{target[:80]!a} is never meshed: the cluster would depend on itself (name another namespace)")
    moment = datetime.fromtimestamp(SystemClock().now(), UTC)

    async def work(cluster: Cluster) -> None:
        snapshot = await _read(cluster, (target,))
        if not any(name_of(one) == target for one in snapshot.kind("Namespace")):
            refuse(f"there is no namespace {target[:80]!a} (create it, or name another)")
        here = goal_reached(snapshot, target, _stamp(moment))
        there = Goal(goal) if goal is not None else Goal.STRICT if here is not Goal.OUT else Goal.OBSERVE
        warnings: list[str] = []
        if there is Goal.OUT:
            if strict := kept_strict(snapshot, target):
                raise _No(strict)
            until = _stamp(moment + timedelta(days=_OUT_DAYS))
            steps = [
                *let_through(target, until),
                *out_of_mesh(snapshot, target, _stamp(moment)),
                *forgotten(snapshot, target),
            ]
            warnings += by_hand(snapshot, target, inject=False)
        elif there is Goal.OBSERVE:
            if injector_of(snapshot) is None:
                raise _No(["there is no injector in the cluster (install the chart first: docs/kubernetes.md)"])
            _refuse_blocked(snapshot)
            steps = into_observe(snapshot, target, _stamp(moment + timedelta(days=days)), _stamp(moment))
            warnings += by_hand(snapshot, target, inject=True)
        else:
            if here is Goal.OUT:
                raise _No([f"{target} is not in the mesh yet (bring it in first: --to observe)"])
            warnings += _other_postures(snapshot, target, _stamp(moment))
            warnings += _would_break(await _seen(cluster, target, since, system_namespace, snapshot))
            if warnings and not despite_callers:
                raise _No([*warnings, "it stays as it is (write a rule for each caller, or give --despite-callers)"])
            steps = into_strict(target)
        await _carry_out(cluster, steps, warnings, apply_it=apply_it, as_json=as_json, seconds=timeout)

    _ending(asked, work)


@click.command(
    name="uninstall",
    epilog="""\b
Example:
  ringfence k8s uninstall              what it would do
  ringfence k8s uninstall --apply
""",
)
@click.option("--apply", "apply_it", is_flag=True, help="Do it; without, only tell.")
@_TIMEOUT
@_SYSTEM
@_JSON
@asks_of_target
def uninstall(*, apply_it: bool, timeout: int, system_namespace: str, as_json: bool, asked: Asked) -> None:
    """Roll every workload out of the mesh, no call lost, and tell how the rest is removed.

    First every namespace lets plaintext and unknown callers through, then pods are replaced by ones without a sidecar,
    namespace by namespace; the control plane is needed until then. Exit status 1: a step failed.
    """
    moment = datetime.fromtimestamp(SystemClock().now(), UTC)

    async def work(cluster: Cluster) -> None:
        snapshot = await _read(cluster, ())
        injected = {view.namespace for view in snapshot.pods if view.is_injected}
        meshed = sorted((snapshot.labelled | injected) - {system_namespace})
        if strict := [line for name in meshed for line in kept_strict(snapshot, name)]:
            raise _No(strict)
        until, now = _stamp(moment + timedelta(days=_OUT_DAYS)), _stamp(moment)
        steps = [step for name in meshed for step in let_through(name, until)]
        steps += [step for name in meshed for step in out_of_mesh(snapshot, name, now)]
        steps += [step for name in meshed for step in forgotten(snapshot, name)]
        warnings = [line for name in meshed for line in by_hand(snapshot, name, inject=False)]
        if warnings:
            warnings.append(_LEFT)
        then = _rest(system_namespace)
        await _carry_out(cluster, steps, warnings, apply_it=apply_it, as_json=as_json, seconds=timeout, then=then)

    _ending(asked, work)


@click.command(
    name="upgrade",
    epilog="""\b
Example:
  ringfence k8s upgrade shop --revision canary           what it would do
  ringfence k8s upgrade shop --revision canary --apply
  ringfence k8s upgrade shop --apply                     to what the same revision puts in now
""",
)
@click.argument("target", metavar="NAMESPACE")
@click.option("--revision", metavar="NAME", help='"" for the one without a name. [default: the one that it has]')
@click.option("--apply", "apply_it", is_flag=True, help="Do it; without, only tell.")
@_TIMEOUT
@_JSON
@asks_of_target
def upgrade(*, target: str, revision: str | None, apply_it: bool, timeout: int, as_json: bool, asked: Asked) -> None:
    """Give the pods of NAMESPACE the sidecar that a revision of the control plane puts in now.

    Only workloads whose sidecar is another are restarted, one after another. Back again is the same with the revision
    before. Exit status 1: refused, or a step failed.
    """
    moment = datetime.fromtimestamp(SystemClock().now(), UTC)

    async def work(cluster: Cluster) -> None:
        snapshot = await _read(cluster, (target,))
        held = snapshot.namespace_labels.get(target)
        if held is None or target not in snapshot.labelled:
            raise _No([f"{target[:80]!a} is no namespace of the mesh (bring it in first: ringfence k8s ramp)"])
        wanted = revision if revision is not None else held.get(REVISION, "")
        revisions = sorted(current_images(snapshot))
        if wanted not in revisions:
            told = ", ".join(repr(one) for one in revisions) or "none"
            raise _No([f"there is no control plane of revision {wanted[:63]!a} (there is {told})"])
        steps = into_revision(snapshot, target, wanted, _stamp(moment))
        warnings = by_hand(snapshot, target, inject=True)
        await _carry_out(cluster, steps, warnings, apply_it=apply_it, as_json=as_json, seconds=timeout)

    _ending(asked, work)


def _rest(system_namespace: str) -> list[tuple[str, str]]:
    """Commands that remove the mesh itself, once no pod needs it, and what goes with each."""
    return [
        (f"helm uninstall ringfence -n {system_namespace}", ""),
        ("kubectl get crd -o name | grep '[.]ringfence[.]io$' | xargs kubectl delete", "all its documents, too"),
        (f"kubectl delete namespace {system_namespace}", "the authority's key, too: no way back"),
    ]


def _ending(asked: Asked, work: object) -> None:
    try:
        asked.run(work)  # type: ignore[arg-type]
    except _No as no:
        for line in no.lines:
            click.echo(plain(line), err=True)
        sys.exit(1)


async def _carry_out(
    cluster: Cluster,
    steps: Sequence[Step],
    warnings: Sequence[str],
    *,
    apply_it: bool,
    as_json: bool,
    seconds: int,
    then: Sequence[tuple[str, str]] = (),
) -> None:
    """``then``: commands for afterwards, which are only told."""
    for line in warnings:
        click.echo(plain(f"warning: {line}"), err=True)
    if apply_it:
        await Doer(cluster, lambda line: click.echo(plain(line), err=as_json), timeout_seconds=seconds).do(steps)
    if as_json:
        told: dict[str, object] = {"steps": [one.document() for one in steps], "warnings": list(warnings)}
        told |= {"applied": apply_it, "then": [command for command, _ in then]}
        click.echo(json.dumps(told, indent=2))
        return
    if apply_it:
        click.echo("done")
    else:
        for number, one in enumerate(steps, 1):
            click.echo(plain(f"{number}. {one.what}"))
            click.echo(plain(f"     {one.command}"))
        click.echo("nothing was done (give --apply)")
    if then:
        click.echo("\nthen remove the mesh itself:")
    for command, goes in then:
        click.echo(f"  {command}   ({goes})" if goes else f"  {command}")


def _refuse_blocked(snapshot: Snapshot) -> None:
    found = blockers(check(snapshot))
    if found:
        lines = [f"{one.subject}: {one.what} ({one.mend})" for one in found]
        raise _No([*lines, "nothing was done (mend these first; `ringfence k8s check` tells the commands)"])


def _other_postures(snapshot: Snapshot, namespace: str, now: str) -> list[str]:
    return [
        f"Posture {namespace_of(one)}/{name_of(one)} still observes until {text(one, 'spec', 'until')} (remove it)"
        for one in snapshot.kind("Posture")
        if name_of(one) != POSTURE_NAME
        and (namespace_of(one) == namespace or _is_of_all(one))
        and text(one, "spec", "until") > now
    ]


def _is_of_all(posture: Json) -> bool:
    return text(posture, "spec", "scope") == "mesh" and not labels(posture, "spec", "labels")


def _would_break(seen: Seen) -> list[str]:
    lines = [f"{one.caller} calls {one.called} {one.call} ({one.calls} times): {one.why}" for one in seen.breaking[:20]]
    if len(seen.breaking) > len(lines):
        lines.append(f"and {len(seen.breaking) - len(lines)} more (`ringfence k8s who-would-break` lists them)")
    return lines + [f"not known: {one}" for one in seen.unknown]


async def _read(cluster: Cluster, namespaces: Sequence[str]) -> Snapshot:
    snapshot, unread = await read_cluster(cluster, namespaces)
    for line in unread:
        click.echo(plain(f"warning: {line}"), err=True)
    return snapshot


async def _seen(
    cluster: Cluster, namespace: str, since: str, system_namespace: str, snapshot: Snapshot | None = None
) -> Seen:
    known = snapshot if snapshot is not None else await _read(cluster, (namespace,))
    permissive = [
        name
        for name, one in known.services_of.get(namespace, {}).items()
        if labels(one, "metadata", "annotations").get(MODE) == "permissive"
    ]
    return await who_would_break(cluster, namespace, since, system_namespace, permissive)


def _check_span(since: str) -> None:
    if not _SPAN.fullmatch(since):
        refuse(f"--since: {since[:80]!a} is no span (write 90s, 5m, 24h or 7d)")


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
