"""AdmissionReviews as an API server sends them, for tests."""

from __future__ import annotations

import base64
import json
from typing import Any

REVIEW: dict[str, Any] = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}


def review(made: dict[str, Any] | None, **request: Any) -> bytes:
    """A review of a pod that is about to be made in the namespace ``shop``."""
    asked = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "shop",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": made,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        **request,
    }
    return json.dumps({**REVIEW, "request": asked}).encode()


def response_of(body: bytes) -> dict[str, Any]:
    """What is answered, its patch decoded."""
    answered = json.loads(body)
    assert answered.keys() == {"apiVersion", "kind", "response"}
    assert {key: answered[key] for key in REVIEW} == REVIEW
    response: dict[str, Any] = answered["response"]
    assert response["uid"] and isinstance(response["allowed"], bool)
    assert ("patch" in response) == ("patchType" in response)
    if "patch" in response:
        assert response["allowed"] and response["patchType"] == "JSONPatch"
        response["patch"] = json.loads(base64.b64decode(response["patch"], validate=True))
    return response
