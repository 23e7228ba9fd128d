"""``ringfence sidecar``: from the command line to ``SidecarSettings``, then to the app, which is imported only then."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sidecar.last_words import leave
from sidecar.settings import Given, SettingsError, SidecarSettings, load
from sidecar.settings_sources import SETTINGS, given_by_document, given_by_environment, given_by_flags

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
    settings = _settings(config, {name.replace("_", "-"): value for name, value in flags.items()})
    if print_config:
        click.echo(json.dumps(settings.redacted(), indent=2))
        return
    from sidecar.app import run

    raise SystemExit(run(settings))


def _settings(config: Path | None, flags: dict[str, str | None]) -> SidecarSettings:
    """All settings, or every problem on standard error and exit status 2."""
    problems: list[str] = []
    sources: list[dict[str, Given]] = []
    readings: list[Callable[[], dict[str, Given]]] = [
        lambda: given_by_environment(os.environ),
        lambda: given_by_flags(flags),
    ]
    if config is not None:
        readings.insert(0, lambda: given_by_document(config))
    for reading in readings:
        try:
            sources.append(reading())
        except SettingsError as error:
            problems.extend(error.problems)
    if not problems:
        try:
            settings = load(*sources)
            _check_bundle(settings)
            _check_tracing(settings)
            return settings
        except SettingsError as error:
            problems.extend(error.problems)
    for problem in problems:
        click.echo(problem, err=True)
    leave("\n".join(problems))
    raise SystemExit(2)


def _check_bundle(settings: SidecarSettings) -> None:
    """A bundle file that is unfit is bad input, as long as nothing runs yet; later it may only be left alone."""
    trust = settings.identity.trust
    if trust.bundle_file is not None:
        from sidecar.identity.anchor import read_bundle

        try:
            read_bundle(trust.bundle_file, settings.identity.spiffe_id.trust_domain)
        except ValueError as error:
            raise SettingsError([f"--bundle: {error}"]) from error


def _check_tracing(settings: SidecarSettings) -> None:
    if settings.tracing is None:
        return
    from sidecar.tracing.settings import missing_packages, read_headers

    missing = missing_packages()
    if missing is not None:
        raise SettingsError([f"--tracing-endpoint: {missing}"])
    if settings.tracing.headers_file is not None:
        try:
            read_headers(settings.tracing.headers_file)
        except ValueError as error:
            raise SettingsError([f"--tracing-headers-file: {error}"]) from error
