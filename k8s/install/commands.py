"""``ringfence k8s ensure-passphrase`` and ``ringfence k8s remember-root``: what the chart runs in the cluster."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from k8s.install.api import ApiError, ApiServer, ask, refused

PASSPHRASE_KEY: Final = "passphrase"
ROOT_KEY: Final = "root.pem"
_ROOT_LIMIT_BYTES: Final = 65_536
_LABELS: Final = {"app.kubernetes.io/part-of": "ringfence", "app.kubernetes.io/managed-by": "ringfence"}
_CREATED, _OK, _CONFLICT = 201, 200, 409

_json = click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")


@click.command(
    "ensure-passphrase",
    epilog="\b\nExample, in a pod of the cluster:\n  ringfence k8s ensure-passphrase --secret ringfence-passphrase",
)
@click.option("--secret", required=True, metavar="NAME", help="Secret of the pod's own namespace.")
@_json
def ensure_passphrase(secret: str, as_json: bool) -> None:
    """Make the Secret with a random passphrase for the authority, unless it is there.

    It is created, never read and never changed: the account that runs this may do nothing but create Secrets.
    """

    def work(server: ApiServer) -> bool:
        body = {**_head("Secret", secret), "stringData": {PASSPHRASE_KEY: secrets.token_urlsafe(32)}}
        answer = ask(server, "POST", f"/api/v1/namespaces/{server.namespace}/secrets", body, time.sleep)
        if answer.status not in (_CREATED, _CONFLICT):
            raise refused(answer, f"secret {secret}")
        return answer.status == _CREATED

    _tell(f"secret {secret}", work, as_json)


@click.command(
    "remember-root",
    epilog="\b\nExample, in a pod of the cluster:\n"
    "  ringfence k8s remember-root --data /var/lib/ringfence/ca --config-map ringfence-root",
)
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The authority's data folder."
)
@click.option("--config-map", required=True, metavar="NAME", help="ConfigMap of the pod's own namespace.")
@_json
def remember_root(data: Path, config_map: str, as_json: bool) -> None:
    """Write the mesh's root on record in the cluster, so that a lost volume is never taken for a new mesh.

    The record is made once. Where it names another root, nothing is done and this fails.
    """
    try:
        with (data / ROOT_KEY).open("rb") as stream:
            root = stream.read(_ROOT_LIMIT_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {data / ROOT_KEY}: {error} (ringfence ca init makes it)") from error

    def work(server: ApiServer) -> bool:
        place = f"/api/v1/namespaces/{server.namespace}/configmaps"
        body = {**_head("ConfigMap", config_map), "data": {ROOT_KEY: root}}
        answer = ask(server, "POST", place, body, time.sleep)
        if answer.status == _CREATED:
            return True
        if answer.status == _CONFLICT:
            answer = ask(server, "GET", f"{place}/{config_map}", None, time.sleep)
        if answer.status != _OK:
            raise refused(answer, f"config map {config_map}")
        held = answer.body.get("data")
        if not isinstance(held, dict) or str(held.get(ROOT_KEY, "")).strip() != root.strip():
            raise ApiError(
                f"config map {config_map} has another root on record than {data / ROOT_KEY} "
                "(bring the right volume back; delete the record only to begin a new mesh)"
            )
        return False

    _tell(f"config map {config_map}", work, as_json)


def _head(kind: str, name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": _LABELS}}


def _tell(what: str, work: Callable[[ApiServer], bool], as_json: bool) -> None:
    try:
        created = work(ApiServer.of_pod())
    except (ApiError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from error
    click.echo(json.dumps({"created": created}) if as_json else f"{what} {'created' if created else 'was there'}")
