"""``ringfence k8s support-bundle``: one file for whoever is to look into a fault."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import click

from k8s.daytwo.bundle import Bundle, contents, gather
from k8s.daytwo.options import Asked, asks_of_all, fail, plain, refuse
from k8s.objects.names import SYSTEM_NAMESPACE
from ringfence.kit.clock import SystemClock


@click.command(
    name="support-bundle",
    epilog="""\b
Example:
  ringfence k8s support-bundle -n shop -o fault.tar.gz && tar tzf fault.tar.gz
""",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: ringfence-support-TIME.tar.gz]"
)
@click.option("--sidecars", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Ask at most so many.")
@click.option("--system-namespace", default=SYSTEM_NAMESPACE, show_default=True, metavar="N", help="The mesh's own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@asks_of_all
def command(*, output: Path | None, sidecars: int, system_namespace: str, as_json: bool, asked: Asked) -> None:
    """Gather versions, standings, events, documents, configurations, logs and metrics of the mesh in one archive.

    Of --namespace, else of all. No key, token, Secret, or value of an app's environment is in it; look into it before
    you give it away all the same. missing.txt in it tells what could not be had. Exit status 1: the file cannot be
    written.
    """
    now = SystemClock().now()
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    path = output or Path(f"ringfence-support-{stamp}.tar.gz")
    if path.exists():
        refuse(f"--output: {path} is there already (name a new file)")
    bundle = asked.run(lambda cluster: gather(cluster, asked.namespace, system_namespace, sidecars))
    _write(path, bundle, int(now))
    if as_json:
        told = {"file": str(path), "files": sorted(bundle.files), "missing": bundle.missing}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{len(bundle.files)} files in {path}")
    for line in bundle.missing:
        click.echo(plain(f"missing: {line}"), err=True)


def _write(path: Path, bundle: Bundle, moment: int) -> None:
    """A new file for its owner alone; half of one is none."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with (
            os.fdopen(descriptor, "wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=moment) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for name, content in contents(bundle):
                entry = tarfile.TarInfo(f"ringfence-support/{name}")
                entry.size, entry.mtime, entry.mode = len(content), moment, 0o600
                archive.addfile(entry, io.BytesIO(content))
    except OSError as error:
        if descriptor >= 0:
            path.unlink(missing_ok=True)
        fail(f"--output: {path} cannot be written: {(error.strerror or str(error)).lower()}")
