"""``ringfence k8s history`` and ``rollback``: the versions of a document that were in force, and one of them again.

They speak to the API server alone, so they work while the control plane is away. What is written is judged as whatever
anybody writes: by the kind's schema and by the control plane's webhook.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click

from k8s.client.connection import Connection, Json
from k8s.client.errors import ConfigurationError, ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import CONTROLLER_REVISIONS, Resource
from k8s.controller.documents import RESOURCES
from k8s.controller.history import DIGEST, LABEL, digest_of
from k8s.daytwo.options import plain
from ringfence.kit.labels import is_label
from ringfence.policy.problems import choose_from, shown

T = TypeVar("T")
_NAMES = {name: one for one in RESOURCES for name in (one.kind.lower(), one.plural)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A document as it was named."""

    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource.kind}/{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One that was in force; ``current``: what the document says now."""

    number: int
    at: str
    current: bool
    spec: Any


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        click.option("--namespace", "-n", default="", metavar="N", help="[default: the context's]"),
        click.option("--context", default="", metavar="NAME", help="The context of the kubeconfig."),
        click.option("--kubeconfig", default="", metavar="FILE", help="[default: $KUBECONFIG, ~/.kube/config]"),
        click.argument("document", metavar="KIND/[NAMESPACE/]NAME"),
    ):
        command = option(command)
    return command


@click.command(epilog="\b\nExample:\n  ringfence k8s history allowlist/orders -n shop\n")
@_options
def history(document: str, kubeconfig: str, context: str, namespace: str, as_json: bool) -> None:
    """The versions of a document that were in force, the newest last."""
    named = _parse(document, namespace)

    async def ask(connection: Connection) -> list[Version]:
        return (await _versions(connection, named))[1]

    found = _run(kubeconfig, context, ask)
    if as_json:
        rows = [{"revision": one.number, "at": one.at, "current": one.current, "spec": one.spec} for one in found]
        click.echo(json.dumps({"document": str(named), "versions": rows}))
        return
    for one in found:
        click.echo(plain(f"{one.number:>6}  {one.at}{'  current' if one.current else ''}"))


@click.command(epilog="\b\nExample:\n  ringfence k8s rollback allowlist/orders -n shop --to 3\n")
@_options
@click.option("--to", "number", type=click.IntRange(min=1), metavar="REVISION", help="[default: the one before]")
def rollback(document: str, kubeconfig: str, context: str, namespace: str, as_json: bool, number: int | None) -> None:
    """Write a document as an earlier version had it. Where it is kept in git, take it back there, too."""
    named = _parse(document, namespace)

    async def ask(connection: Connection) -> tuple[int, int]:
        held, versions = await _versions(connection, named)
        wanted = _choose(versions, number, named)
        if wanted.current:
            return wanted.number, int(held["metadata"]["generation"])
        where = held["metadata"].get("namespace", "")
        try:
            written = await connection.replace(named.resource, named.name, {**held, "spec": wanted.spec}, where)
        except ConflictError:
            _end(f"{named}: somebody changed it meanwhile (try again)", 1)
        return wanted.number, int(written["metadata"]["generation"])

    revision, generation = _run(kubeconfig, context, ask)
    if as_json:
        click.echo(json.dumps({"document": str(named), "revision": revision, "generation": generation}))
    else:
        click.echo(plain(f"{named}: as in revision {revision}, now generation {generation}"))


def _choose(versions: list[Version], number: int | None, named: Named) -> Version:
    if number is None:
        earlier = [one for one in versions if not one.current]
        if not earlier:
            _end(f"{named}: no other version of it was in force (write what you want by kubectl apply)", 1)
        return earlier[-1]
    found = next((one for one in versions if one.number == number), None)
    if found is None:
        known = ", ".join(str(one.number) for one in versions) or "none"
        _end(f"{named}: no revision {number} is kept (kept: {known})", 1)
    return found


async def _versions(connection: Connection, named: Named) -> tuple[Json, list[Version]]:
    """The document as it is, and what is kept of it, the newest last."""
    namespace = named.namespace or connection.namespace
    held = await connection.get(named.resource, named.name, namespace)
    now, uid = digest_of(held.get("spec")), held["metadata"]["uid"]
    found = []
    async for one in connection.all(CONTROLLER_REVISIONS, namespace, labels=f"{LABEL}={named.resource.kind}"):
        metadata = one["metadata"]
        if any(owner.get("uid") == uid for owner in metadata.get("ownerReferences") or ()):
            found.append(
                Version(
                    number=int(one.get("revision") or 0),
                    at=str(metadata.get("creationTimestamp") or "-"),
                    current=(metadata.get("annotations") or {}).get(DIGEST) == now,
                    spec=(one.get("data") or {}).get("spec"),
                )
            )
    return held, sorted(found, key=lambda version: version.number)


def _parse(said: str, namespace: str) -> Named:
    kind, _, rest = said.partition("/")
    where, slash, name = rest.partition("/")
    where, name = (where, name) if slash else (namespace, where)
    resource = _NAMES.get(kind.lower())
    if resource is None:
        _end(f"{shown(kind)} is no kind of document ({choose_from(kind.lower(), sorted(_NAMES))})", 2)
    if not name or "/" in name or (where and not is_label(where)):
        _end(f"{shown(said)} names no document (write KIND/NAME or KIND/NAMESPACE/NAME)", 2)
    return Named(resource=resource, namespace=where, name=name)


def _run(kubeconfig: str, context: str, ask: Callable[[Connection], Awaitable[T]]) -> T:
    async def whole() -> T:
        connection = Connection.open(kubeconfig, context)
        try:
            return await ask(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(whole())
    except ConfigurationError as error:
        _end(str(error), 2)
    except NotFoundError as error:
        _end(f"there is no such document: {error.message} (look with kubectl get ringfence)", 1)
    except KubernetesError as error:
        _end(str(error), 1)


def _end(line: str, status: int) -> NoReturn:
    click.echo(plain(line), err=True)
    sys.exit(status)
