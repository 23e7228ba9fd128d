"""A real Kubernetes at hand: ``python -m tests.cluster up``, then ``kubectl``, in the end ``down``.

It runs until ``down``, whatever becomes of the shell that started it. Several at once differ by ``--name``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from tests.cluster import build, product_image, traces
from tests.cluster.cluster import Cluster, Settings, network_words
from tests.cluster.machine import ClusterError, environment

_NAME = re.compile(r"[a-z0-9]{1,20}")


def _full(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} is not one to twenty lower-case letters and digits")
    return f"{traces.PREFIX}{name}"


_name = click.option("--name", default="dev", show_default=True, callback=_full, help="Which cluster.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__)
def main() -> None:
    pass


@main.command("build")
def build_programs() -> None:
    """Build what is missing; the folder of the programs."""
    print(build.ensure())


@main.command()
@_name
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 2))
@click.option("--image/--no-image", default=True, help="Build the product's image and load it.")
@click.argument("archives", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def up(name: str, nodes: int, image: bool, archives: tuple[Path, ...]) -> None:
    """Start a cluster whose nodes have the product's image, localhost/ringfence:test, and those of ARCHIVES."""
    if traces.traces(name):
        raise ClusterError(f"{name} is here already (end it by: python -m tests.cluster down)")
    programs = build.ensure()
    ours = (product_image.archive(),) if image else ()
    settings = Settings(programs=programs, name=name, nodes=nodes, images=(*ours, *archives))
    cluster = Cluster(settings)
    try:
        cluster.start()
    except BaseException:
        traces.remove(name)
        raise
    print(f"kubeconfig: {cluster.kubeconfig}")
    print(f"its network: {' '.join(network_words(name))} COMMAND")
    print(f"its first node: {' '.join(cluster.first.enter())} COMMAND")
    print(f"logs: {cluster.first.folder / 'log'}")
    print("kubectl: python -m tests.cluster kubectl get pods")


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str, words: tuple[str, ...]) -> None:
    """Run kubectl against a cluster."""
    _become(name, "kubectl", *words)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def helm(name: str, words: tuple[str, ...]) -> None:
    """Run helm against a cluster."""
    _become(name, "helm", *words)


def _become(name: str, program: str, *words: str) -> None:
    config = traces.folder_of(name) / "admin.conf"
    if not config.exists():
        raise ClusterError(f"no cluster {name} (start it by: python -m tests.cluster up)")
    argv = [*network_words(name), str(build.folder() / program), f"--kubeconfig={config}", *words]
    os.execvpe(argv[0], argv, environment(name))


@main.command()
@_name
@click.option("--all", "every", is_flag=True, help="All clusters on this machine, other people's, too.")
def down(name: str, every: bool) -> None:
    """End a cluster and remove all that it left."""
    for found in traces.names() if every else [name]:
        traces.remove(found)


if __name__ == "__main__":
    try:
        main(prog_name="python -m tests.cluster")
    except (ClusterError, build.BuildError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
