"""The platform at a real API server: what it reads and writes, and that nothing is lost while the server is away."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.errors import ConflictError, ForbiddenError, NotFoundError
from k8s.client.execution import Command, run_in
from k8s.client.resources import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    LEASES,
    MUTATING_WEBHOOKS,
    PODS,
)
from k8s.controller.documents import RESOURCES
from k8s.crds.definition import GROUP, KINDS, plural
from k8s.objects.names import CLUSTER_TRUST_BUNDLE
from k8s.platform import open_platform
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding, Surroundings
from tests.agreeable_host import AgreeableHost
from tests.cluster.cluster import Cluster, network_words
from tests.cluster.inside import inside
from tests.cluster.node import SANDBOX_IMAGE
from tests.cluster.workloads import sleeper
from tests.waiting import until

DEFINITIONS = Path(__file__).parents[2] / "k8s" / "crds"
SYSTEM = "mesh-of-its-own"
ALLOWLIST = next(one for one in RESOURCES if one.kind == "Allowlist")
_LOG = Logger("test", level="error")


@pytest.fixture(scope="module")
def kinds(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with the kinds of documents, and a namespace for a control plane."""
    cluster.kubectl("apply", f"--filename={DEFINITIONS}")
    for kind in KINDS:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural(kind.name)}.{GROUP}", "--timeout=60s")
    cluster.kubectl("create", "namespace", SYSTEM)
    yield cluster
    cluster.kubectl("delete", "namespace", SYSTEM, "--wait=false")
    cluster.kubectl("delete", "clustertrustbundle", CLUSTER_TRUST_BUNDLE, "--ignore-not-found")
    cluster.kubectl("delete", f"--filename={DEFINITIONS}")


def labelled(cluster: Cluster, namespace: str) -> str:
    cluster.kubectl("label", "namespace", namespace, "ringfence.io/inject=enabled")
    return namespace


def document(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"metadata": metadata, "spec": spec or {"service": name, "rules": [{"name": "one", "from": ["web"]}]}}


@asynccontextmanager
async def platform(cluster: Cluster) -> AsyncIterator[AgreeableHost]:
    """The platform, running, and the control plane to which it speaks."""
    inject = json.dumps({"trust_domain": "shop.example", "image": "x", "system_namespace": SYSTEM})
    options = {
        "trust-domain": "shop.example",
        "inject": inject,
        "kubeconfig": str(cluster.kubeconfig),
        "webhook-listen": "127.0.0.1:19443",
    }
    host = AgreeableHost()
    made = open_platform(Surroundings(clock=SystemClock(), log=_LOG, metrics=CollectorRegistry(), options=options))
    await host.offer(await made.first_reading())
    running = asyncio.create_task(made.run(host))
    try:
        yield host
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await made.close()


async def eventually(found: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """What an asynchronous question gives, once it gives something."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(NotFoundError):
                if answer := await found():
                    return answer
            await asyncio.sleep(0.05)


def test_documents_are_read_and_told_what_became_of_them_and_nothing_else_is_written(
    kinds: Cluster, namespace: str
) -> None:
    labelled(kinds, namespace)

    async def work(connection: Connection) -> None:
        async with platform(kinds) as host:
            made = await connection.create(ALLOWLIST, document("cart", namespace), namespace)
            name = f"Allowlist/{namespace}/cart"

            async def told() -> Any:
                return (await connection.get(ALLOWLIST, "cart", namespace)).get("status")

            status = await eventually(told)
            assert status["observedGeneration"] == 1
            assert {one["type"]: one["status"] for one in status["conditions"]} == {
                "Accepted": "True",
                "Enforced": "True",
                "Ready": "True",
            }
            after = await connection.get(ALLOWLIST, "cart", namespace)
            assert after["spec"] == made["spec"]
            assert after["metadata"]["generation"] == 1
            assert [one.get("subresource") for one in after["metadata"]["managedFields"]][1:] == ["status"]
            assert [one.name for one in host.readings[-1].documents] == [name]

            host.said = {name: DocumentStanding(accepted=True, workloads=3, enforcing=1, waiting=("a: not yet",))}
            host.stir()

            async def waits() -> bool:
                return (await told())["enforced"] == "1/3"

            await eventually(waits)
            version = (await connection.get(ALLOWLIST, "cart", namespace))["metadata"]["resourceVersion"]
            for _ in range(3):
                host.stir()
                await asyncio.sleep(0.5)
            held = await connection.get(ALLOWLIST, "cart", namespace)
            assert held["metadata"]["resourceVersion"] == version, "a status that says the same is not written again"
            await connection.delete(ALLOWLIST, "cart", namespace)
            await until(lambda: not host.readings[-1].documents)

    inside(kinds, work)
    kinds.kubectl("wait", "--for=delete", f"allowlist/cart.{GROUP}", f"--namespace={namespace}", "--timeout=10s")


def test_a_change_of_a_document_is_taken_back_and_so_is_its_deletion(kinds: Cluster, namespace: str) -> None:
    labelled(kinds, namespace)

    async def work(connection: Connection) -> None:
        async def kept() -> list[int]:
            listed = connection.all(CONTROLLER_REVISIONS, namespace, labels="ringfence.io/document=Allowlist")
            return sorted([one["revision"] async for one in listed])

        async def becomes(*numbers: int) -> None:
            async def same() -> bool:
                return await kept() == list(numbers)

            await eventually(same, seconds=120)

        async def rolled_back() -> None:
            words = ("-m", "ringfence", "k8s", "rollback", f"allowlist/{namespace}/cart")
            argv = [*network_words(kinds.name), sys.executable, *words, f"--kubeconfig={kinds.kubeconfig}"]
            ran = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)
            assert (ran.returncode, ran.stderr) == (0, "")

        async with platform(kinds):
            made = await connection.create(ALLOWLIST, document("cart", namespace), namespace)
            await becomes(1)
            rules = [{"name": "other", "from": ["ledger"]}]
            await connection.patch(ALLOWLIST, "cart", {"spec": {"rules": rules}}, namespace)
            await becomes(1, 2)
            await rolled_back()
            held = await connection.get(ALLOWLIST, "cart", namespace)
            assert held["spec"] == made["spec"]
            await becomes(1, 2, 3)
            await connection.delete(ALLOWLIST, "cart", namespace)
            await rolled_back()
            anew = await connection.get(ALLOWLIST, "cart", namespace)
            assert anew["spec"] == made["spec"]
            assert anew["metadata"]["uid"] != made["metadata"]["uid"]
            await connection.patch(ALLOWLIST, "cart", {"spec": {"rules": rules}}, namespace)
            await becomes(1, 2, 3, 4)

    inside(kinds, work)


def test_what_pods_and_the_api_server_know_the_mesh_by_is_kept_right(kinds: Cluster, namespace: str) -> None:
    labelled(kinds, namespace)
    service = {"name": "ringfence", "namespace": SYSTEM, "path": "/mutate"}
    hook = {
        "name": "test.ringfence.io",
        "clientConfig": {"service": service},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchLabels": {"nobody": "has-this"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    }

    async def work(connection: Connection) -> None:
        body = {"metadata": {"name": "ringfence"}, "webhooks": [hook]}
        await connection.create(MUTATING_WEBHOOKS, body)
        try:
            async with platform(kinds):

                async def bundle() -> Any:
                    return (await connection.get(CONFIG_MAPS, "ringfence-trust", namespace))["data"]["bundle.pem"]

                async def known() -> Any:
                    held = await connection.get(MUTATING_WEBHOOKS, "ringfence")
                    return held["webhooks"][0]["clientConfig"].get("caBundle")

                assert "BEGIN CERTIFICATE" in await eventually(bundle)
                first = await eventually(known)
                await connection.delete(CONFIG_MAPS, "ringfence-trust", namespace)
                await eventually(bundle)
                # As an upgrade of the chart does, which says nothing of it.
                hook["clientConfig"] = {"service": service}
                held = await connection.get(MUTATING_WEBHOOKS, "ringfence")
                await connection.replace(MUTATING_WEBHOOKS, "ringfence", {**held, "webhooks": [hook]})
                assert await eventually(known) == first
            lease = await connection.get(LEASES, "ringfence", SYSTEM)
            assert lease["spec"]["holderIdentity"] == ""
        finally:
            await connection.delete(MUTATING_WEBHOOKS, "ringfence")

    inside(kinds, work)


def test_pods_become_workloads_when_they_have_an_address_and_are_gone_when_they_are(
    kinds: Cluster, namespace: str
) -> None:
    labelled(kinds, namespace)
    sidecar = {
        "name": "ringfence-sidecar",
        "image": SANDBOX_IMAGE,
        "imagePullPolicy": "Never",
        "restartPolicy": "Always",
    }
    for name, containers in (("cart-0", [sidecar]), ("plain-0", [])):
        pod = sleeper(name, initContainers=containers)
        pod["metadata"] |= {"namespace": namespace, "labels": {"app": "cart"}}
        kinds.apply(pod)
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    metadata = {"name": "cart", "namespace": namespace}
    spec = {"selector": {"app": "cart"}, "ports": ports}
    kinds.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    async def work(connection: Connection) -> None:
        async with platform(kinds) as host:

            def instances() -> list[tuple[str, str, bool]]:
                service = host.readings[-1].mesh.service(f"{namespace}/cart")
                return [(one.name, one.address, one.ready) for one in service.instances] if service else []

            await until(lambda: instances() and instances()[0][2], deadline_seconds=60)
            pod = await connection.get(PODS, "cart-0", namespace)
            assert instances() == [("cart-0", pod["status"]["podIP"], True)]
            held = await connection.get(PODS, "cart-0", namespace)
            assert host.readings[-1].mesh.service(f"{namespace}/cart").virtual_addresses  # type: ignore[union-attr]
            await connection.delete(PODS, held["metadata"]["name"], namespace)
            await until(lambda: not instances(), deadline_seconds=60)

    inside(kinds, work)


class _Followed:
    """A copy of the ConfigMaps of a namespace, and the number of them at each change."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        # Kubernetes puts one of its own into every namespace, some time.
        wanted = Wanted(
            resource=CONFIG_MAPS, read=lambda body: body["data"] if "a" in body["data"] else None, namespace=namespace
        )
        self.seen: list[int] = []
        self.copy: Copy[dict[str, str]] = Copy(
            connection, wanted, lambda: self.seen.append(len(self.copy.objects)), log=_LOG, random=random.random
        )
        self._namespace = namespace

    def says(self, name: str, value: str) -> bool:
        return self.copy.objects.get((self._namespace, name), {}).get("a") == value


def test_while_the_api_server_is_away_nothing_is_lost(cluster: Cluster, namespace: str) -> None:
    outlive(cluster, namespace, "kube-apiserver")


def test_while_the_store_of_the_cluster_is_away_nothing_is_lost(cluster: Cluster, namespace: str) -> None:
    outlive(cluster, namespace, "etcd")


def outlive(cluster: Cluster, namespace: str, program: str) -> None:
    """Stop a program, see that the copy stands; start it, and see that the copy follows."""
    for number in range(5):
        cluster.kubectl("create", "configmap", f"m{number}", f"--namespace={namespace}", "--from-literal=a=1")

    async def work(connection: Connection) -> None:
        followed = _Followed(connection, namespace)
        following = asyncio.create_task(followed.copy.run())
        await followed.copy.wait_complete()
        count = len(followed.copy.objects)
        daemon = cluster.daemon(program)
        await asyncio.to_thread(daemon.stop)
        try:
            if program == "kube-apiserver":
                await until(lambda: followed.copy.lost)
            else:
                await asyncio.sleep(3)
            assert len(followed.copy.objects) == count
        finally:
            cluster.first.again(program)

        async def change() -> bool:
            ran = await asyncio.to_thread(
                cluster.try_kubectl,
                "patch",
                "configmap",
                "m1",
                f"--namespace={namespace}",
                '--patch={"data":{"a":"2"}}',
            )
            return ran.returncode == 0

        await eventually(change)
        await asyncio.to_thread(cluster.kubectl, "delete", "configmap", "m0", f"--namespace={namespace}")
        await until(lambda: followed.says("m1", "2") and not followed.says("m0", "1"), deadline_seconds=60)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        assert min(followed.seen) >= count - 1, "no part of it was ever missing"

    inside(cluster, work)


def test_the_api_server_answers_as_the_fake_one_of_other_tests_does(cluster: Cluster, namespace: str) -> None:
    async def work(connection: Connection) -> None:
        body = {"metadata": {"name": "one"}, "data": {"a": "1", "b": "1"}}
        made = await connection.create(CONFIG_MAPS, body, namespace)
        with pytest.raises(ConflictError):
            await connection.create(CONFIG_MAPS, body, namespace)
        await connection.patch(CONFIG_MAPS, "one", {"data": {"a": None}}, namespace)
        with pytest.raises(ConflictError):
            await connection.replace(CONFIG_MAPS, "one", made, namespace)
        with pytest.raises(ConflictError):
            stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"c": "1"}}
            await connection.patch(CONFIG_MAPS, "one", stale, namespace)
        applied = await connection.apply(CONFIG_MAPS, "one", {"data": {"b": "2"}}, namespace, manager="test")
        assert applied["data"] == {"b": "2"}
        names = [
            item["metadata"]["name"]
            async for item in connection.all(CONFIG_MAPS, namespace, fields="metadata.name=one", page_size=1)
        ]
        assert names == ["one"]
        await connection.delete(CONFIG_MAPS, "one", namespace)
        for question in (
            connection.get(CONFIG_MAPS, "one", namespace),
            connection.delete(CONFIG_MAPS, "one", namespace),
            connection.patch(CONFIG_MAPS, "one", {}, namespace),
            connection.get(CLUSTER_TRUST_BUNDLES, "none-of-that-name"),
        ):
            with pytest.raises(NotFoundError):
                await question

    inside(cluster, work)


def test_a_command_runs_in_a_pod_and_who_may_not_is_told(cluster: Cluster, namespace: str) -> None:
    pod = sleeper("talker")
    pod["metadata"] |= {"namespace": namespace}
    cluster.apply(pod)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/talker", f"--namespace={namespace}", "--timeout=60s")
    container = pod["spec"]["containers"][0]["name"]
    kubeconfig = cluster.folder / "nobody.conf"
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "--output=json"))
    token = cluster.kubectl("create", "token", "default", f"--namespace={namespace}").strip()
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    kubeconfig.write_text(json.dumps(config))

    async def work(connection: Connection) -> None:
        nothing = Command(namespace=namespace, pod="talker", container=container, arguments=["/none-such"])
        with pytest.raises(Exception, match=r"none-such|no such file"):
            await run_in(connection, nothing)
        nobody = Connection.open(str(kubeconfig))
        try:
            with pytest.raises(ForbiddenError):
                await nobody.get(PODS, "talker", namespace)
        finally:
            await nobody.close()

    inside(cluster, work)
