"""``ringfence k8s check``: from the command line to the findings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command(
    name="check",
    epilog="""\b
Example:
  ringfence k8s check --namespace shop
  kubectl get all,ingress,networkpolicy -n shop -o yaml | ringfence k8s check -f - --namespace shop
""",
)
@click.option("--namespace", "-n", "namespaces", multiple=True, metavar="N", help="Look at this namespace as a member.")
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
def command(*, namespaces: tuple[str, ...], files: tuple[Path, ...], as_json: bool) -> None:
    """Tell what would break in the mesh, and the smallest rule that keeps it.

    Before and after an install, for the namespaces given, else for those that are labelled, else for all. Standard
    output is YAML: findings as comments, and rules that `kubectl apply -f -` takes. Exit status 0: clean, 1: there are
    findings, 2: bad input.
    """
    from k8s.ramp.check import check, is_clean, report_lines
    from k8s.ramp.manifests import ManifestError, read_manifests
    from k8s.ramp.snapshot import Cluster

    try:
        cluster = Cluster(items=read_manifests(files), namespaces=frozenset(namespaces))
    except ManifestError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    unknown = sorted(cluster.namespaces - cluster.namespace_labels.keys())
    if unknown:
        click.echo(f"--namespace: nothing is in {unknown[0]!r} (give one that the manifests name)", err=True)
        sys.exit(2)
    findings = check(cluster)
    if as_json:
        document = {"namespaces": sorted(cluster.chosen), "findings": [one.document() for one in findings]}
        click.echo(json.dumps(document, indent=2))
    else:
        for line in report_lines(findings):
            click.echo(line)
    sys.exit(0 if is_clean(findings) else 1)
