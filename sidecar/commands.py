"""``ringfence sidecar``: the command line as people write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sidecar.settings_sources import SETTINGS
from sidecar.starting import run_or_tell, settings_or_tell

_HELP = """Run the proxy beside one workload.

Settings come from --config FILE (a document of kind Sidecar), from RINGFENCE_SIDECAR_* variables (--spiffe-id is
RINGFENCE_SIDECAR_SPIFFE_ID) and from flags; flags win over variables, variables over the file. What to serve and whom
to permit is no setting: the control plane sends it.

\b
Example:
  ringfence sidecar --spiffe-id spiffe://shop.example/ns/shop/sa/orders \\
    --join 127.0.0.1:7401 --control 127.0.0.1:7402 --root-fingerprint 9f86d081... \\
    --join-token-file token --state /var/lib/ringfence/orders --signals 127.0.0.1:9402

\b
The same as a file:
  apiVersion: ringfence.io/v1alpha1
  kind: Sidecar
  metadata: {name: orders}
  spec:
    spiffeId: spiffe://shop.example/ns/shop/sa/orders
    controlPlane:
      join: 127.0.0.1:7401
      address: 127.0.0.1:7402
      rootFingerprint: "9f86d081..."
    joinTokenFile: token
    state: /var/lib/ringfence/orders
    signals: 127.0.0.1:9402
"""


def _setting_options(command: Callable[..., None]) -> Callable[..., None]:
    for setting in reversed(SETTINGS):
        name = setting.key.replace("-", "_")
        command = click.option(f"--{setting.key}", name, metavar=setting.metavar, help=setting.text)(command)
    return command


@click.command(help=_HELP)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings as a document of kind Sidecar; paths in it start at its folder.",
)
@_setting_options
@click.option(
    "--print-config", is_flag=True, help="Print the effective settings as JSON and stop; secrets are left out."
)
def sidecar(config: Path | None, print_config: bool, **flags: Any) -> None:
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    if not print_config:
        raise SystemExit(run_or_tell(config, given))
    settings = settings_or_tell(config, given)
    if settings is None:
        raise SystemExit(2)
    click.echo(json.dumps(settings.redacted(), indent=2))
