"""Copies of all that the mesh is read from. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from k8s.admission.room import HeldSize
from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.resources import ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES, Resource
from k8s.controller.documents import RESOURCES, HeldDocument, read_document
from k8s.controller.parts import run_part
from k8s.objects import names
from k8s.objects.namespaces import Namespace, read_namespace
from k8s.objects.pods import Pod, read_pod
from k8s.objects.services import EndpointSlice, Service, read_endpoint_slice, read_service
from k8s.translate.cluster import Cluster
from ringfence.kit.log import Logger


class ClusterCopies:
    """``mesh_changed`` is called after each change of what the mesh is read from, ``documents_changed`` after each of
    documents, their statuses included."""

    def __init__(
        self,
        connection: Connection,
        mesh_changed: Callable[[], None],
        documents_changed: Callable[[], None],
        *,
        log: Logger,
        random: Callable[[], float],
        failed: Callable[[str], None] = lambda part: None,
    ) -> None:
        """``failed`` counts unexpected failures, by part."""

        def copy(resource: Resource, read: Callable[[dict[str, Any]], Any]) -> Copy[Any]:
            changed = documents_changed if resource in RESOURCES else mesh_changed
            return Copy(connection, Wanted(resource=resource, read=read), changed, log=log, random=random)

        self.namespaces: Copy[Namespace] = copy(NAMESPACES, read_namespace)
        self.services: Copy[Service] = copy(SERVICES, read_service)
        self.slices: Copy[EndpointSlice] = copy(ENDPOINT_SLICES, read_endpoint_slice)
        self.pods: Copy[Pod] = copy(PODS, read_pod)
        self._documents: dict[str, Copy[HeldDocument]] = {
            one.kind: copy(one, partial(read_document, one)) for one in RESOURCES
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._failed = failed
        self._log = log

    @property
    def all(self) -> tuple[Copy[Any], ...]:
        return (self.namespaces, self.services, self.slices, self.pods, *self._documents.values())

    def cluster(self) -> Cluster:
        """As it is now."""
        return Cluster(
            namespaces=self.namespaces.objects.values(),
            services=self.services.objects.values(),
            slices=self.slices.objects.values(),
            pods=self.pods.objects.values(),
        )

    def documents(self) -> Iterable[HeldDocument]:
        """In no order."""
        for copy in self._documents.values():
            yield from copy.objects.values()

    def sizes(self) -> Iterable[HeldSize]:
        """Of the documents."""
        return (HeldSize(one.namespace, one.written.name, len(one.written.content)) for one in self.documents())

    def document(self, kind: str, namespace: str, name: str) -> HeldDocument | None:
        held = self._documents.get(kind)
        return held.objects.get((namespace, name)) if held is not None else None

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self.pods.objects.get((namespace, name))

    def meshed_namespaces(self, root_namespace: str) -> frozenset[str]:
        """Those that are labelled, and those with meshed pods; the control plane's own and the cluster's are none."""
        found = {one.name for one in self.namespaces.objects.values() if one.labels.get(names.INJECT) == names.ENABLED}
        found |= {pod.namespace for pod in self.pods.objects.values() if pod.meshed}
        return frozenset(found - names.NEVER_MESHED - {root_namespace})

    def lost(self) -> dict[str, str]:
        """By kind, why a copy may be old or is not there yet."""
        told = {copy.kind: copy.lost or ("" if copy.complete else "not listed yet") for copy in self.all}
        return {kind: why for kind, why in told.items() if why}

    def start(self) -> None:
        """Keep them from now on, until ``close``."""
        self._tasks = [
            asyncio.create_task(run_part("watch", copy.run, self._failed, self._log), name=f"watch {copy.kind}")
            for copy in self.all
        ]

    async def wait_complete(self) -> None:
        """Until each was listed once."""
        for copy in self.all:
            await copy.wait_complete()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
