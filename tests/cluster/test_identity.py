"""Identities in a mesh installed as anybody would: what a copied token is worth, and pods without a sidecar."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.client.connection import Connection
from k8s.inject.injection import Injected, inject
from k8s.inject.settings import InjectSettings
from k8s.objects.namespaces import Namespace
from ringfence.kit.clock import SystemClock
from ringfence.spiffe import ChainVerifier, SpiffeId, TrustBundle, TrustDomain
from sidecar.identity.client import Evidence, IssuingClient
from sidecar.identity.errors import IdentityRefused
from sidecar.identity.host_key import HostKey
from sidecar.identity.request import draw_request
from sidecar.settings import HostPort
from tests.cluster.cluster import Cluster
from tests.cluster.inside import inside
from tests.cluster.machine import until
from tests.cluster.mesh import SYSTEM, TRUST_DOMAIN, Mesh, running_pod, state
from tests.cluster.product_image import NAME
from tests.cluster.workloads import caller_pod
from tests.pki import new_key

SHOP = TrustDomain(TRUST_DOMAIN)
ORDERS = SpiffeId.workload(SHOP, "shop", "orders")
SIDECAR = "--container=ringfence-sidecar"


def roots(cluster: Cluster) -> TrustBundle:
    held = cluster.get("configmap", "ringfence-trust", "--namespace=shop")["data"]["bundle.pem"]
    return TrustBundle.from_pem(SHOP, held)


def shown(cluster: Cluster, token: bytes) -> str:
    """What the control plane says to whoever shows ``token`` with a key of its own; empty: it gives an identity."""
    address = cluster.get("service", "ringfence", f"--namespace={SYSTEM}")["spec"]["clusterIP"]
    bundle = roots(cluster)

    async def work(_connection: Connection) -> str:
        client = IssuingClient(
            join=HostPort(address, 7401),
            renew=HostPort(address, 7402),
            trust_domain=SHOP,
            anchor=lambda: bundle,
            lifetime_seconds=0,
            clock=SystemClock(),
        )
        try:
            evidence = Evidence(kind="kubernetes", content=token)
            await client.prove(evidence, HostKey(new_key()), draw_request(ORDERS).csr, 30.0)
        except IdentityRefused as refused:
            return str(refused)
        return ""

    return inside(cluster, work)


def token_of(cluster: Cluster, pod: str) -> bytes:
    """What a sidecar has in its file."""
    words = ("exec", "--namespace=shop", pod, SIDECAR, "--", "cat", "/var/run/ringfence/token/token")
    return cluster.kubectl(*words).strip().encode()


def test_a_sidecars_token_is_worth_nothing_to_another_key(meshed: Mesh) -> None:
    cluster = meshed.cluster
    pod = running_pod(cluster, "orders")["metadata"]["name"]
    assert "the evidence was used for another host key" in shown(cluster, token_of(cluster, pod))
    told = cluster.kubectl("logs", f"--namespace={SYSTEM}", "deployment/ringfence", "--tail=200")
    assert '"reason":"evidence_spent"' in told


def test_a_token_of_a_pod_that_was_deleted_is_worth_nothing(meshed: Mesh) -> None:
    cluster = meshed.cluster
    pod = running_pod(cluster, "payments")["metadata"]["name"]
    token = token_of(cluster, pod)
    cluster.kubectl("delete", "pod", pod, "--namespace=shop", "--wait=true")
    assert any(words in shown(cluster, token) for words in ("is of a workload that is gone", "is not valid"))
    cluster.kubectl("rollout", "status", "--namespace=shop", "deployment/payments", "--timeout=90s")


def test_a_token_that_is_not_for_the_mesh_is_told_so(meshed: Mesh) -> None:
    cluster = meshed.cluster
    pod = running_pod(cluster, "orders")["metadata"]["name"]
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}")
    token = cluster.kubectl("create", "token", "orders", "--namespace=shop", "--audience=vault", *bound)
    assert "the evidence is of another audience" in shown(cluster, token.strip().encode())


def test_a_sidecar_that_ends_is_back_by_its_host_key(meshed: Mesh) -> None:
    cluster = meshed.cluster
    pod = running_pod(cluster, "orders")["metadata"]["name"]

    def restarts() -> int:
        statuses = cluster.get("pod", pod, "--namespace=shop")["status"]["initContainerStatuses"]
        return next(int(one["restartCount"]) for one in statuses if one["name"] == "ringfence-sidecar")

    before = restarts()
    cluster.kubectl("exec", "--namespace=shop", pod, SIDECAR, "--", "sh", "-c", "kill -TERM 1")
    until(lambda: restarts() > before, "a sidecar that was started again")
    until(
        lambda: '"proved_by":"host key"' in cluster.kubectl("logs", "--namespace=shop", pod, SIDECAR),
        "an identity by host key",
    )
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--namespace=shop", "--timeout=90s")


def plain_pod() -> dict[str, Any]:
    """A pod without a sidecar that has its SVID and the mesh's roots from the cluster."""
    certificate = {"signerName": "ringfence.io/svid", "keyType": "ECDSAP256", "credentialBundlePath": "svid.pem"}
    bundle = {"name": "ringfence.io:svid:bundle", "path": "roots.pem"}
    sources = [{"podCertificate": certificate}, {"clusterTrustBundle": bundle}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain", "namespace": "shop", "labels": {"ringfence.io/inject": "disabled"}},
        "spec": {
            "serviceAccountName": "orders",
            "volumes": [{"name": "svid", "projected": {"sources": sources}}],
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "plain",
                    "image": NAME,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "3600"],
                    "volumeMounts": [{"name": "svid", "mountPath": "/svid"}],
                }
            ],
        },
    }


@pytest.fixture
def plain(meshed: Mesh) -> Any:
    meshed.cluster.apply(plain_pod())
    waited = meshed.cluster.try_kubectl(
        "wait", "--for=condition=Ready", "pod/plain", "--namespace=shop", "--timeout=90s"
    )
    assert waited.returncode == 0, state(meshed.cluster, "shop") + state(meshed.cluster, SYSTEM)
    yield "plain"
    meshed.cluster.kubectl("delete", "pod", "plain", "--namespace=shop", "--wait=false")


def test_a_pod_without_a_sidecar_has_its_svid_and_the_roots_from_the_cluster(meshed: Mesh, plain: str) -> None:
    cluster = meshed.cluster

    def file(name: str) -> str:
        return cluster.kubectl("exec", "--namespace=shop", plain, "--", "cat", f"/svid/{name}")

    assert set(TrustBundle.from_pem(SHOP, file("roots.pem")).roots) == set(roots(cluster).roots)
    key, _, certificates = file("svid.pem").partition("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE KEY" in key
    chain = TrustBundle.from_pem(SHOP, f"-----BEGIN CERTIFICATE-----{certificates}").roots
    assert ChainVerifier([roots(cluster)]).verify(chain, SystemClock().now()).spiffe_id == ORDERS


def lost_pod(name: str, control_host: str) -> dict[str, Any]:
    """A pod whose sidecar looks for the control plane at ``control_host``."""
    settings = InjectSettings(
        trust_domain=TRUST_DOMAIN, image=NAME, image_pull_policy="Never", control_host=control_host
    )
    injected = inject(
        caller_pod(name), Namespace(name="astray", labels={"ringfence.io/inject": "enabled"}), settings, "w"
    )
    assert isinstance(injected, Injected)
    return {**injected.pod, "metadata": {**injected.pod["metadata"], "namespace": "astray"}}


def test_a_pod_that_waits_for_its_identity_says_so_in_its_events(meshed: Mesh) -> None:
    cluster = meshed.cluster
    # Without the label, so that the injector does not put the pod right.
    cluster.make_namespace("astray")
    try:
        cluster.apply(lost_pod("lost", "kubernetes.default.svc"), lost_pod("found", ""))
        waited = ("wait", "--for=condition=Ready", "pod/found", "--namespace=astray", "--timeout=90s")
        assert cluster.try_kubectl(*waited).returncode == 0, state(cluster, "astray")

        def told(name: str) -> list[dict[str, Any]]:
            pod = cluster.get("pod", name, "--namespace=astray")["metadata"]["uid"]
            chosen = f"--field-selector=involvedObject.uid={pod}"
            events = cluster.get("events", "--namespace=astray", chosen)["items"]
            return [one for one in events if one.get("reportingComponent") == "ringfence"]

        until(lambda: told("lost"), "an event on the pod that waits", 120)
        [event] = told("lost")
        assert (event["reason"], event["type"], event["count"]) == ("WaitingForIdentity", "Warning", 1)
        assert "it may not reach port 7401 of ringfence.ringfence-system.svc" in event["message"]
        assert "WaitingForIdentity" in cluster.kubectl("describe", "pod", "lost", "--namespace=astray")
        assert told("found") == []
    finally:
        cluster.kubectl("delete", "namespace", "astray", "--wait=false")
