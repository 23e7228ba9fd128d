"""``ringfence policy learn``: the least allowlists that permit what was observed. Adapter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from controlplane.policy.flow_source import FlowWords, FoundFlows, asks_of_flows, flows_asked
from controlplane.policy.options import Asked, asks, refuse
from ringfence.policy.analysis.changes import Comparison
from ringfence.policy.analysis.world import World
from ringfence.policy.learning.comparing import compared
from ringfence.policy.learning.document_text import document_lines
from ringfence.policy.learning.proposal import Proposal
from ringfence.policy.learning.proposing import propose
from ringfence.policy.learning.replaying import Replay, replay
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.learning.told import proposal_document, proposal_lines
from ringfence.policy.problems import shown

REFUSED: Final = 1
_SINCE_SECONDS: Final = 86_400.0
_PATH: Final = click.Path(path_type=Path)
_EPILOG: Final = """\b
Example:
  ringfence policy learn --since 24h --service shop/orders --output proposed
  ringfence policy learn --flows flows.jsonl --mesh mesh.yaml --json | jq '.proposals[].left_out_and_refused'
"""


@click.command(name="learn", epilog=_EPILOG)
@asks_of_flows(since="24h; of a file, all")
@click.option("--service", "services", multiple=True, metavar="SERVICE", help="NAMESPACE/NAME; may be given again.")
@asks
@click.option("--min-count", type=click.IntRange(1), default=1, show_default=True, help="Leave out what is rarer.")
@click.option(
    "--merge-above",
    type=click.IntRange(2, 1000),
    default=20,
    show_default=True,
    help="More words than this at one place of a path become a parameter.",
)
@click.option("--allow-rest", is_flag=True, help="Propose ** for paths whose tail was not kept, and wild roots.")
@click.option("--include-denied", is_flag=True, help="Propose what was refused, too, in rules apart, with a warning.")
@click.option("--include-unauthenticated", is_flag=True, help="Propose callers without an identity, too.")
@click.option("--output", type=_PATH, metavar="DIR", help="Write a file for each service into this folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    *,
    asked: Asked,
    since: float | None,
    flows: Path | None,
    services: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Propose, for each service, the least allowlist that permits what was observed: with evidence, what was left out
    and why, and a replay of the observed calls by the engine.

    Documents go to standard output, or into --output; what to know of them to standard error, or standard output.
    Flows and policy are those of a running control plane, but for what is given by --flows, --mesh and --policy.

    Exit status: 0 the replay permits all that was learned from, 1 it does not, 2 bad input or no answer.
    """
    settings = LearnSettings(**said)
    world = _world(asked, flows)
    for name in services:
        if world.service(name) is None:
            refuse([f"--service: there is no service {shown(name)} in the mesh (give NAMESPACE/NAME)"])
    words = FlowWords(
        since=_SINCE_SECONDS if since is None and flows is None else since,
        service=services[0] if len(services) == 1 else None,
        flows=flows,
        admin_socket=asked.admin_socket,
        state=asked.state,
    )
    found = flows_asked(words)
    made = _proposals(found, world, services, settings)
    if output is not None:
        _write(output, [one[0] for one in made])
    if as_json:
        told = {"proposals": [proposal_document(*one) for one in made], "truncated": found.truncated}
        click.echo(json.dumps(told, indent=2))
    else:
        _tell(made, written=output is not None)
    if not made:
        click.echo("no flows to learn from", err=True)
    if found.truncated:
        click.echo("note: there are more flows than were read (narrow the question by --service or --since)", err=True)
    if any(replayed.refused for _, replayed, _ in made):
        sys.exit(REFUSED)


def _world(asked: Asked, flows: Path | None) -> World:
    """What is in force: of the files that are given; without any, of where the flows come from."""
    if asked.mesh is not None or asked.policies:
        return Asked(mesh=asked.mesh, policies=asked.policies).world()
    running = flows is None or asked.running or asked.state is not None or asked.admin_socket is not None
    return replace(asked, running=running).world()


def _proposals(
    found: FoundFlows, world: World, services: Sequence[str], settings: LearnSettings
) -> list[tuple[Proposal, Replay, Comparison | None]]:
    flows = found.file.flows
    wanted = services or sorted({flow.service for flow in flows})
    made: list[tuple[Proposal, Replay, Comparison | None]] = []
    for name in dict.fromkeys(wanted):
        service = world.service(name)
        if service is None or not service.has_sidecar:
            click.echo(f"note: flows to {name}, of which the mesh file knows no sidecar, are left out", err=True)
            continue
        unrecorded = found.file.unrecorded.get(name, 0)
        own = [flow for flow in flows if flow.service == name]
        proposal = propose(service, world, own, settings, unrecorded=unrecorded)
        made.append((proposal, replay(proposal, world), compared(proposal, world, found.now)))
    return made


def _tell(made: list[tuple[Proposal, Replay, Comparison | None]], *, written: bool) -> None:
    for number, one in enumerate(made):
        if not written:
            click.echo("---\n" * bool(number) + "\n".join(document_lines(one[0])))
        for line in proposal_lines(*one):
            click.echo(line, err=not written)
        if one[2] is None:
            click.echo("  there are too many kinds of calls to compare with what is in force", err=not written)


def _write(folder: Path, proposals: list[Proposal]) -> None:
    """A file for each service that anything was learned for; nothing is written where one is there already."""
    files = {folder / f"{one.service.replace('/', '-')}-learned.yaml": one for one in proposals if one.allowlist.rules}
    there = [str(path) for path in files if path.exists()]
    if there:
        refuse([f"--output: {path} is there already (remove it, or name another folder)" for path in there])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, proposal in files.items():
            # By another name first: the folder may be one that a control plane watches.
            draft = path.with_name(f".{path.name}.draft")
            draft.write_text("".join(f"{line}\n" for line in document_lines(proposal)), "utf-8")
            os.link(draft, path)
            draft.unlink()
    except OSError as error:
        refuse([f"--output: {folder} cannot be written: {error.strerror or error}"])
