"""``ringfence k8s cni`` and ``ringfence k8s cni-install``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

import click

from k8s.cni.install import Installer, InstallError, Places
from k8s.cni.plugin import answer, run_here
from k8s.cni.request import CONFIGURATION_LIMIT_BYTES

_EPILOG: Final = """\b
Example, as a container runtime calls it:
  CNI_COMMAND=VERSION ringfence k8s cni < conf.json
"""
_KEEP_SECONDS: Final = 10.0
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_INSTALL_EPILOG: Final = """\b
Example, in a pod of a DaemonSet:
  ringfence k8s cni-install --programs /node/opt/cni/bin --lists /node/etc/cni/net.d \\
    --roots /node/opt/ringfence-cni --roots-on-node /opt/ringfence-cni
"""


@click.command(name="cni", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Always: a CNI plugin speaks JSON.")
def command(*, as_json: bool) -> None:
    """Be a CNI plugin: redirect a pod to its sidecar before any of its containers runs.

    A container runtime calls this behind the plugin that makes the pod's network, with CNI_COMMAND, CNI_NETNS and
    CNI_ARGS in the environment and the configuration on standard input. A pod that is injected for it gets its rules,
    or does not start; every other pod passes. `ringfence k8s cni-install` puts it onto a node.

    Exit status: 0 done, 1 an error, which standard output says in CNI's own form.
    """
    configuration = sys.stdin.buffer.read(CONFIGURATION_LIMIT_BYTES + 1)
    status, document = answer(os.environ, configuration, run_here)
    if document is not None:
        click.echo(json.dumps(document))
    raise SystemExit(status)


@click.command(name="cni-install", epilog=_INSTALL_EPILOG)
@click.option("--programs", type=_FOLDER, required=True, metavar="DIR", help="The node's folder of CNI plugins.")
@click.option("--lists", type=_FOLDER, required=True, metavar="DIR", help="The node's folder of CNI configurations.")
@click.option(
    "--roots", type=_FOLDER, required=True, metavar="DIR", help="A folder of the node for copies of the image."
)
@click.option(
    "--roots-on-node", type=_FOLDER, required=True, metavar="DIR", help="The same folder, as the node names it."
)
@click.option(
    "--account", type=_FOLDER, default=_ACCOUNT, metavar="DIR", help="Folder with this pod's token and ca.crt."
)
@click.option("--server", metavar="URL", help="The API server.  [default: by the pod's environment]")
@click.option("--exclude-namespace", "excluded", multiple=True, metavar="NAME", help="Whose pods are never looked at.")
@click.option("--once", is_flag=True, help="Do it once, and end.")
@click.option("--remove", is_flag=True, help="Take it away from the node, and keep it away.")
@click.option("--json", "as_json", is_flag=True, help="What is done as JSON, a line each.")
def install(
    *,
    programs: Path,
    lists: Path,
    roots: Path,
    roots_on_node: Path,
    account: Path,
    server: str | None,
    excluded: tuple[str, ...],
    once: bool,
    remove: bool,
    as_json: bool,
) -> None:
    """Put the CNI plugin onto the node that this pod runs on, and keep it there.

    The plugin stays when this process ends: pods that it should redirect and cannot must not start. --remove takes it
    away, to be used once no pod of the node is injected for it any more.

    Exit status: 0 done, 1 failed.
    """
    places = Places(
        programs=programs,
        lists=lists,
        roots=roots,
        roots_on_node=roots_on_node,
        account=account,
        server=server or _server(),
        exclude_namespaces=excluded,
    )
    installer = Installer(places)
    try:
        if not remove:
            installer.start(f"{time.time_ns():020d}")
        if once:
            _settle(installer, remove, as_json)
            return
        _keep(installer, remove, as_json)
    except InstallError as error:
        raise click.ClickException(str(error)) from error


def _keep(installer: Installer, remove: bool, as_json: bool) -> None:
    """Until SIGTERM; what fails now, on a node whose network is not there yet, is told, and tried again."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    said = ""
    while not ending.is_set():
        try:
            _settle(installer, remove, as_json)
            said = ""
        except InstallError as error:
            if str(error) != said:
                said = str(error)
                _tell(said, as_json)
        ending.wait(_KEEP_SECONDS)


def _settle(installer: Installer, remove: bool, as_json: bool) -> None:
    """Raises InstallError."""
    if installer.remove() if remove else installer.keep():
        _tell("removed" if remove else "installed", as_json)


def _server() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise click.UsageError("--server: missing, and this is no pod (give the API server's URL)")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _tell(what: str, as_json: bool) -> None:
    click.echo(json.dumps({"msg": what}) if as_json else what)
