"""Keeps in each meshed namespace the ConfigMap by which a pod knows the mesh before it has an identity. Adapter.

Whoever may write ConfigMaps of a namespace could lead its new pods to a false control plane for a moment: what they
write is put right at once, and their own namespace is all that they could lead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.errors import ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import CONFIG_MAPS
from k8s.controller.settling import Settler
from k8s.controller.watching import ClusterCopies
from k8s.objects import names
from k8s.objects.fields import JsonObject, texts
from ringfence.kit.log import Logger

MANAGER: Final = "ringfence"
_AGAIN_SECONDS: Final = 5.0


def meshed_namespaces(copies: ClusterCopies, root_namespace: str) -> set[str]:
    """Those that are labelled, and those with meshed pods."""
    found = {one.name for one in copies.namespaces.objects.values() if one.labels.get(names.INJECT) == names.ENABLED}
    found |= {pod.namespace for pod in copies.pods.objects.values() if pod.meshed}
    return {one for one in found if one not in names.NEVER_MESHED and one != root_namespace}


def trust_map(pem: bytes) -> dict[str, Any]:
    """The ConfigMap, without its namespace."""
    return {
        "metadata": {"name": names.TRUST_CONFIG_MAP, "labels": {"app.kubernetes.io/managed-by": MANAGER}},
        "data": {names.TRUST_KEY: pem.decode()},
    }


def _read(body: JsonObject) -> dict[str, str]:
    return texts(body, "data")


class TrustKeeper:
    """``bundle``: the PEM of the roots that hold now."""

    def __init__(
        self,
        connection: Connection,
        copies: ClusterCopies,
        bundle: Callable[[], bytes],
        *,
        root_namespace: str,
        changed: Callable[[], None],
        log: Logger,
        random: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._copies = copies
        self._bundle = bundle
        self._root_namespace = root_namespace
        self._log = log
        wanted = Wanted(resource=CONFIG_MAPS, read=_read, fields=f"metadata.name={names.TRUST_CONFIG_MAP}")
        self._held: Copy[dict[str, str]] = Copy(connection, wanted, changed, log=log, random=random)

    async def watch(self) -> None:
        """Keep the copy of what is there, until cancelled."""
        await self._held.run()

    async def run(self, settler: Settler, leading: Callable[[], bool]) -> None:
        """Put right what is not, until cancelled."""
        await self._held.wait_complete()
        while True:
            await settler.settled()
            if leading() and not await self._round():
                asyncio.get_running_loop().call_later(_AGAIN_SECONDS, settler.stir)

    async def _round(self) -> bool:
        pem = self._bundle()
        data = {names.TRUST_KEY: pem.decode()}
        done = True
        for namespace in sorted(self._wrong(data)):
            try:
                await self._connection.apply(
                    CONFIG_MAPS, names.TRUST_CONFIG_MAP, trust_map(pem), namespace, manager=MANAGER
                )
            except NotFoundError:
                continue  # the namespace is gone
            except KubernetesError as error:
                if isinstance(error, ConflictError) or _terminating(error):
                    continue
                self._log.warning("trust bundle not written", namespace=namespace, error=str(error))
                done = False
        return done

    def _wrong(self, data: dict[str, str]) -> Iterable[str]:
        for namespace in meshed_namespaces(self._copies, self._root_namespace):
            held = self._held.objects.get((namespace, names.TRUST_CONFIG_MAP), {})
            if any(held.get(key) != value for key, value in data.items()):
                yield namespace


def _terminating(error: KubernetesError) -> bool:
    """Whether the namespace is on its way out, and takes nothing new."""
    return "being terminated" in str(error)
