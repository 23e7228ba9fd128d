"""``ringfence k8s check``: from the command line to the findings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from k8s.daytwo.options import Asked, asks_of_all, plain, refuse


@click.command(
    name="check",
    epilog="""\b
Example:
  ringfence k8s check --namespace shop
  ringfence k8s check --namespace shop -f manifests/
""",
)
@click.option(
    "-f",
    "--filename",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Read manifests instead of a cluster: a file, a folder, or - for standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@asks_of_all
def command(*, asked: Asked, files: tuple[Path, ...], as_json: bool) -> None:
    """Tell what would break in the mesh, and the smallest rule that keeps it.

    Before and after an install, for --namespace (several with commas between), else for those that are labelled, else
    for all. Standard output is YAML: findings as comments, and rules that `kubectl apply -f -` takes. Exit status 0:
    clean, 1: there are findings, or the cluster cannot be read, 2: bad input.
    """
    from k8s.ramp.check import check, is_clean, report_lines
    from k8s.ramp.manifests import ManifestError, read_manifests
    from k8s.ramp.reading import read_cluster
    from k8s.ramp.snapshot import Cluster

    namespaces = frozenset(filter(None, asked.namespace.split(",")))
    unread: list[str] = []
    if files:
        try:
            cluster = Cluster(items=read_manifests(files), namespaces=namespaces)
        except ManifestError as error:
            refuse(str(error))
    else:
        cluster, unread = asked.run(lambda live: read_cluster(live, namespaces))
    for line in unread:
        click.echo(plain(line), err=True)
    unknown = sorted(cluster.namespaces - cluster.namespace_labels.keys())
    if unknown:
        refuse(f"--namespace: there is nothing in {unknown[0]!a} (give one that is there)")
    findings = check(cluster)
    if as_json:
        told = [one.document() for one in findings]
        document = {"namespaces": sorted(cluster.chosen), "findings": told, "unread": unread}
        click.echo(json.dumps(document, indent=2))
    else:
        for line in report_lines(findings):
            click.echo(line)
    sys.exit(0 if is_clean(findings) else 1)
