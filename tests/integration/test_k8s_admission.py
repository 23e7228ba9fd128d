"""The webhooks' HTTPS server, over real sockets and TLS: bounds, and a certificate that changes under load."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import trustme

from k8s.admission.certificate import CertificateError, ServingCertificate
from k8s.admission.injecting import Injector
from k8s.admission.pace import POD_VALUES, VALUES_LIMIT, Pace
from k8s.admission.review import ALLOWED, AdmissionRequest, Answer, Judge
from k8s.admission.serving import BODY_LIMIT_BYTES, CONNECTIONS, Hook, Limits, Webhooks, serve
from k8s.admission.turns import AT_ONCE
from k8s.objects.namespaces import Namespace
from ringfence.kit.log import Logger
from tests.admission_reviews import response_of, review
from tests.golden_pods import SETTINGS, SHOP, pod
from tests.waiting import until

_NAME = "ringfence.ringfence-system.svc"


@dataclass
class Counted:
    """What was observed."""

    seen: list[tuple[str, str]] = field(default_factory=list)

    def observe(self, hook: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((hook, outcome))


@dataclass
class Served:
    """A server, and how to reach it."""

    port: int
    authority: trustme.CA
    certificate: ServingCertificate
    counted: Counted
    log: io.StringIO

    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    @asynccontextmanager
    async def session(self, **more: Any) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(
            f"https://127.0.0.1:{self.port}", connector=aiohttp.TCPConnector(ssl=self.tls(), **more)
        ) as session:
            yield session

    def issue(self) -> tuple[bytes, bytes]:
        made = self.authority.issue_cert(_NAME, "127.0.0.1")
        return b"".join(blob.bytes() for blob in made.cert_chain_pems), made.private_key_pem.bytes()


async def _find(_: str, *, fresh: bool) -> Namespace:
    return SHOP


@asynccontextmanager
async def served(
    validate: Judge | None = None, limits: Limits | None = None, pace: Pace | None = None
) -> AsyncIterator[Served]:
    async def nothing(_: AdmissionRequest) -> Answer:
        return ALLOWED

    authority = trustme.CA()
    made = Served(0, authority, None, Counted(), io.StringIO())  # type: ignore[arg-type]
    made.certificate = ServingCertificate(*made.issue())
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setblocking(False)
    made.port = listener.getsockname()[1]
    webhooks = Webhooks(
        hooks={
            "/inject": Hook(judge=Injector(SETTINGS, _find, lambda _: None).judge, values=POD_VALUES),
            "/validate": Hook(judge=validate or nothing),
        },
        log=Logger("admission", stream=made.log),
        observer=made.counted,
        limits=limits or Limits(),
        pace=pace or Pace(),
    )
    task = asyncio.create_task(serve(webhooks, listener, made.certificate))
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


async def post(session: aiohttp.ClientSession, path: str, body: bytes, kind: str = "application/json") -> Any:
    async with session.post(path, data=io.BytesIO(body), headers={"Content-Type": kind}) as response:
        return response.status, await response.read()


async def test_a_pod_is_answered_and_health_is_told() -> None:
    async with served() as made, made.session() as session:
        status, body = await post(session, "/inject", review(pod()))
        assert status == 200 and response_of(body)["patch"]
        status, body = await post(session, "/validate", review(pod()))
        assert status == 200 and response_of(body)["allowed"]
        async with session.get("/healthz") as healthy:
            assert healthy.status == 200
        assert made.counted.seen == [("inject", "patched"), ("validate", "allowed")]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"garbage", "application/json", 400),
        (b"{}", "application/json", 400),
        (b"[" * 40_000, "application/json", 400),
        (review(pod()), "text/plain", 415),
        (review(pod()), "application/yaml", 415),
        (b" " * (BODY_LIMIT_BYTES + 1), "application/json", 413),
        (review({**pod(), "spec": {"volumes": [{}] * VALUES_LIMIT}}), "application/json", 413),
    ],
)
async def test_what_is_no_review_is_answered_in_http_and_the_server_lives_on(
    body: bytes, kind: str, status: int
) -> None:
    async with served() as made, made.session() as session:
        answered, _ = await post(session, "/inject", body, kind)
        assert answered == status and made.counted.seen == [("inject", "malformed")]
        again, _ = await post(session, "/inject", review(pod()))
        assert again == 200


async def test_of_a_document_more_is_read_than_of_a_pod() -> None:
    many = review({**pod(), "spec": {"volumes": [{}] * POD_VALUES}})
    async with served() as made, made.session() as session:
        assert (await post(session, "/inject", many))[0] == 413
        assert (await post(session, "/validate", many))[0] == 200


async def test_other_paths_and_methods_lead_nowhere() -> None:
    async with served() as made, made.session() as session:
        assert (await post(session, "/", review(pod())))[0] == 404
        async with session.get("/inject") as response:
            assert response.status == 405
        async with session.put("/inject", data=b"{}") as response:
            assert response.status == 405


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async with served(limits=Limits(arrive_seconds=0.05)) as made, made.session() as session:

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async with session.post("/inject", data=slow(), headers={"Content-Type": "application/json"}) as response:
            assert response.status == 408


async def _hang(_: AdmissionRequest) -> Answer:
    await asyncio.Event().wait()
    return ALLOWED


async def _fail(_: AdmissionRequest) -> Answer:
    raise RuntimeError("a secret of the inside")


@pytest.mark.parametrize(
    ("judge", "code", "logged"), [(_hang, 504, "admission_slow"), (_fail, 500, "admission_failed")]
)
async def test_a_judge_that_fails_or_hangs_denies_and_tells_nothing_of_the_inside(
    judge: Callable[[AdmissionRequest], Awaitable[Answer]], code: int, logged: str
) -> None:
    async with served(judge, Limits(judge_seconds=0.05)) as made, made.session() as session:
        status, body = await post(session, "/validate", review(pod()))
        response = response_of(body)
        assert status == 200 and not response["allowed"] and response["status"]["code"] == code
        assert b"secret" not in body
        assert json.loads(made.log.getvalue())["msg"] == logged
        assert made.counted.seen == [("validate", "failed")]


async def test_plain_http_and_old_tls_are_not_spoken() -> None:
    async with served() as made:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://127.0.0.1:{made.port}/healthz")
        old = made.tls()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", made.port, ssl=old)


async def _serial(made: Served) -> int:
    """Of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=made.tls())
    shown = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(shown, 16)


async def test_a_certificate_is_replaced_under_load_and_no_connection_notices() -> None:
    async with served() as made, made.session(limit=8) as session:
        answered = 0
        ending = asyncio.Event()

        async def load() -> None:
            nonlocal answered
            while not ending.is_set():
                status, body = await post(session, "/inject", review(pod()))
                assert status == 200 and response_of(body)["patch"]
                answered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            serials = set()
            for _ in range(5):
                reached = answered + 8
                await until(lambda reached=reached: answered >= reached)
                serials.add(await _serial(made))
                made.certificate.replace(*made.issue())
            ending.set()
        assert len(serials) == 5 and answered >= 40


async def test_a_certificate_that_is_none_leaves_the_old_one() -> None:
    async with served() as made:
        before = await _serial(made)
        chain, _ = made.issue()
        _, other_key = made.issue()
        for pair in ((chain, other_key), (b"", b""), (b"garbage", other_key), (chain, b"garbage")):
            with pytest.raises(CertificateError):
                made.certificate.replace(*pair)
        assert await _serial(made) == before


async def test_whoever_fills_the_house_is_let_go_and_the_server_goes_on() -> None:
    async with served() as made:
        context = made.tls()
        idle = [await asyncio.open_connection("127.0.0.1", made.port, ssl=context) for _ in range(CONNECTIONS + 8)]
        async with made.session() as session:
            status, _ = await post(session, "/inject", review(pod()))
            assert status == 200
        await until(lambda: sum(reader.at_eof() for reader, _ in idle) >= 8)
        for _, writer in idle:
            writer.transport.abort()


async def test_who_never_shakes_hands_holds_no_more_connections_than_anybody() -> None:
    async with served(limits=Limits(handshake_seconds=600.0)) as made, made.session() as ours:
        assert (await post(ours, "/validate", review(pod())))[0] == 200
        (first,) = {id(one) for one in _held(ours)}
        theirs = [
            await asyncio.open_connection("127.0.0.1", made.port, local_addr=("127.0.0.2", 0))
            for _ in range(CONNECTIONS + 40)
        ]
        await until(lambda: sum(reader.at_eof() for reader, _ in theirs) >= 40)
        assert [reader.at_eof() for reader, _ in theirs[-8:]] == [False] * 8, "the newest may still shake hands"
        assert (await post(ours, "/validate", review(pod())))[0] == 200
        assert {id(one) for one in _held(ours)} == {first}
        for _, writer in theirs:
            writer.transport.abort()
        async with made.session() as anew:
            assert (await post(anew, "/validate", review(pod())))[0] == 200


async def test_who_never_shakes_hands_is_not_waited_for() -> None:
    async with served(limits=Limits(handshake_seconds=0.05)) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        assert await reader.read() == b""
        writer.transport.abort()


async def test_who_opens_many_connections_loses_his_own() -> None:
    async with (
        served() as made,
        made.session(limit=1) as ours,
        made.session(limit=0, local_addr=("127.0.0.2", 0)) as theirs,
    ):
        assert (await post(ours, "/validate", review(pod())))[0] == 200
        (first,) = {id(one) for one in _held(ours)}
        # Each is held open by a question that never ends.
        crowd = [asyncio.create_task(_hanging(theirs)) for _ in range(CONNECTIONS + 20)]
        await until(lambda: sum(one.done() for one in crowd) >= 20)
        assert (await post(ours, "/validate", review(pod())))[0] == 200
        assert {id(one) for one in _held(ours)} == {first}
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


def _held(session: aiohttp.ClientSession) -> list[object]:
    connector = session.connector
    assert connector is not None
    return [protocol for held in connector._conns.values() for protocol, _ in held]


async def _hanging(session: aiohttp.ClientSession) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with session.post("/validate", data=never(), headers={"Content-Type": "application/json"}) as response:
        await response.read()


async def test_one_source_takes_no_turns_of_another() -> None:
    at_once, most = 0, 0
    release = asyncio.Event()

    async def judge(asked: AdmissionRequest) -> Answer:
        nonlocal at_once, most
        if asked.operation == "CONNECT":
            at_once += 1
            most = max(most, at_once)
            await release.wait()
            at_once -= 1
        return ALLOWED

    async with (
        served(judge, Limits(judge_seconds=60.0)) as made,
        made.session() as ours,
        made.session(limit=0, local_addr=("127.0.0.2", 0)) as theirs,
    ):
        crowd = [asyncio.create_task(post(theirs, "/validate", review(pod(), operation="CONNECT"))) for _ in range(30)]
        await until(lambda: at_once == AT_ONCE)
        for _ in range(3):
            assert (await post(ours, "/validate", review(pod())))[0] == 200
        assert most == AT_ONCE
        release.set()
        assert {status for status, _ in await asyncio.gather(*crowd)} == {200}


async def test_who_waits_no_more_is_not_judged() -> None:
    judged: list[str] = []
    waiting: list[float] = []
    release = asyncio.Event()

    async def pause(seconds: float) -> None:
        waiting.append(seconds)
        await release.wait()

    async def judge(asked: AdmissionRequest) -> Answer:
        judged.append(asked.operation)
        return ALLOWED

    async with (
        served(judge, pace=Pace(per_second=1.0, at_once=1.0, pause=pause)) as made,
        made.session(limit=0, local_addr=("127.0.0.2", 0)) as theirs,
    ):
        stays, leaves = (
            asyncio.create_task(post(theirs, "/validate", review(pod(), operation=operation)))
            for operation in ("CREATE", "UPDATE")
        )
        await until(lambda: len(waiting) == 2)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        async with made.session() as ours, ours.get("/healthz") as healthy:  # by now the server has heard of it
            assert healthy.status == 200
        release.set()
        assert (await stays)[0] == 200
        await until(lambda: len(made.counted.seen) == 2)
        assert judged == ["CREATE"] and ("validate", "malformed") in made.counted.seen


async def test_who_has_too_much_read_waits_for_it_and_nobody_with_him() -> None:
    waiting: list[float] = []
    release = asyncio.Event()

    async def pause(seconds: float) -> None:
        waiting.append(seconds)
        await release.wait()

    large = review({**pod(), "spec": {"volumes": [{}] * 1_000}})
    async with (
        served(pace=Pace(per_second=1.0, at_once=3_000.0, pause=pause)) as made,
        made.session() as ours,
        made.session(limit=0, local_addr=("127.0.0.2", 0)) as theirs,
    ):
        assert (await post(theirs, "/validate", large))[0] == 200
        crowd = [asyncio.create_task(post(theirs, path, large)) for path in ("/inject", "/validate") * 2]
        await until(lambda: len(waiting) == len(crowd))
        assert (await post(ours, "/validate", large))[0] == 200
        assert not any(one.done() for one in crowd)
        release.set()
        assert {status for status, _ in await asyncio.gather(*crowd)} == {200}
