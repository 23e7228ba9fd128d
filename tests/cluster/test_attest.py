"""Attesting pods, keeping roots and signing certificates, at a real API server with real kubelets and tokens."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from k8s.attest.api import ApiCluster
from k8s.attest.attestor import QUESTION_SECONDS, KubernetesAttestor
from k8s.attest.keys import ApiUnavailableError, KeyKeeper
from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS, POD_CERTIFICATE_REQUESTS, PODS
from k8s.objects.pods import Pod, read_pod
from k8s.trust.bundles import bundle_text
from k8s.trust.keeping import TrustKeeper
from k8s.trust.signing import CertificateSigner, SignerScope
from ringfence.attestation import EvidenceFault, EvidenceRefusedError, EvidenceUnavailableError
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.platform import CertificateWish, GrantedCertificate
from ringfence.spiffe import ChainVerifier, TrustBundle
from tests.authorities import SHOP, OpenAuthority
from tests.cluster.cluster import Cluster
from tests.cluster.inside import inside
from tests.cluster.node import SANDBOX_IMAGE
from tests.cluster.workloads import sleeper
from tests.issuing_backends import TurnedClock
from tests.pki import TestCa
from tests.pod_tokens import other_last_bits

_LOG = Logger("test", level="error")


class _Away(ApiCluster):
    """An API server that answers no question about tokens and pods; what the watch ``heard`` stays."""

    def __init__(self, connection: Connection, heard: Pod | None) -> None:
        super().__init__(connection, lambda _namespace, _name: heard)

    async def review(self, body: dict[str, Any]) -> dict[str, Any]:
        raise ApiUnavailableError("away")

    async def pod(self, namespace: str, name: str) -> Pod | None:
        raise ApiUnavailableError("away")


def attestor_of(api: ApiCluster, clock: Clock | None = None) -> tuple[KubernetesAttestor, KeyKeeper]:
    used = clock or SystemClock()
    keys = KeyKeeper(api, None, clock=used, log=_LOG, random=random.random)
    return KubernetesAttestor(api, keys, clock=used, log=_LOG), keys


def nothing_heard(_namespace: str, _name: str) -> Pod | None:
    return None


@pytest.fixture
def web(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A namespace with service accounts ``web`` and ``admin``, and a pod ``web-0`` with a sidecar, as ``web``."""
    for name in ("web", "admin"):
        cluster.kubectl("create", "serviceaccount", name, f"--namespace={namespace}")
    start(cluster, namespace, "web-0")
    yield namespace


def start(cluster: Cluster, namespace: str, name: str, *, meshed: bool = True, **spec: Any) -> None:
    sidecar = {
        "name": "ringfence-sidecar",
        "image": SANDBOX_IMAGE,
        "imagePullPolicy": "Never",
        "restartPolicy": "Always",
    }
    pod = sleeper(name, serviceAccountName="web", initContainers=[sidecar] if meshed else [], **spec)
    pod["metadata"] |= {"namespace": namespace, "labels": {"app": "web"}}
    cluster.apply(pod)
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--namespace={namespace}", "--timeout=120s")


def token_of(cluster: Cluster, namespace: str, pod: str = "", *words: str, audience: str = "ringfence") -> bytes:
    """A token of ``web``, bound to a pod if it is named."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    told = cluster.kubectl(
        "create", "token", "web", f"--namespace={namespace}", f"--audience={audience}", *bound, *words
    )
    return told.strip().encode()


def attest(cluster: Cluster, token: bytes, clock: Clock | None = None, *, keys: bool = True) -> Any:
    async def work(connection: Connection) -> Any:
        for _ in range(10):
            attestor, keeper = attestor_of(ApiCluster(connection, nothing_heard), clock)
            try:
                if keys:
                    await keeper.fetch()
                return await attestor.attest(token)
            except EvidenceRefusedError as refused:
                return refused.reason
            except (ApiUnavailableError, EvidenceUnavailableError):  # it is busy, and asked again as sidecars ask
                await asyncio.sleep(QUESTION_SECONDS)
        raise AssertionError("the API server had no answer in ten tries")

    return inside(cluster, work)


def test_a_token_of_a_running_pod_says_whose_it_is(cluster: Cluster, web: str) -> None:
    pod = cluster.get("pod", "web-0", f"--namespace={web}")
    found = attest(cluster, token_of(cluster, web, "web-0"))
    assert found.subject == f"{web}/web-0/{pod['metadata']['uid']}"
    wanted = {f"k8s:ns:{web}", "k8s:sa:web", "k8s:pod-label:app:web", f"k8s:node:{pod['spec']['nodeName']}"}
    assert wanted <= found.selectors


def test_tokens_that_are_not_of_this_pod_for_this_mesh_are_refused(cluster: Cluster, web: str) -> None:
    token = token_of(cluster, web, "web-0")
    start(cluster, web, "plain", meshed=False)
    assert attest(cluster, token_of(cluster, web, "web-0", audience="vault")) is EvidenceFault.AUDIENCE
    assert attest(cluster, token_of(cluster, web, "web-0", "--audience=vault")) is EvidenceFault.AUDIENCE
    assert attest(cluster, token_of(cluster, web)) is EvidenceFault.UNBOUND
    assert attest(cluster, token_of(cluster, web, "plain")) is EvidenceFault.UNMESHED
    assert attest(cluster, other_last_bits(token)) is EvidenceFault.MALFORMED
    late = TurnedClock()
    late.offset_seconds = 7200.0
    assert attest(cluster, token, late) is EvidenceFault.EXPIRED
    head, _, signature = token.rpartition(b".")
    forged = head + b"." + (b"A" if signature[:1] != b"A" else b"B") + signature[1:]
    assert attest(cluster, forged) is EvidenceFault.FOREIGN
    assert attest(cluster, forged, keys=False) is EvidenceFault.REJECTED
    refused = cluster.try_kubectl(
        "create", "token", "admin", f"--namespace={web}", "--bound-object-kind=Pod", "--bound-object-name=web-0"
    )
    assert refused.returncode != 0  # the API server itself gives nobody another account's token for a pod


def test_a_token_that_a_secret_holds_is_refused(cluster: Cluster, web: str) -> None:
    account = {"kubernetes.io/service-account.name": "web"}
    metadata = {"name": "web-token", "namespace": web, "annotations": account}
    kind = "kubernetes.io/service-account-token"
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind})
    bound = ("--bound-object-kind=Secret", "--bound-object-name=web-token")
    assert attest(cluster, token_of(cluster, web, "", *bound)) is EvidenceFault.UNBOUND


def test_a_pods_token_ends_with_the_pod_though_another_takes_its_name(cluster: Cluster, web: str) -> None:
    token = token_of(cluster, web, "web-0")
    subject = attest(cluster, token).subject
    cluster.kubectl("delete", "pod", "web-0", f"--namespace={web}", "--wait=true")
    ended = (EvidenceFault.GONE, EvidenceFault.REJECTED)
    assert attest(cluster, token) in ended
    start(cluster, web, "web-0")
    assert attest(cluster, token) in ended

    async def work(connection: Connection) -> list[bool]:
        attestor, _ = attestor_of(ApiCluster(connection, nothing_heard))
        new = (await attestor.attest(token_of(cluster, web, "web-0"))).subject
        return [await attestor.lives(one) for one in (subject, new)]

    assert inside(cluster, work) == [False, True]


def test_without_the_api_server_its_keys_know_its_tokens(cluster: Cluster, web: str) -> None:
    token = token_of(cluster, web, "web-0")

    async def work(connection: Connection) -> tuple[str, bool]:
        heard = await ApiCluster(connection, nothing_heard).pod(web, "web-0")
        attestor, keys = attestor_of(_Away(connection, heard))
        with pytest.raises(EvidenceUnavailableError):
            await attestor.attest(token)  # no keys yet
        await keys.fetch()
        subject = (await attestor.attest(token)).subject
        head, _, signature = token.rpartition(b".")
        with pytest.raises(EvidenceRefusedError):
            await attestor.attest(head + b"." + signature[::-1])
        return subject, await attestor.lives(subject)

    subject, lives = inside(cluster, work)
    assert subject.startswith(f"{web}/web-0/")
    assert lives


def test_an_api_server_that_is_away_costs_no_pod_its_identity(cluster: Cluster, web: str) -> None:
    outlive(cluster, web, "kube-apiserver")


def test_a_store_that_is_away_costs_no_pod_its_identity(cluster: Cluster, web: str) -> None:
    outlive(cluster, web, "etcd")


def outlive(cluster: Cluster, web: str, program: str) -> None:
    """Attest a pod, stop a program of the cluster, see what holds, and start it again."""
    token = token_of(cluster, web, "web-0")

    async def work(connection: Connection) -> None:
        heard: Copy[Pod] = Copy(
            connection, Wanted(resource=PODS, read=read_pod), lambda: None, log=_LOG, random=random.random
        )
        watching = asyncio.create_task(heard.run())
        await heard.wait_complete()
        api = ApiCluster(
            connection.within(QUESTION_SECONDS), lambda namespace, name: heard.objects.get((namespace, name))
        )
        attestor, keys = attestor_of(api)
        await keys.fetch()
        subject = (await attestor.attest(token)).subject

        async def attested() -> bool:
            try:
                return (await attestor.attest(token)).subject == subject
            except (EvidenceRefusedError, EvidenceUnavailableError):
                return False  # a sidecar tries again

        await asyncio.to_thread(cluster.daemon(program).stop)
        try:
            # A whole API server without its store knows no token any more, and says so; none at all is no "no".
            assert program == "etcd" or await attested()
            assert await attestor.lives(subject)
            with pytest.raises(EvidenceUnavailableError):
                await attestor.lives(f"{web}/nobody/8b1c0f8e")
        finally:
            cluster.first.again(program)
        await until(attested)
        async with asyncio.timeout(60):
            while True:
                with suppress(EvidenceUnavailableError):
                    assert not await attestor.lives(f"{web}/nobody/8b1c0f8e")
                    break
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    inside(cluster, work)


async def until(predicate: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await predicate():  # noqa: ASYNC110 (what is waited for is in the API server)
            await asyncio.sleep(0.1)


def test_roots_are_kept_in_the_namespace_and_in_the_cluster(cluster: Cluster, namespace: str) -> None:
    bundle: list[TrustBundle] = [TestCa(SHOP).bundle()]

    async def work(connection: Connection) -> None:
        async def says() -> bool:
            found = [one async for one in connection.all(CONFIG_MAPS, namespace)]
            held = [one.get("data", {}) for one in found if one["metadata"]["name"] == "ringfence-trust"]
            return held == [{"bundle.pem": bundle_text(bundle[0])}]

        async def cluster_says() -> bool:
            found = [one async for one in connection.all(CLUSTER_TRUST_BUNDLES)]
            return bundle_text(bundle[0]) in [one["spec"]["trustBundle"] for one in found]

        keeper = TrustKeeper(
            connection, namespaces=lambda: {namespace}, bundle=lambda: bundle[0], log=_LOG, random=random.random
        )
        task = asyncio.create_task(keeper.run())
        try:
            await until(says)
            await until(cluster_says)
            await connection.patch(CONFIG_MAPS, "ringfence-trust", {"data": {"bundle.pem": "edited"}}, namespace)
            await until(says)
            frozen = {"data": {"bundle.pem": "frozen"}, "immutable": True}
            await connection.patch(CONFIG_MAPS, "ringfence-trust", frozen, namespace)
            await until(says)
            await connection.delete(CONFIG_MAPS, "ringfence-trust", namespace)
            await until(says)
            bundle[0] = TrustBundle(SHOP, (*bundle[0].roots, TestCa(SHOP).root.der))
            keeper.stir()
            await until(says)
            await until(cluster_says)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await connection.delete(CLUSTER_TRUST_BUNDLES, "ringfence.io:svid:bundle")

    inside(cluster, work)


class _Certifier:
    """As a control plane on a platform issues."""

    def __init__(self, world: OpenAuthority) -> None:
        self._authority = world.authority

    async def certify(self, wish: CertificateWish) -> GrantedCertificate:
        svid = await asyncio.to_thread(
            self._authority.certify,
            wish.spiffe_id,
            wish.public_key,
            least_seconds=wish.least_seconds,
            most_seconds=wish.most_seconds,
        )
        return GrantedCertificate(chain_pem=svid.chain_pem(), not_before=svid.not_before, not_after=svid.not_after)


def certified(name: str, key: str = "ECDSAP256") -> dict[str, Any]:
    """The volume of a pod that asks its cluster for an SVID."""
    wanted = {"signerName": "ringfence.io/svid", "keyType": key, "credentialBundlePath": "svid.pem"}
    return {
        "volumes": [{"name": "svid", "projected": {"sources": [{"podCertificate": wanted}]}}],
        "containers": [
            {
                "name": name,
                "image": SANDBOX_IMAGE,
                "imagePullPolicy": "Never",
                "volumeMounts": [{"name": "svid", "mountPath": "/svid"}],
            }
        ],
    }


def test_a_pod_that_asks_the_cluster_for_an_svid_starts_with_it(cluster: Cluster, web: str, tmp_path: Path) -> None:
    outside = f"out-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", outside)
    with OpenAuthority(tmp_path, SystemClock()) as world:

        async def work(connection: Connection) -> None:
            scope = SignerScope(trust_domain="shop.example", namespaces=lambda: {web}, leading=lambda: True)
            certifier, clock = _Certifier(world), SystemClock()
            signer = CertificateSigner(connection, scope, certifier, clock=clock, log=_LOG, random=random.random)
            task = asyncio.create_task(signer.run())
            try:
                await asyncio.to_thread(start, cluster, web, "asks", **certified("asks"))
                for namespace, account, name, key in (
                    (web, "web", "rsa", "RSA3072"),
                    (outside, "default", "foreign", "ECDSAP256"),
                ):
                    pod = sleeper(name, serviceAccountName=account, **certified(name, key))
                    pod["metadata"]["namespace"] = namespace
                    await asyncio.to_thread(cluster.apply, pod)
                    await until(lambda namespace=namespace: settled(connection, namespace, "Denied"))
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

        inside(cluster, work)
        requests = cluster.get("podcertificaterequests", f"--namespace={web}")["items"]
        (issued,) = [one for one in requests if one["spec"]["podName"] == "asks"]
        chain = TrustBundle.from_pem(SHOP, issued["status"]["certificateChain"]).roots
        peer = ChainVerifier([world.authority.bundle()]).verify(chain, SystemClock().now())
        assert str(peer.spiffe_id) == f"spiffe://shop.example/ns/{web}/sa/web"
        reasons = [one["status"]["conditions"][0]["reason"] for one in requests if one["spec"]["podName"] == "rsa"]
        assert set(reasons) == {"UnsupportedKeyType"}
    cluster.kubectl("delete", "namespace", outside, "--wait=false")


async def settled(connection: Connection, namespace: str, kind: str) -> bool:
    found = [one async for one in connection.all(POD_CERTIFICATE_REQUESTS, namespace)]
    conditions = [told for one in found for told in one.get("status", {}).get("conditions", ())]
    return kind in json.dumps(conditions)
