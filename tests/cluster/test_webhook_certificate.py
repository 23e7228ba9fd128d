"""The webhook's certificate is replaced while pods are made without a pause: each is let in, with a sidecar."""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from k8s.client.connection import Connection
from k8s.client.errors import KubernetesError
from k8s.client.resources import MUTATING_WEBHOOKS, PODS, VALIDATING_WEBHOOKS
from k8s.objects import names
from ringfence.kit.clock import SystemClock
from tests.cluster.cluster import Cluster
from tests.cluster.inside import inside
from tests.cluster.mesh import CHART, LIFETIME_SECONDS, SYSTEM, Mesh, wait_for_webhook, wait_rolled_out
from tests.golden_pods import container

_MAKERS = 3
_SERVER = f"ringfence.{SYSTEM}.svc"


@pytest.fixture
def short(meshed: Mesh) -> Iterator[Cluster]:
    """The mesh's cluster while the authority issues nothing that lives longer than an SVID."""
    cluster = meshed.cluster
    where = f"--namespace={SYSTEM}"
    words = ("--reuse-values", f"--set=identity.ceilingSeconds={LIFETIME_SECONDS}", "--wait", "--timeout=120s")
    ran = cluster.helm("upgrade", "ringfence", str(CHART), where, *words)
    assert (ran.returncode, ran.stderr) == (0, "")
    wait_for_webhook(cluster)
    yield cluster
    ran = cluster.helm("rollback", "ringfence", where, "--wait", "--timeout=120s")
    assert ran.returncode == 0, ran.stderr
    wait_rolled_out(cluster, SYSTEM)
    wait_for_webhook(cluster)


@pytest.fixture
def namespace(short: Cluster) -> Iterator[str]:
    """A namespace of the mesh."""
    short.make_namespace("made-meanwhile", {names.INJECT: names.ENABLED})
    yield "made-meanwhile"
    short.kubectl("delete", "namespace", "made-meanwhile", "--wait=false")


async def bundle_of(connection: Connection) -> bytes:
    """What the API server trusts of the webhooks: the same in each of them."""
    found = set()
    for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        held = await connection.get(resource, "ringfence")
        found |= {one["clientConfig"]["caBundle"] for one in held["webhooks"]}
    (one,) = found
    return base64.b64decode(one)


async def served(address: str, bundle: bytes) -> x509.Certificate:
    """What the webhook shows to whoever connects now and trusts what the API server does."""
    context = ssl.create_default_context(cadata=bundle.decode())
    _, writer = await asyncio.open_connection(address, 443, ssl=context, server_hostname=_SERVER)
    try:
        return x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()
        await writer.wait_closed()


class _Makers:
    """Make pods that have nowhere to run, one after another, until told to stop."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self.made: list[bool] = []
        self.failed: list[str] = []
        self.done = asyncio.Event()

    async def run(self) -> None:
        spec = {"containers": [container()], "nodeSelector": {"ringfence.io/nowhere": "true"}}
        while not self.done.is_set():
            body: dict[str, Any] = {"metadata": {"name": f"made-{secrets.token_hex(6)}"}, "spec": spec}
            try:
                pod = await self._connection.create(PODS, body, self._namespace)
            except KubernetesError as error:
                self.failed.append(str(error))
            else:
                inner = [one["name"] for one in pod["spec"].get("initContainers", ())]
                self.made.append(names.SIDECAR_CONTAINER in inner)
            await asyncio.sleep(0.2)


def test_every_pod_is_let_in_with_its_sidecar_while_the_certificate_is_replaced(short: Cluster, namespace: str) -> None:
    address = short.get("service", "ringfence", f"--namespace={SYSTEM}")["spec"]["clusterIP"]
    clock = SystemClock()

    async def work(connection: Connection) -> _Makers:
        makers = _Makers(connection, namespace)
        bundle = await bundle_of(connection)
        async with asyncio.timeout(4 * LIFETIME_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(_MAKERS):
                group.create_task(makers.run())
            first = await served(address, bundle)
            shown = [first]
            # Beyond its end only what took its place can have let anybody in.
            while clock.now() <= first.not_valid_after_utc.timestamp() or len({one.serial_number for one in shown}) < 3:
                await asyncio.sleep(0.5)
                shown.append(await served(address, await bundle_of(connection)))
            # The API server keeps connections; so many at once need new ones.
            for _ in range(3 * _MAKERS):
                group.create_task(makers.run())
            before = len(makers.made)
            while len(makers.made) < before + 100 and not makers.failed:  # noqa: ASYNC110 (they are counted by others)
                await asyncio.sleep(0.1)
            makers.done.set()
        assert await bundle_of(connection) == bundle
        return makers

    makers = inside(short, work)
    assert makers.failed == []
    assert all(makers.made) and len(makers.made) > 100
