"""Keeps the versions of documents that were accepted, so that a change can be taken back: as ControllerRevisions, which
Kubernetes has for this, owned by the document and gone with it. Adapter.

One for each content that was in force, the last ten of a document. The control plane reads none of them back: whoever
takes a change back (``ringfence k8s rollback``) writes the document, as everybody does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.errors import ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import CONTROLLER_REVISIONS
from k8s.controller.documents import HeldDocument
from k8s.controller.offering import JudgedVersions
from k8s.controller.settling import Settler
from k8s.controller.watching import ClusterCopies
from k8s.objects.fields import JsonObject, child, integer, objects, text, texts
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding

KEPT: Final = 10
LABEL: Final = "ringfence.io/document"
"""On each revision; its value is the kind of the document."""
DIGEST: Final = "ringfence.io/digest"
_WRITES_PER_SECOND: Final = 10.0
_AGAIN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRevision:
    """What is kept of a revision. ``document``: the UID of its owner; ``number``: the generation that it was."""

    namespace: str
    name: str
    document: str
    number: int
    digest: str


class Standings(Protocol):
    """As much of a host as this needs."""

    def standings(self) -> Mapping[str, DocumentStanding]: ...


def digest_of(spec: object) -> str:
    """Of a document's spec, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_revision(body: JsonObject) -> HeldRevision | None:
    """From the API's JSON; None for one of nobody. Raises MalformedObjectError."""
    metadata = child(body, "metadata")
    owner = next((text(one, "uid", path) for path, one in objects(metadata, "ownerReferences", "metadata")), "")
    if not owner:
        return None
    return HeldRevision(
        namespace=text(metadata, "namespace", "metadata"),
        name=text(metadata, "name", "metadata"),
        document=owner,
        number=integer(body, "revision"),
        digest=texts(metadata, "annotations", "metadata").get(DIGEST, ""),
    )


def revision_of(held: HeldDocument) -> dict[str, Any]:
    """The revision that holds a document as it is now."""
    spec = json.loads(held.written.content).get("spec")
    short = hashlib.sha256(held.name.encode()).hexdigest()[:10]
    owner = {
        "apiVersion": held.resource.api_version,
        "kind": held.resource.kind,
        "name": held.name,
        "uid": held.uid,
        "controller": True,
    }
    return {
        "metadata": {
            "name": f"{held.resource.kind.lower()}-{short}-{held.generation}",
            "labels": {LABEL: held.resource.kind},
            "annotations": {DIGEST: digest_of(spec)},
            "ownerReferences": [owner],
        },
        "data": {"spec": spec},
        "revision": held.generation,
    }


class DocumentHistory:
    """``leading``: whether this replica is to write."""

    def __init__(
        self,
        connection: Connection,
        copies: ClusterCopies,
        host: Standings,
        leading: Callable[[], bool],
        *,
        judged: JudgedVersions,
        changed: Callable[[], None],
        log: Logger,
        random: Callable[[], float],
        writes_per_second: float = _WRITES_PER_SECOND,
    ) -> None:
        self._connection = connection
        self._copies = copies
        self._host = host
        self._leading = leading
        self._judged = judged
        self._log = log
        self._pause_seconds = 1.0 / writes_per_second
        wanted: Wanted[HeldRevision] = Wanted(resource=CONTROLLER_REVISIONS, read=read_revision, labels=LABEL)
        self._held = Copy(connection, wanted, changed, log=log, random=random)

    async def watch(self) -> None:
        """Keep the copy of what is there, until cancelled."""
        await self._held.run()

    async def run(self, settler: Settler) -> None:
        """Keep what was accepted, until cancelled."""
        await self._held.wait_complete()
        while True:
            await settler.settled()
            if self._leading() and not await self._round():
                asyncio.get_running_loop().call_later(_AGAIN_SECONDS, settler.stir)

    async def _round(self) -> bool:
        by_document: dict[str, list[HeldRevision]] = {}
        for one in self._held.objects.values():
            by_document.setdefault(one.document, []).append(one)
        standings = self._host.standings()
        done = True
        for held in list(self._copies.documents()):
            standing = standings.get(held.written.name)
            if standing is None or not standing.accepted or not self._judged.speaks_of(held.written):
                continue
            kept = sorted(by_document.get(held.uid, ()), key=lambda one: one.number)
            try:
                await self._keep(held, kept)
            except KubernetesError as error:
                self._log.warning("version of a document not kept", document=held.written.name, error=str(error))
                done = False
        return done

    async def _keep(self, held: HeldDocument, kept: list[HeldRevision]) -> None:
        newest = kept[-1] if kept else None
        if newest is None or newest.number < held.generation:
            made = revision_of(held)
            if newest is None or newest.digest != made["metadata"]["annotations"][DIGEST]:
                try:
                    await self._connection.create(CONTROLLER_REVISIONS, made, held.namespace)
                except (ConflictError, NotFoundError):
                    return  # it is there already, or the namespace is on its way out
                await asyncio.sleep(self._pause_seconds)
        for old in kept[:-KEPT]:
            try:
                await self._connection.delete(CONTROLLER_REVISIONS, old.name, old.namespace)
            except NotFoundError:
                continue
            await asyncio.sleep(self._pause_seconds)
