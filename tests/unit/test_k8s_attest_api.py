"""The attestor's questions over a connection: what is an answer, what is none, and what is a server that is away."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.attest.api import ApiCluster
from k8s.attest.keys import ApiUnavailableError
from k8s.attest.reviews import review_of
from k8s.client.errors import UnreachableError, error_of
from tests.pod_tokens import UID, pod_document


class FakeConnection:
    """Answers each question with ``answer``, or raises it."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.paths: list[str] = []

    async def create(self, resource: Any, body: dict[str, Any]) -> dict[str, Any]:
        return self._said(resource.path())

    async def get(self, resource: Any, name: str, namespace: str) -> dict[str, Any]:
        return self._said(resource.path(namespace, name))

    async def ask(self, method: str, path: str) -> dict[str, Any]:
        return self._said(f"{method} {path}")

    def _said(self, path: str) -> dict[str, Any]:
        self.paths.append(path)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def cluster(answer: dict[str, Any] | Exception) -> ApiCluster:
    return ApiCluster(FakeConnection(answer), lambda _namespace, _name: None)  # type: ignore[arg-type]


async def test_each_question_has_its_place() -> None:
    connection = FakeConnection(pod_document())
    asked = ApiCluster(connection, lambda _namespace, _name: None)  # type: ignore[arg-type]
    found = await asked.pod("shop", "web-7d4b9")
    assert found is not None
    assert (found.uid, found.meshed) == (UID, True)
    await asked.review(review_of("a.b.c"))
    await asked.openid_configuration()
    await asked.key_set()
    assert connection.paths == [
        "/api/v1/namespaces/shop/pods/web-7d4b9",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "GET /.well-known/openid-configuration",
        "GET /openid/v1/jwks",
    ]


async def test_a_pod_that_is_not_there_is_none() -> None:
    assert await cluster(error_of({"reason": "NotFound"}, 404)).pod("shop", "web") is None


@pytest.mark.parametrize("error", [UnreachableError("refused"), *(error_of({}, code) for code in (429, 500, 503, 504))])
async def test_a_server_that_is_away_did_not_answer(error: Exception) -> None:
    for question in (cluster(error).review(review_of("a.b.c")), cluster(error).pod("shop", "web")):
        with pytest.raises(ApiUnavailableError) as unavailable:
            await question
        assert not unavailable.value.answered


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_a_server_that_refuses_the_question_did(code: int) -> None:
    with pytest.raises(ApiUnavailableError) as unavailable:
        await cluster(error_of({}, code)).review(review_of("a.b.c"))
    assert unavailable.value.answered


async def test_a_pod_that_cannot_be_read_is_no_pod_that_is_gone() -> None:
    with pytest.raises(ApiUnavailableError):
        await cluster({"metadata": "rubbish"}).pod("shop", "web")
