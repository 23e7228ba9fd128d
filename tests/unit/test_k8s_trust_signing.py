"""Answering requests for certificates: by one replica, once, in the form that the API server takes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from k8s.client.connection import Connection
from k8s.client.resources import POD_CERTIFICATE_REQUESTS, PODS
from k8s.trust.signing import CertificateSigner, SignerScope
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.platform import CertificateWish, GrantedCertificate
from tests.fake_api_server import FakeApiServer, serving, status_response
from tests.jwts import NOW
from tests.pod_tokens import pod_document
from tests.unit.test_k8s_trust_requests import KEY, request_document, spki
from tests.waiting import until


class _World:
    """A signer at work; it is the authority, too."""

    def __init__(self, fake: FakeApiServer, connection: Connection) -> None:
        self.fake = fake
        self.served = self.leads = True
        self.namespaces = {"shop"}
        self.wishes: list[CertificateWish] = []
        self.problem: Exception | None = None
        self.refusals = 0
        fake.fail = self._group
        fake.put(PODS, pod_document())
        self.lines = io.StringIO()
        scope = SignerScope(trust_domain="shop.example", namespaces=lambda: self.namespaces, leading=lambda: self.leads)
        self.signer = CertificateSigner(
            connection,
            scope,
            self,
            clock=FakeClock(NOW),
            log=Logger("signer", stream=self.lines),
            random=lambda: 0.0,
            backoff=Backoff(first_seconds=0.001, cap_seconds=0.01),
        )
        self.task = asyncio.create_task(self.signer.run())

    async def certify(self, wish: CertificateWish) -> GrantedCertificate:
        self.wishes.append(wish)
        await asyncio.sleep(0)
        if self.problem is not None:
            raise self.problem
        return GrantedCertificate(chain_pem=b"chain", not_before=int(NOW) - 60, not_after=int(NOW) + 3600)

    def ask(self, name: str = "req-1", **spec: Any) -> None:
        self.fake.put(POD_CERTIFICATE_REQUESTS, request_document(name, **spec))

    def status(self, name: str = "req-1") -> dict[str, Any]:
        found = self.fake.object(POD_CERTIFICATE_REQUESTS, name, "shop")
        assert found is not None
        return dict(found["status"])

    async def settled(self, name: str = "req-1") -> dict[str, Any]:
        await until(lambda: self.status(name).get("conditions"))
        return self.status(name)

    def _group(self, request: web.Request) -> web.StreamResponse | None:
        if request.path == "/apis/certificates.k8s.io/v1beta1":
            if not self.served:
                return status_response(404, "NotFound", "no such group")
            return web.json_response({"resources": [{"name": "podcertificaterequests"}]})
        if request.method == "PATCH" and self.refusals:
            self.refusals -= 1
            return status_response(422, "Invalid", "leaf certificate lifetime must be >= 1 hour")
        return None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[_World]:
    async with serving(tmp_path) as (fake, connection):
        made = _World(fake, connection)
        yield made
        made.task.cancel()
        with suppress(asyncio.CancelledError):
            await made.task


async def test_a_pod_gets_its_certificate_with_its_times(world: _World) -> None:
    world.ask()
    status = await world.settled()
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Issued", "True", "Issued")
    assert condition["message"] == "to spiffe://shop.example/ns/shop/sa/web"
    assert status["certificateChain"] == "chain"
    assert status["notBefore"] == "2023-11-14T22:12:20Z"
    assert status["notAfter"] == "2023-11-14T23:13:20Z"
    assert status["beginRefreshAt"] == "2023-11-14T22:42:50Z"
    (wish,) = world.wishes
    assert (str(wish.spiffe_id), wish.public_key) == ("spiffe://shop.example/ns/shop/sa/web", spki(KEY))
    assert (wish.least_seconds, wish.most_seconds) == (3600, 86_400)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"podUID": "another-uid"}, "PodGone"),
        ({"podName": "nobody"}, "PodGone"),
        ({"serviceAccountName": "admin"}, "PodMismatch"),
        ({"stubPKCS10Request": None}, "Malformed"),
    ],
)
async def test_who_may_not_is_denied_and_nothing_is_issued(world: _World, spec: dict[str, Any], reason: str) -> None:
    world.ask(**spec)
    status = await world.settled()
    assert [(one["type"], one["reason"]) for one in status["conditions"]] == [("Denied", reason)]
    assert set(status) == {"conditions"}
    assert world.wishes == []


async def test_who_asks_in_the_name_of_a_pod_that_mounts_no_certificate_is_denied(world: _World) -> None:
    world.fake.put(PODS, pod_document(signers=[]))
    world.ask()
    (condition,) = (await world.settled())["conditions"]
    assert (condition["type"], condition["reason"]) == ("Denied", "NotAsked") and world.wishes == []


async def test_a_namespace_outside_the_mesh_is_denied(world: _World) -> None:
    world.namespaces.clear()
    world.ask()
    assert (await world.settled())["conditions"][0]["reason"] == "NotInMesh"


async def test_what_the_authority_never_issues_is_denied_in_its_words(world: _World) -> None:
    world.problem = ValueError("this authority gives at most 660 s (raise its ceiling)")
    world.ask()
    (condition,) = (await world.settled())["conditions"]
    assert (condition["type"], condition["reason"]) == ("Denied", "NotIssued")
    assert "raise its ceiling" in condition["message"]


async def test_an_authority_that_cannot_now_is_asked_again(world: _World) -> None:
    world.problem = OSError("the database is away")
    world.ask()
    await until(lambda: len(world.wishes) > 3)
    assert world.status() == {}
    world.problem = None
    assert (await world.settled())["conditions"][0]["type"] == "Issued"


async def test_another_signers_and_settled_requests_are_left_alone(world: _World) -> None:
    world.ask("other", signerName="example.com/other")
    world.ask("done", status={"conditions": [{"type": "Failed", "status": "True"}]})
    world.ask()
    await world.settled()
    assert world.status("other") == {}
    assert len(world.wishes) == 1


async def test_a_replica_that_does_not_lead_answers_nothing_until_it_does(world: _World) -> None:
    world.leads = False
    world.ask()
    await until(lambda: world.fake.watching == 1)
    world.signer.stir()
    assert world.wishes == []
    world.leads = True
    world.signer.stir()
    await world.settled()


async def test_an_answer_that_the_api_server_refuses_is_told_and_not_given_forever(world: _World) -> None:
    world.refusals = 1
    world.ask()
    (condition,) = (await world.settled())["conditions"]
    assert condition["type"] == "Failed"
    assert "must be >= 1 hour" in world.lines.getvalue()
    assert len(world.wishes) == 1


async def test_many_at_once_are_each_answered_once(world: _World) -> None:
    for number in range(40):
        world.ask(f"req-{number}")
    for number in range(40):
        await world.settled(f"req-{number}")
    assert len(world.wishes) == 40


async def test_a_cluster_without_the_kind_is_left_in_peace(tmp_path: Path) -> None:
    async with serving(tmp_path) as (fake, connection):
        made = _World(fake, connection)
        made.served = False
        await until(lambda: ("GET", "/apis/certificates.k8s.io/v1beta1") in fake.requests)
        made.ask()
        made.signer.stir()
        assert fake.watching == 0
        made.task.cancel()
        with suppress(asyncio.CancelledError):
            await made.task
        assert made.status() == {}
