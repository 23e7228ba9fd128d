"""The HTTPS server of the webhooks: POST of an AdmissionReview to a judge's path, and GET /healthz.

Whoever reaches it may be anybody in the cluster: bodies, heads, time and connections are bounded, each source has its
own turns and its own pace, and an answer tells what the sender's own object is worth here. A judge that fails or hangs
denies: the API server would do so, too, by ``failurePolicy: Fail``, only later and without a reason.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import web

from k8s.admission.certificate import ServingCertificate
from k8s.admission.door import Door
from k8s.admission.pace import VALUES_LIMIT, Pace, values_of
from k8s.admission.review import AdmissionRequest, Answer, Judge, ReviewError, read_review, write_review
from k8s.admission.turns import Turns
from ringfence.kit.log import Logger
from ringfence.kit.remote import remote_host

BODY_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""The API server's store takes objects of 1.5 MiB; a review holds two of them at most, and little else."""
CONNECTIONS: Final = 256
_IDLE_SECONDS: Final = 120.0
_SHUTDOWN_SECONDS: Final = 5.0
_JSON: Final = "application/json"


class Observer(Protocol):
    """Counts what was answered; ``outcome`` is a word of a closed set."""

    def observe(self, hook: str, outcome: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """In seconds: to shake hands, for a request to arrive whole, and for a judge to answer. The API server itself waits
    10 s, or what the webhook's configuration says."""

    handshake_seconds: float = 5.0
    arrive_seconds: float = 8.0
    judge_seconds: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What is served at one path. ``values``: as many as a review there may say."""

    judge: Judge
    values: int = VALUES_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """What is served: by path, such as ``/mutate`` and ``/validate``; ``pace``: of each source, over all of them."""

    hooks: Mapping[str, Hook]
    log: Logger
    observer: Observer
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)


def application(webhooks: Webhooks) -> web.Application:
    """The application, for a server of the caller's."""
    made = web.Application(client_max_size=BODY_LIMIT_BYTES)
    made.router.add_get("/healthz", _healthy)
    for path, hook in webhooks.hooks.items():
        made.router.add_post(path, _Answering(path.strip("/"), hook, webhooks).answer)
    return made


async def serve(webhooks: Webhooks, listener: socket.socket, certificate: ServingCertificate) -> None:
    """Serve on ``listener``, which is bound, until cancelled; whoever was heard is still answered."""
    runner = web.AppRunner(
        application(webhooks),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        keepalive_timeout=_IDLE_SECONDS,
    )
    await runner.setup()
    requests = runner.server
    assert requests is not None

    door = Door(
        requests,
        certificate.context,
        most=CONNECTIONS,
        handshake_seconds=webhooks.limits.handshake_seconds,
        log=webhooks.log,
    )
    try:
        await door.keep(listener)
    finally:
        await runner.cleanup()


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


class _Answering:
    """One path."""

    def __init__(self, name: str, hook: Hook, webhooks: Webhooks) -> None:
        self._name = name
        self._hook = hook
        self._webhooks = webhooks
        self._turns = Turns()

    async def answer(self, request: web.Request) -> web.Response:
        started = time.monotonic()
        source = remote_host(request.transport)
        async with self._turns.of(source):
            response, outcome = await self._answered(request, source)
        self._webhooks.observer.observe(self._name, outcome, time.monotonic() - started)
        return response

    async def _answered(self, request: web.Request, source: str) -> tuple[web.Response, str]:
        if request.content_type != _JSON:
            return _refused(415, f"not {_JSON} (send an AdmissionReview)"), "malformed"
        try:
            async with asyncio.timeout(self._webhooks.limits.arrive_seconds):
                body = await request.read()
        except TimeoutError:
            return _refused(408, "the request did not arrive in time (send it faster)"), "malformed"
        except ConnectionError:  # it left, or was let go; nobody hears the answer
            return _refused(400, "the request did not arrive whole (send it again)"), "malformed"
        except web.HTTPRequestEntityTooLarge:
            return _refused(413, f"more than {BODY_LIMIT_BYTES} bytes (send less)"), "malformed"
        values = values_of(body)
        if values > self._hook.values:
            return _refused(413, f"more than {self._hook.values} values (send fewer)"), "malformed"
        await self._webhooks.pace.take(source, values)
        if request.transport is None:  # whoever waited longer than he would is not judged behind others
            return _refused(408, "nobody waits for the answer"), "malformed"
        try:
            asked = read_review(body)
        except ReviewError as error:
            return _refused(400, str(error)), "malformed"
        answer, outcome = await self._judged(asked)
        return web.Response(body=write_review(asked.uid, answer), content_type=_JSON), outcome

    async def _judged(self, asked: AdmissionRequest) -> tuple[Answer, str]:
        try:
            async with asyncio.timeout(self._webhooks.limits.judge_seconds):
                answer = await self._hook.judge(asked)
        except TimeoutError:
            self._webhooks.log.error("admission_slow", hook=self._name, uid=asked.uid)
            return Answer(allowed=False, code=504, message="nobody could judge this in time (try again)"), "failed"
        except Exception as error:
            self._webhooks.log.error("admission_failed", hook=self._name, uid=asked.uid, error=repr(error)[:400])
            told = "the webhook failed and says why in its log (look there)"
            return Answer(allowed=False, code=500, message=told), "failed"
        return answer, "patched" if answer.patch else "allowed" if answer.allowed else "denied"


def _refused(status: int, message: str) -> web.Response:
    # What is left of a body that nobody reads would be taken for the next request.
    response = web.Response(status=status, text=f"{message}\n")
    response.force_close()
    return response
