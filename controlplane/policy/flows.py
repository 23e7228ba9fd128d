"""``ringfence policy flows``: what was judged, from a running control plane or a file; and as a file. Adapter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from controlplane.operate.status_table import table_lines
from controlplane.policy.flow_source import FlowWords, asks_of_flows, flows_asked
from controlplane.policy.options import refuse
from ringfence.policy.learning.flow import Flow, Verdict, caller_words
from ringfence.policy.learning.flow_file import FORMAT, FlowFile, file_lines, flow_document

_HEAD: Final = ("CALLER", "SERVICE", "PORT", "CALL", "VERDICT", "CALLS", "LAST SEEN", "RULE OR REASON")
_EPILOG: Final = """\b
Example:
  ringfence policy flows --since 1h --to shop/orders --state .ringfence/shop
  ringfence policy flows --would-deny --json | jq '.flows[].caller'
  ringfence policy flows --since 24h --output flows.jsonl
"""


@click.command(name="flows", epilog=_EPILOG)
@asks_of_flows(since="all that is kept", who=True, where=True)
@click.option("--verdict", type=click.Choice([one.value for one in Verdict]), help="Only calls judged so.")
@click.option("--would-deny", is_flag=True, help="As --verdict would_deny: what only observing lets through.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--jsonl", is_flag=True, help="The export format on standard output: JSON, one flow a line.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="The export format into a new file.")
def command(
    *, verdict: str | None, would_deny: bool, as_json: bool, jsonl: bool, output: Path | None, **said: Any
) -> None:
    """List the calls that sidecars judged: who called what, how it was judged, how often, until when.

    Exit status: 0 done, 1 the file cannot be written, 2 bad input or no answer.
    """
    if would_deny:
        if verdict not in (None, Verdict.WOULD_DENY.value):
            refuse([f"--would-deny: not together with --verdict {verdict} (give one of them)"])
        verdict = Verdict.WOULD_DENY.value
    words = FlowWords(**said, verdict=Verdict(verdict) if verdict is not None else None)
    found = flows_asked(words)
    if output is not None:
        _write(output, found.file)
        click.echo(f"{len(found.file.flows)} flows in {output}", err=True)
    elif jsonl:
        for line in file_lines(found.file):
            click.echo(line)
    elif as_json:
        flows = [flow_document(flow) for flow in found.file.flows]
        told = {"format": FORMAT, "flows": flows, "unrecorded": dict(found.file.unrecorded)}
        click.echo(json.dumps({**told, "truncated": found.truncated}, indent=2))
    else:
        for line in flow_lines(found.file.flows):
            click.echo(line)
    for service, count in sorted(found.file.unrecorded.items()):
        click.echo(f"note: {count} calls to {service} are counted by no flow: there were too many kinds", err=True)
    if found.truncated:
        click.echo("note: there are more flows than shown (narrow the question by --to, --from or --since)", err=True)


def flow_lines(flows: Sequence[Flow]) -> Iterator[str]:
    """A table for people, the callers with most calls first within a service."""
    if not flows:
        yield "no flows"
        return
    rows = [
        (
            caller_words(flow.caller, flow.address),
            flow.service,
            str(flow.port),
            _call_words(flow),
            flow.verdict.value + (f", shadow {flow.shadow}" if flow.shadow else ""),
            str(flow.count),
            datetime.fromtimestamp(flow.last_seen, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
            flow.rule if flow.verdict is Verdict.PERMIT else f"{flow.reason} (nearest: {flow.rule or 'none'})",
        )
        for flow in sorted(flows, key=lambda flow: (flow.service, -flow.count, caller_words(flow.caller), flow.path))
    ]
    yield from table_lines([_HEAD, *rows])


def _call_words(flow: Flow) -> str:
    if flow.is_opaque:
        return "tcp connection"
    return f"{'grpc' if flow.protocol == 'grpc' else flow.method} {flow.path or '(ambiguous path)'}"


def _write(path: Path, file: FlowFile) -> None:
    """A new file for its owner alone: who calls what is nobody else's business."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.writelines(f"{line}\n" for line in file_lines(file))
    except FileExistsError:
        refuse([f"--output: {path} is there already (name a new file, or remove it)"])
    except OSError as error:
        click.echo(f"--output: {path} cannot be written: {error.strerror or error}", err=True)
        sys.exit(1)
