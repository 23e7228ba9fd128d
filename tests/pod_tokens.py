"""Service account tokens as a cluster makes them, and an API server that knows them, for tests of attestation."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from k8s.attest.keys import ApiUnavailableError
from k8s.objects.pods import Pod, read_pod
from tests.jwts import NOW, Key, Signer, key_set, rsa_key

CLUSTER = "https://kubernetes.default.svc.cluster.local"
UID = "8b1c0f8e-2d4f-4a2b-9f39-0f2f4e6a7b11"
SIGNER = Signer(key=rsa_key("cluster-1"), algorithm="RS256")


def pod_document(**changes: Any) -> dict[str, Any]:
    """An injected, running pod as the API serves it; ``changes``: uid, name, account, node, phase, deleting, meshed;
    ``signers``: of the certificates that it mounts."""
    wants = {"uid": UID, "name": "web-7d4b9", "namespace": "shop", "account": "web", "node": "node-a"} | changes
    metadata: dict[str, Any] = {
        "name": wants["name"],
        "namespace": wants["namespace"],
        "uid": wants["uid"],
        "labels": {"app": "web", "ringfence.io/injected": "true"},
    }
    if wants.get("deleting"):
        metadata["deletionTimestamp"] = "2026-11-29T10:00:00Z"
    sidecar = {"name": "ringfence-sidecar", "restartPolicy": "Always"}
    return {
        "metadata": metadata,
        "spec": {
            "serviceAccountName": wants["account"],
            "nodeName": wants["node"],
            "containers": [{"name": "app"}],
            "initContainers": [sidecar] if wants.get("meshed", True) else [],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "keys", "projected": {"sources": [{"configMap": {"name": "a"}}]}},
                *(
                    {"name": "svid", "projected": {"sources": [{"podCertificate": {"signerName": one}}]}}
                    for one in wants.get("signers", ["ringfence.io/svid"])
                ),
            ],
        },
        "status": {"phase": wants.get("phase", "Running")},
    }


def claims_of(**changes: Any) -> dict[str, Any]:
    """The claims of that pod's token; a claim is left out by None, ``kubernetes.io`` is replaced whole."""
    usual: dict[str, Any] = {
        "iss": CLUSTER,
        "aud": ["ringfence"],
        "sub": "system:serviceaccount:shop:web",
        "exp": int(NOW) + 3607,
        "nbf": int(NOW) - 10,
        "iat": int(NOW) - 10,
        "jti": "3f0a6b52-6f5e-4c2d-8a51-5b0b0a4d1c22",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "web", "uid": "c0ffee00"},
            "pod": {"name": "web-7d4b9", "uid": UID},
            "node": {"name": "node-a", "uid": "n0de"},
        },
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def pod_token(signer: Signer = SIGNER, header: Mapping[str, object] | None = None, **changes: Any) -> bytes:
    payload = json.dumps(claims_of(**changes)).encode()
    return signer.signed(payload, {"typ": None, **(header or {})}).encode()


def other_last_bits(token: bytes) -> bytes:
    """The same token to a reader that ignores the bits that mean nothing, by another text."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = token[:-1] + bytes((alphabet[alphabet.index(token[-1:]) ^ 1],))
    head, _, signature = token.rpartition(b".")
    pad = b"=" * (-len(signature) % 4)
    assert base64.urlsafe_b64decode(signature + pad) == base64.urlsafe_b64decode(changed[len(head) + 1 :] + pad)
    return changed


@dataclass
class FakeApiServer:
    """``attestor.Cluster`` and ``keys.Discovery``: believes the tokens of its issuer that were not ``revoked``."""

    pods: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    held: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=lambda: [SIGNER.key])
    issuer: str = CLUSTER
    away: bool = False
    refuses: bool = False
    hangs: bool = False
    says_no: bool = False
    answer: dict[str, Any] | None = None
    asked: list[str] = field(default_factory=list)

    def run(self, document: dict[str, Any], *, heard: bool = True) -> None:
        """Have a pod; ``heard``: by the watch, too."""
        place = document["metadata"]["namespace"], document["metadata"]["name"]
        self.pods[place] = document
        if heard:
            self.held[place] = document

    async def review(self, body: dict[str, Any]) -> dict[str, Any]:
        await self._enter("review")
        assert body["spec"]["audiences"] == ["ringfence"]
        return self.answer if self.answer is not None else review_answer(body["spec"]["token"], self.says_no)

    async def pod(self, namespace: str, name: str) -> Pod | None:
        await self._enter("pod")
        found = self.pods.get((namespace, name))
        return None if found is None else read_pod(found)

    def held_pod(self, namespace: str, name: str) -> Pod | None:
        found = self.held.get((namespace, name))
        return None if found is None else read_pod(found)

    async def openid_configuration(self) -> dict[str, Any]:
        await self._enter("configuration")
        return {"issuer": self.issuer, "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"}

    async def key_set(self) -> dict[str, Any]:
        await self._enter("keys")
        found: dict[str, Any] = json.loads(key_set(*self.keys))
        return found

    async def _enter(self, question: str) -> None:
        self.asked.append(question)
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ApiUnavailableError("connection refused")
        if self.refuses:
            raise ApiUnavailableError("the API server answered 403 Forbidden", answered=True)


def review_answer(token: str, says_no: bool = False) -> dict[str, Any]:
    """What an API server answers that believes what the token claims."""
    if says_no:
        return {"status": {"user": {}, "error": "[invalid bearer token, service account token has been invalidated]"}}
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    bound = claims["kubernetes.io"]
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
    if "pod" in bound:
        extra["authentication.kubernetes.io/pod-name"] = [bound["pod"]["name"]]
        extra["authentication.kubernetes.io/pod-uid"] = [bound["pod"]["uid"]]
    if "node" in bound:
        extra["authentication.kubernetes.io/node-name"] = [bound["node"]["name"]]
    user = {"username": claims["sub"], "uid": "c0ffee00", "groups": ["system:serviceaccounts"], "extra": extra}
    return {"status": {"authenticated": True, "audiences": ["ringfence"], "user": user}}
