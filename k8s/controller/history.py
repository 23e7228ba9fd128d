"""Keeps the versions of documents that were accepted, so that a change can be taken back: as ControllerRevisions, which
Kubernetes has for this. Adapter.

One for each content that was in force, the last ten of a document. They are not owned by the document: what is owned
goes with its owner, and a deletion could not be taken back. Of documents that are gone the last three are kept, and of
each namespace the twenty that changed last. The control plane reads none of them back: whoever takes a change back
(``ringfence k8s rollback``) writes the document, as everybody does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.errors import ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import CONTROLLER_REVISIONS
from k8s.controller.documents import HeldDocument
from k8s.controller.offering import JudgedVersions
from k8s.controller.settling import Settler
from k8s.controller.watching import ClusterCopies
from k8s.objects.fields import JsonObject, child, integer, text, texts
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding

KEPT: Final = 10
KEPT_OF_GONE: Final = 3
GONE_KEPT: Final = 20
"""Documents of a namespace that are gone and can come back."""
LABEL: Final = "ringfence.io/document"
"""On each revision; its value is the kind of the document."""
NAME: Final = "ringfence.io/document-name"
VERSION: Final = "ringfence.io/document-version"
"""UID and generation of the document, as ``WrittenDocument.version`` has them."""
DIGEST: Final = "ringfence.io/digest"
_WRITES_PER_SECOND: Final = 10.0
_AGAIN_SECONDS: Final = 10.0


_Document: TypeAlias = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRevision:
    """What is kept of a revision. ``kind`` and ``document``: of what document, in its namespace; ``number``: rising,
    also where the document was deleted and made anew; ``version``: of the document, and ``created``: when."""

    namespace: str
    name: str
    kind: str
    document: str
    number: int
    version: str
    digest: str
    created: str

    @property
    def of(self) -> _Document:
        return self.kind, self.namespace, self.document


class Standings(Protocol):
    """As much of a host as this needs."""

    def standings(self) -> Mapping[str, DocumentStanding]: ...


def digest_of(spec: object) -> str:
    """Of a document's spec, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_revision(body: JsonObject) -> HeldRevision | None:
    """From the API's JSON; None for one of nobody. Raises MalformedObjectError."""
    metadata = child(body, "metadata")
    labels, annotations = texts(metadata, "labels", "metadata"), texts(metadata, "annotations", "metadata")
    if not annotations.get(NAME):
        return None
    return HeldRevision(
        namespace=text(metadata, "namespace", "metadata"),
        name=text(metadata, "name", "metadata"),
        kind=labels.get(LABEL, ""),
        document=annotations[NAME],
        number=integer(body, "revision"),
        version=annotations.get(VERSION, ""),
        digest=annotations.get(DIGEST, ""),
        created=text(metadata, "creationTimestamp", "metadata"),
    )


def revision_of(held: HeldDocument, number: int) -> dict[str, Any]:
    """The revision that holds a document as it is now."""
    spec = json.loads(held.written.content).get("spec")
    short = hashlib.sha256(held.name.encode()).hexdigest()[:10]
    return {
        "metadata": {
            "name": f"{held.resource.kind.lower()}-{short}-{number}",
            "labels": {LABEL: held.resource.kind},
            "annotations": {NAME: held.name, VERSION: held.written.version, DIGEST: digest_of(spec)},
        },
        "data": {"spec": spec},
        "revision": number,
    }


def too_many(kept: Mapping[_Document, Sequence[HeldRevision]], living: Container[_Document]) -> list[HeldRevision]:
    """The revisions that are to go, of the oldest numbers first. ``kept``: of each document by rising number."""
    found: list[HeldRevision] = []
    gone: dict[str, list[Sequence[HeldRevision]]] = {}
    for document, revisions in kept.items():
        if document in living:
            found += revisions[:-KEPT]
        else:
            found += revisions[:-KEPT_OF_GONE]
            gone.setdefault(document[1], []).append(revisions[-KEPT_OF_GONE:])
    for several in gone.values():
        several.sort(key=lambda revisions: (revisions[-1].created, revisions[-1].name), reverse=True)
        found += [one for revisions in several[GONE_KEPT:] for one in revisions]
    return found


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
        kept: dict[_Document, list[HeldRevision]] = {}
        for one in sorted(self._held.objects.values(), key=lambda one: one.number):
            kept.setdefault(one.of, []).append(one)
        standings = self._host.standings()
        documents = {(one.resource.kind, one.namespace, one.name): one for one in self._copies.documents()}
        done = True
        for document, held in documents.items():
            standing = standings.get(held.written.name)
            if standing is None or not standing.accepted or not self._judged.speaks_of(held.written):
                continue
            if not self._leading():
                return True
            try:
                await self._keep(held, kept.get(document, []))
            except KubernetesError as error:
                self._log.warning("version of a document not kept", document=held.written.name, error=str(error))
                done = False
        for old in too_many(kept, documents.keys()):
            if not self._leading():
                return True
            try:
                await self._connection.delete(CONTROLLER_REVISIONS, old.name, old.namespace)
            except NotFoundError:
                continue
            except KubernetesError as error:
                self._log.warning("old version of a document not removed", version=old.name, error=str(error))
                return False
            await asyncio.sleep(self._pause_seconds)
        return done

    async def _keep(self, held: HeldDocument, kept: Sequence[HeldRevision]) -> None:
        newest = kept[-1] if kept else None
        if newest is not None and _is_of(newest, held):
            return
        made = revision_of(held, held.generation if newest is None else max(newest.number + 1, held.generation))
        if newest is not None and newest.digest == made["metadata"]["annotations"][DIGEST]:
            return
        try:
            await self._connection.create(CONTROLLER_REVISIONS, made, held.namespace)
        except (ConflictError, NotFoundError):
            return  # it is there already, or the namespace is on its way out
        await asyncio.sleep(self._pause_seconds)


def _is_of(newest: HeldRevision, held: HeldDocument) -> bool:
    """Whether it holds this version of the document, or a later one, which this replica has not heard of."""
    uid, _, generation = newest.version.partition("/")
    return uid == held.uid and generation.isdecimal() and len(generation) < 20 and int(generation) >= held.generation
