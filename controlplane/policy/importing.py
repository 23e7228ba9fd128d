"""``ringfence policy import``: policies of Istio, Linkerd and Kubernetes as documents of ours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import click

from controlplane.policy.options import refuse
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from ringfence.policy.analysis.explained import place_document, printable
from ringfence.policy.importing.imported import Import
from ringfence.policy.importing.reading import Circumstances, Files, Origin, import_objects
from ringfence.policy.problems import Problem
from ringfence.policy.yamltree import LIMIT_BYTES
from ringfence.spiffe import SpiffeIdError, TrustDomain

WEAKER: Final = 1
_ORIGINS: Final = [one.value for one in Origin]
_EPILOG: Final = """\b
Example:
  kubectl get authorizationpolicies,requestauthentications -A -o yaml > istio.yaml
  ringfence policy import --from istio --trust-domain shop.example istio.yaml --output policies
"""


@click.command(name="import", epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--from", "origin", type=click.Choice([one.value for one in Origin]), required=True, help="Whose they are."
)
@click.option("--trust-domain", metavar="NAME", help="The mesh's, where they say cluster.local or a service account.")
@click.option(
    "--istio-root", default="istio-system", show_default=True, metavar="NAMESPACE", help="Istio's root namespace."
)
@click.option(
    "--root", default="ringfence-system", show_default=True, metavar="NAMESPACE", help="The root namespace here."
)
@click.option("--permissive", is_flag=True, help="Name callers without an identity, too, where ports are permissive.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Write a file for each document there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    *,
    files: tuple[Path, ...],
    origin: str,
    trust_domain: str | None,
    istio_root: str,
    root: str,
    permissive: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Say policies of others as documents, on standard output or in --output, and list what cannot be said.

    Review them: here what no rule permits is refused, and what is listed is not in force. Exit status: 0 done, 1 when
    something that is refused there may pass here, 2 bad input, and nothing is written.
    """
    if trust_domain is not None:
        try:
            trust_domain = TrustDomain.parse(trust_domain).name
        except SpiffeIdError as error:
            refuse([f"--trust-domain: {error}"])
    circumstances = Circumstances(
        trust_domain=trust_domain or "", mesh_namespace=istio_root, root_namespace=root, permissive=permissive
    )
    made = import_objects(_read(files).objects, Origin(origin), circumstances)
    if output is not None:
        _write(made, output)
    if as_json:
        click.echo(json.dumps(_document(made), indent=2))
    elif output is None:
        for document in made.documents:
            click.echo("---")
            click.echo(document.as_yaml(), nl=False)
    for one in () if as_json else made.unsaid:
        click.echo(printable(f"not said ({one.weight}): {one}"), err=True)
    if made.is_weaker:
        sys.exit(WEAKER)


def _read(files: tuple[Path, ...]) -> Files:
    reader, found = ContentReader(clock=SystemClock(), limit_bytes=LIMIT_BYTES), Files()
    for path in dict.fromkeys(files):
        file = reader.read(path)
        if file.error:
            found.problems.append(Problem(str(path), 1, 1, f"cannot be read: {file.error}"))
        else:
            found.read(file.content, str(path))
    if found.problems:
        refuse(sorted(found.problems))
    if not found.objects:
        refuse(["there is no object in these files"])
    return found


def _write(made: Import, folder: Path) -> None:
    """A file for each document; one that is there stays, and then nothing is written."""
    paths = {folder / f"{one.namespace}.{one.kind.lower()}.{one.name}.yaml": one for one in made.documents}
    there = sorted(str(path) for path in paths if os.path.lexists(path))
    if there:
        refuse([f"{path} is there already (remove it, or give another --output)" for path in there])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, document in paths.items():
            with path.open("x") as file:
                file.write(document.as_yaml())
    except OSError as error:
        refuse([f"--output: {error.filename or folder} cannot be written: {error.strerror or error}"])


def _document(made: Import) -> dict[str, object]:
    return {
        "documents": [
            {"kind": one.kind, "namespace": one.namespace, "name": one.name, "yaml": one.as_yaml()}
            for one in made.documents
        ],
        "unsaid": [
            {"place": place_document(one.place), "source": one.source, "why": one.why, "weight": one.weight}
            for one in made.unsaid
        ],
        "weaker": made.is_weaker,
    }
