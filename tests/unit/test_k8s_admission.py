"""What the API server is answered, whatever it asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k8s.admission.injecting import Denial, Injector
from k8s.admission.review import Answer, ReviewError, read_review, write_review
from k8s.objects import names
from k8s.objects.namespaces import Namespace
from k8s.objects.pods import Owner
from tests.admission_reviews import REVIEW, response_of, review
from tests.golden_pods import SETTINGS, SHOP, labelled, pod
from tests.json_patches import patched


async def _find(name: str, *, fresh: bool) -> Namespace | None:
    if name == "broken":
        raise ConnectionResetError
    return SHOP if name == "shop" else None


async def answered(body: bytes) -> tuple[dict[str, Any], list[Denial]]:
    denied: list[Denial] = []
    asked = read_review(body)
    answer = await Injector(SETTINGS, _find, denied.append).judge(asked)
    return response_of(write_review(asked.uid, answer)), denied


async def test_a_pod_is_patched() -> None:
    response, denied = await answered(review(pod()))
    made = patched(pod(), response["patch"])
    assert made["spec"]["initContainers"][1]["name"] == names.SIDECAR_CONTAINER
    assert response["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002" and not denied


async def test_a_pod_that_is_injected_already_needs_no_patch() -> None:
    first, _ = await answered(review(pod()))
    again, _ = await answered(review(patched(pod(), first["patch"])))
    assert again == {"uid": first["uid"], "allowed": True}


async def test_a_refused_pod_is_told_to_whoever_made_it() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-1", "uid": "u", "controller": True}
    made = pod(hostNetwork=True)
    made["metadata"] = {"generateName": "app-1-", "ownerReferences": [owner]}
    response, denied = await answered(review(made))
    assert not response["allowed"] and response["status"]["code"] == 403
    assert "spec.hostNetwork" in response["status"]["message"]
    assert denied == [
        Denial(
            namespace="shop",
            pod="app-1-",
            owner=Owner(api_version="apps/v1", kind="ReplicaSet", name="app-1", uid="u"),
            message=response["status"]["message"],
        )
    ]


async def test_a_trial_run_leaves_no_trace() -> None:
    response, denied = await answered(review(pod(hostNetwork=True), dryRun=True))
    assert not response["allowed"] and not denied


async def test_a_warning_is_told_with_the_patch() -> None:
    made = pod({"name": "app", "image": "a", "securityContext": {"privileged": True}})
    response, _ = await answered(review(made))
    assert response["patch"] and "can leave the mesh" in response["warnings"][0]


async def test_a_pod_that_is_left_to_another_revision_is_told_so() -> None:
    response, _ = await answered(review(labelled(pod(), rev="canray")))
    assert response["allowed"] and "patch" not in response
    assert "left to revision 'canray'" in response["warnings"][0]


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"operation": "CONNECT"},
        {"subResource": "ephemeralcontainers"},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
        {"kind": {"group": "", "version": "v1", "kind": "Service"}},
        {"kind": {"group": "", "version": "v2", "kind": "Pod"}},
        {"kind": None},
    ],
)
async def test_what_is_no_new_pod_stays_as_it_is(request_: dict[str, Any]) -> None:
    response, denied = await answered(review(pod(hostNetwork=True), **request_))
    assert response == {"uid": response["uid"], "allowed": True} and not denied


async def test_a_label_that_is_younger_than_the_watch_counts() -> None:
    asked: list[bool] = []

    async def find(name: str, *, fresh: bool) -> Namespace | None:
        asked.append(fresh)
        return SHOP if fresh else Namespace(name=name)

    answer = await Injector(SETTINGS, find, lambda _: None).judge(read_review(review(pod())))
    assert answer.patch and asked == [False, True]


async def test_a_namespace_without_the_label_is_looked_up_twice_and_its_pod_stays() -> None:
    async def find(name: str, *, fresh: bool) -> Namespace | None:
        return Namespace(name=name)

    answer = await Injector(SETTINGS, find, lambda _: None).judge(read_review(review(pod())))
    assert answer.allowed and not answer.patch


@pytest.mark.parametrize("namespace", ["elsewhere", "broken", ""])
async def test_without_its_namespace_a_pod_is_not_let_in(namespace: str) -> None:
    response, denied = await answered(review(pod(), namespace=namespace))
    assert not response["allowed"] and response["status"]["code"] == 503 and not denied


async def test_the_namespace_is_the_servers_word_and_not_the_pods() -> None:
    made = pod(hostNetwork=True)
    made["metadata"]["namespace"] = "kube-system"
    response, _ = await answered(review(made))
    assert not response["allowed"]


async def test_a_question_without_a_pod_is_not_let_in() -> None:
    response, _ = await answered(review(None))
    assert not response["allowed"] and response["status"]["code"] == 400


@pytest.mark.parametrize("made", [{"metadata": 7}, {"metadata": {"ownerReferences": 7}, "spec": 7}, {"spec": []}])
async def test_a_pod_of_no_shape_is_refused_and_told_as_far_as_it_can_be(made: dict[str, Any]) -> None:
    response, denied = await answered(review(made))
    assert not response["allowed"] and len(denied) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "not answered here"),
        (json.dumps({**REVIEW, "apiVersion": "admission.k8s.io/v1beta1"}).encode(), "v1beta1 AdmissionReview'"),
        (json.dumps({**REVIEW, "kind": "Pod"}).encode(), "not answered here"),
        (json.dumps(REVIEW).encode(), "request.uid"),
        (json.dumps({**REVIEW, "request": []}).encode(), "request: not an object"),
        (review(None, uid=""), "request.uid"),
        (review(None, uid=7), "request.uid: not text"),
        (review(None, uid="u" * 129), "request.uid"),
        (review(None, operation=[]), "request.operation"),
        (review(None, dryRun="yes"), "request.dryRun"),
        (review(None, object=[]), "request.object"),
        (review(None, userInfo="me"), "request.userInfo"),
    ],
)
def test_what_is_no_review_is_refused_by_one_line(body: bytes, told: str) -> None:
    with pytest.raises(ReviewError) as caught:
        read_review(body)
    assert told in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_an_answer_is_bounded_and_fit_for_a_terminal() -> None:
    answer = Answer(allowed=False, message="a\x1b[31m\n" * 2_000, warnings=["w\u202e" * 1_000] * 50)
    response = response_of(write_review("u", answer))
    assert len(response["status"]["message"]) <= 2_048 and response["status"]["message"].isprintable()
    assert len(response["warnings"]) == 15 and all(len(one) <= 256 and one.isascii() for one in response["warnings"])


def test_a_denial_never_carries_a_patch() -> None:
    answer = Answer(allowed=False, message="no", patch=[{"op": "remove", "path": "/spec"}])
    assert "patch" not in response_of(write_review("u", answer))
