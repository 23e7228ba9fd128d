"""Keeps ``caBundle`` of our webhook configurations what the mesh's roots are, through every rotation. Adapter.

Nothing else of them is touched: they are the chart's.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from k8s.client.connection import JSON_PATCH, Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.errors import KubernetesError, NotFoundError
from k8s.client.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource
from k8s.controller.settling import Settler
from k8s.objects.fields import JsonObject, child, objects, text
from ringfence.kit.log import Logger

_AGAIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldWebhook:
    """One webhook of a configuration. ``ours``: it leads to our service."""

    name: str
    ours: bool
    ca_bundle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookNames:
    """``configurations``: the name of both; ``service`` and ``namespace``: to where ours lead."""

    configurations: str
    service: str
    namespace: str


def read_webhooks(body: JsonObject, wanted: WebhookNames) -> tuple[HeldWebhook, ...]:
    """The webhooks of a configuration, in its order. Raises MalformedObjectError."""
    found = []
    for path, webhook in objects(body, "webhooks"):
        config = child(webhook, "clientConfig", path)
        service = child(config, "service", f"{path}.clientConfig")
        leads = (text(service, "namespace", path), text(service, "name", path))
        found.append(
            HeldWebhook(
                name=text(webhook, "name", path),
                ours=leads == (wanted.namespace, wanted.service),
                ca_bundle=text(config, "caBundle", path),
            )
        )
    return tuple(found)


def patch_of(held: tuple[HeldWebhook, ...], pem: bytes) -> list[dict[str, Any]]:
    """What makes each of ours know ``pem``; empty where each does. It fails where the order is another by now."""
    wanted = base64.b64encode(pem).decode()
    patch: list[dict[str, Any]] = []
    for number, webhook in enumerate(held):
        if webhook.ours and webhook.ca_bundle != wanted:
            patch.append({"op": "test", "path": f"/webhooks/{number}/name", "value": webhook.name})
            patch.append({"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": wanted})
    return patch


class WebhookKeeper:
    """``bundle``: the PEM of the roots that hold now."""

    def __init__(
        self,
        connection: Connection,
        wanted: WebhookNames,
        bundle: Callable[[], bytes],
        *,
        changed: Callable[[], None],
        log: Logger,
        random: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._bundle = bundle
        self._log = log

        def copy(resource: Resource) -> Copy[tuple[HeldWebhook, ...]]:
            fields = f"metadata.name={wanted.configurations}"
            keep = Wanted(resource=resource, read=lambda body: read_webhooks(body, wanted), fields=fields)
            return Copy(connection, keep, changed, log=log, random=random)

        self._copies = {resource: copy(resource) for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)}

    async def watch(self) -> None:
        """Keep the copies of what is there, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for copy in self._copies.values():
                group.create_task(copy.run())

    async def run(self, settler: Settler, leading: Callable[[], bool]) -> None:
        """Put right what is not, until cancelled."""
        while True:
            await settler.settled()
            if leading() and not await self._round():
                asyncio.get_running_loop().call_later(_AGAIN_SECONDS, settler.stir)

    async def _round(self) -> bool:
        pem = self._bundle()
        done = True
        for resource, copy in self._copies.items():
            for (_, name), held in list(copy.objects.items()):
                patch = patch_of(held, pem)
                if not patch:
                    continue
                try:
                    await self._connection.patch(resource, name, patch, kind=JSON_PATCH)
                except NotFoundError:
                    continue
                except KubernetesError as error:
                    self._log.warning("caBundle not written", kind=resource.kind, name=name, error=str(error))
                    done = False
                else:
                    self._log.info("caBundle written", kind=resource.kind, name=name)
        return done
