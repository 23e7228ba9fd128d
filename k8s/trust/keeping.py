"""Keeps the mesh's roots where pods find them: a ConfigMap in each meshed namespace, and the ClusterTrustBundle where
the cluster has such objects.

Theory of operation. A watch on the ConfigMaps of our one name tells what they say. Whenever that, the namespaces or the
roots may have changed, all are compared, and each that differs is applied, which makes it or puts it right whoever
changed it. What fails is tried again with growing waits. Several replicas may do so at once: they write the same. A
namespace that leaves the mesh keeps its ConfigMap, since pods that run in it still need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.errors import ApiError, KubernetesError, NotFoundError
from k8s.client.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS
from k8s.objects.names import CLUSTER_TRUST_BUNDLE, TRUST_CONFIG_MAP
from k8s.trust.bundles import (
    HeldBundle,
    bundle_text,
    cluster_bundle,
    config_map,
    read_cluster_bundle,
    read_config_map,
)
from ringfence.kit.backoff import Backoff
from ringfence.kit.log import Logger
from ringfence.spiffe import TrustBundle

MANAGER: Final = "ringfence-trust"
_AT_ONCE: Final = 8
_INVALID: Final = 422
# Somebody who writes an object anew whenever we do must not make us busy.
_PAUSE_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 60.0
_NOT_SERVED_SECONDS: Final = 600.0


class TrustKeeper:
    """One task, ``run``. ``namespaces``: those with pods in the mesh, now; ``bundle``: the roots, now. Call ``stir``
    when either may have changed."""

    def __init__(
        self,
        connection: Connection,
        *,
        namespaces: Callable[[], Collection[str]],
        bundle: Callable[[], TrustBundle],
        log: Logger,
        random: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._connection = connection
        self._namespaces = namespaces
        self._bundle = bundle
        self._log = log
        self._random = random
        self._backoff = backoff or Backoff(first_seconds=0.5, cap_seconds=30.0)
        self._stirred = asyncio.Event()
        self._cluster_stirred = asyncio.Event()
        wanted: Wanted[HeldBundle] = Wanted(
            resource=CONFIG_MAPS, read=read_config_map, fields=f"metadata.name={TRUST_CONFIG_MAP}"
        )
        self._copy = Copy(connection, wanted, self._stirred.set, log=log, random=random)
        self._missing: dict[str, str] = {}

    @property
    def missing(self) -> Mapping[str, str]:
        """Namespaces whose ConfigMap could not be put right, and why; pods that start there wait for it."""
        return self._missing

    def stir(self) -> None:
        """Namespaces or roots may be others than before."""
        self._stirred.set()
        self._cluster_stirred.set()

    async def run(self) -> None:
        """Keep them until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy.run(), name="trust watch")
            group.create_task(self._keep_config_maps(), name="trust config maps")
            group.create_task(self._keep_cluster_bundle(), name="cluster trust bundle")

    async def _keep_config_maps(self) -> None:
        await self._copy.wait_complete()
        attempt = 0
        while True:
            self._stirred.clear()
            await self._put_right()
            if self._missing:
                wait = self._backoff.delay(attempt, self._random)
                attempt += 1
            else:
                wait, attempt = None, 0
            await asyncio.sleep(_PAUSE_SECONDS * self._random())
            try:
                async with asyncio.timeout(wait):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def _put_right(self) -> None:
        """Apply what differs; ``_missing`` gets what failed."""
        try:
            pem = bundle_text(self._bundle())
        except ValueError as error:
            self._log.error("trust bundles are left as they are", error=str(error))
            return
        wanted = HeldBundle(pem=pem)
        held = {namespace: found for (namespace, _), found in self._copy.objects.items()}
        differing = sorted(name for name in set(self._namespaces()) if not _says(held.get(name), wanted))
        permits = asyncio.Semaphore(_AT_ONCE)
        failed: dict[str, str] = {}

        async def put(namespace: str) -> None:
            async with permits:
                before = held.get(namespace)
                try:
                    await self._apply(namespace, pem, before)
                except KubernetesError as error:
                    failed[namespace] = str(error)
                    if namespace not in self._missing:
                        self._log.warning("trust bundle not written", namespace=namespace, error=str(error))
                else:
                    self._log.info("trust bundle written", namespace=namespace, was_there=before is not None)

        async with asyncio.TaskGroup() as group:
            for namespace in differing:
                group.create_task(put(namespace), name=f"trust {namespace}")
        self._missing = failed

    async def _apply(self, namespace: str, pem: str, before: HeldBundle | None) -> None:
        if before is not None and before.fixed:
            await self._remove(namespace)
        body = config_map(pem)
        try:
            await self._connection.apply(CONFIG_MAPS, TRUST_CONFIG_MAP, body, namespace, manager=MANAGER)
        except ApiError as error:
            if error.code != _INVALID:
                raise
            # Marked as immutable since the watch heard of it last.
            await self._remove(namespace)
            await self._connection.apply(CONFIG_MAPS, TRUST_CONFIG_MAP, body, namespace, manager=MANAGER)

    async def _remove(self, namespace: str) -> None:
        try:
            await self._connection.delete(CONFIG_MAPS, TRUST_CONFIG_MAP, namespace)
        except NotFoundError:
            return

    async def _keep_cluster_bundle(self) -> None:
        while True:
            self._cluster_stirred.clear()
            wait = await self._put_cluster_bundle_right()
            try:
                async with asyncio.timeout(wait):
                    await self._cluster_stirred.wait()
            except TimeoutError:
                continue

    async def _put_cluster_bundle_right(self) -> float:
        """Apply it if it differs; the seconds until it is looked at again."""
        try:
            pem = bundle_text(self._bundle())
            try:
                found = await self._connection.get(CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLE)
            except NotFoundError:
                found = {}
            if read_cluster_bundle(found).pem == pem:
                return _LOOK_SECONDS
            body = cluster_bundle(pem)
            await self._connection.apply(CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLE, body, manager=MANAGER)
            self._log.info("cluster trust bundle written", name=CLUSTER_TRUST_BUNDLE)
        except NotFoundError:
            return _NOT_SERVED_SECONDS  # a cluster without such objects: most of them, today
        except (KubernetesError, ValueError) as error:
            self._log.warning("cluster trust bundle not written", error=str(error))
        return _LOOK_SECONDS


def _says(held: HeldBundle | None, wanted: HeldBundle) -> bool:
    """Whether it says what is wanted; one that nobody can change any more is good as long as that is so."""
    return held is not None and held.pem == wanted.pem
