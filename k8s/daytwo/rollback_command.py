"""``ringfence k8s history`` and ``rollback``: the versions of a document that were in force, and one of them again;
also where the document was deleted.

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
from k8s.controller.history import DIGEST, LABEL, NAME, digest_of
from k8s.daytwo.options import plain
from ringfence.kit.labels import is_label
from ringfence.policy.problems import choose_from, shown

T = TypeVar("T")
_NAMES_TOLD = 10
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


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What there is of a document. ``held``: as it is, None where it was deleted; ``versions``: those that are kept,
    the newest last."""

    namespace: str
    held: Json | None
    versions: list[Version]


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
    """The versions of a document that were in force, the newest last; also of one that was deleted."""
    named = _parse(document, namespace)

    async def ask(connection: Connection) -> History:
        return await _history(connection, named)

    found = _run(kubeconfig, context, ask)
    if as_json:
        rows = [
            {"revision": one.number, "at": one.at, "current": one.current, "spec": one.spec} for one in found.versions
        ]
        click.echo(json.dumps({"document": str(named), "deleted": found.held is None, "versions": rows}))
        return
    for one in found.versions:
        click.echo(plain(f"{one.number:>6}  {one.at}{'  current' if one.current else ''}"))
    if found.held is None:
        click.echo(plain(f"{named} was deleted: ringfence k8s rollback brings it back"), err=True)


@click.command(epilog="\b\nExample:\n  ringfence k8s rollback allowlist/orders -n shop --to 3\n")
@_options
@click.option("--to", "number", type=click.IntRange(min=1), metavar="REVISION", help="[default: the one before]")
def rollback(document: str, kubeconfig: str, context: str, namespace: str, as_json: bool, number: int | None) -> None:
    """Write a document as an earlier version had it. Where it is kept in git, take it back there, too.

    One that was deleted is made anew, by default as it was last in force, without its labels and annotations.
    """
    named = _parse(document, namespace)

    async def ask(connection: Connection) -> tuple[int, Json, bool]:
        found = await _history(connection, named)
        wanted = _choose(found.versions, number, named)
        if wanted.current and found.held is not None:
            return wanted.number, found.held, False
        return wanted.number, await _write(connection, named, found, wanted), found.held is None

    revision, written, anew = _run(kubeconfig, context, ask)
    generation = int(written["metadata"]["generation"])
    if as_json:
        told = {"document": str(named), "revision": revision, "generation": generation, "made_anew": anew}
        click.echo(json.dumps(told))
    else:
        how = "made anew as in" if anew else "as in"
        click.echo(plain(f"{named}: {how} revision {revision}, now generation {generation}"))


async def _write(connection: Connection, named: Named, found: History, wanted: Version) -> Json:
    """The document as it is then."""
    try:
        if found.held is not None:
            body = {**found.held, "spec": wanted.spec}
            return await connection.replace(named.resource, named.name, body, found.namespace)
        metadata = {"name": named.name, "namespace": found.namespace}
        return await connection.create(named.resource, {"metadata": metadata, "spec": wanted.spec}, found.namespace)
    except ConflictError:
        _end(f"{named}: somebody changed it meanwhile (try again)", 1)


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


async def _history(connection: Connection, named: Named) -> History:
    """The document as it is, and what is kept of it."""
    namespace = named.namespace or connection.namespace
    held = await _held(connection, named, namespace)
    now = digest_of(held.get("spec")) if held is not None else ""
    found, others = [], set()
    async for one in connection.all(CONTROLLER_REVISIONS, namespace, labels=f"{LABEL}={named.resource.kind}"):
        metadata = one["metadata"]
        annotations = metadata.get("annotations") or {}
        if annotations.get(NAME) == named.name:
            found.append(
                Version(
                    number=int(one.get("revision") or 0),
                    at=str(metadata.get("creationTimestamp") or "-"),
                    current=annotations.get(DIGEST) == now,
                    spec=(one.get("data") or {}).get("spec"),
                )
            )
        elif annotations.get(NAME):
            others.add(str(annotations[NAME]))
    if held is None and not found:
        told = sorted(others)[:_NAMES_TOLD]
        kept = f"; kept of its kind in {namespace}: {', '.join(told)}" if told else ""
        _end(
            f"{named.resource.kind}/{namespace}/{named.name}: there is no such document, and no version of it is kept: "
            f"it cannot be brought back (look with kubectl get ringfence; write it by kubectl apply{kept})",
            1,
        )
    found.sort(key=lambda version: version.number)
    return History(namespace=namespace, held=held, versions=found)


async def _held(connection: Connection, named: Named, namespace: str) -> Json | None:
    try:
        return await connection.get(named.resource, named.name, namespace)
    except NotFoundError:
        return None


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
    except KubernetesError as error:
        _end(str(error), 1)


def _end(line: str, status: int) -> NoReturn:
    click.echo(plain(line), err=True)
    sys.exit(status)
