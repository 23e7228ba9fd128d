"""Answers PodCertificateRequests of signer ``ringfence.io/svid``: a pod mounts its SVID as files, without a sidecar.

Theory of operation. A cluster that does not serve the kind is asked again every ten minutes. Where it does, a watch
tells of open requests; the one replica that leads looks at each pod as the API server has it, lets the authority
issue, and writes the answer, which nobody can change then. What cannot be decided or issued now stays open and is tried
again with growing waits; the API server itself drops requests that stay open for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from k8s.client.connection import Connection
from k8s.client.copies import Copy, Key, Wanted
from k8s.client.errors import ApiError, ConflictError, KubernetesError, NotFoundError
from k8s.client.resources import POD_CERTIFICATE_REQUESTS, PODS
from k8s.objects.names import SIGNER, SYSTEM_NAMESPACE
from k8s.objects.pods import read_pod
from k8s.trust.requests import (
    LEAST_SECONDS,
    CertificateRequest,
    DeniedError,
    check_asks,
    check_pod,
    proved_key,
    read_request,
    refresh_at,
)
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.platform import CertificateWish, GrantedCertificate, identity_of

_AT_ONCE: Final = 8
_NOT_SERVED_SECONDS: Final = 600.0
_INVALID: Final = 422


class Certifier(Protocol):
    """Of ``ringfence.platform.Host``, what the signer needs."""

    async def certify(self, wish: CertificateWish) -> GrantedCertificate: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerScope:
    """For whom certificates are issued. ``namespaces``: those in the mesh, now; ``leading``: whether it is this replica
    that answers."""

    trust_domain: str
    namespaces: Callable[[], Collection[str]]
    leading: Callable[[], bool]
    system_namespace: str = SYSTEM_NAMESPACE


class CertificateSigner:
    """One task, ``run``. Call ``stir`` when namespaces or who leads may have changed."""

    def __init__(
        self,
        connection: Connection,
        scope: SignerScope,
        certifier: Certifier,
        *,
        clock: Clock,
        log: Logger,
        random: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._certifier = certifier
        self._clock = clock
        self._log = log
        self._random = random
        self._backoff = backoff or Backoff(first_seconds=0.5, cap_seconds=30.0)
        self._stirred = asyncio.Event()
        self._answered: set[Key] = set()
        """Open to the watch, and answered: it has not heard of the answer yet."""
        wanted: Wanted[CertificateRequest] = Wanted(
            resource=POD_CERTIFICATE_REQUESTS, read=read_request, fields=f"spec.signerName={SIGNER}"
        )
        self._copy = Copy(connection, wanted, self._stirred.set, log=log, random=random)

    def stir(self) -> None:
        """Something else than a request may have changed."""
        self._stirred.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while not await self._served():  # noqa: ASYNC110 (nobody tells of a new kind)
            await asyncio.sleep(_NOT_SERVED_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy.run(), name="certificate requests")
            group.create_task(self._answer_all(), name="certificate answers")

    async def _served(self) -> bool:
        resource = POD_CERTIFICATE_REQUESTS
        try:
            found = await self._connection.ask("GET", f"/apis/{resource.group}/{resource.version}")
        except KubernetesError as error:
            if not isinstance(error, NotFoundError):
                self._log.warning("kinds of certificates not listed", error=str(error))
            return False
        kinds = found.get("resources")
        return isinstance(kinds, list) and any(
            isinstance(one, dict) and one.get("name") == resource.plural for one in kinds
        )

    async def _answer_all(self) -> None:
        await self._copy.wait_complete()
        attempt = 0
        while True:
            self._stirred.clear()
            undecided = await self._answer_open() if self._scope.leading() else False
            wait = self._backoff.delay(attempt, self._random) if undecided else None
            attempt = attempt + 1 if undecided else 0
            try:
                async with asyncio.timeout(wait):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def _answer_open(self) -> bool:
        """Answer every open request; whether any stays open."""
        permits = asyncio.Semaphore(_AT_ONCE)
        undecided: list[Key] = []
        self._answered &= self._copy.objects.keys()
        open_now = {key: request for key, request in self._copy.objects.items() if key not in self._answered}

        async def answer(key: Key, request: CertificateRequest) -> None:
            async with permits:
                try:
                    await self._answer(request)
                    self._answered.add(key)
                except (KubernetesError, OSError, ValueError) as error:
                    undecided.append(key)
                    self._log.warning("certificate request stays open", request=request.name, error=str(error))

        async with asyncio.TaskGroup() as group:
            for key, request in open_now.items():
                group.create_task(answer(key, request), name=f"certificate {request.name}")
        return bool(undecided)

    async def _answer(self, request: CertificateRequest) -> None:
        facts = {"namespace": request.pod.namespace, "pod": request.pod.name, "request": request.name}
        try:
            status, spiffe_id = await self._granted(request)
            self._log.info("certificate issued", spiffe_id=spiffe_id, **facts)
        except DeniedError as denied:
            status = {"conditions": [self._condition("Denied", denied.reason, str(denied))]}
            self._log.warning("certificate denied", reason=denied.reason, detail=str(denied), **facts)
        await self._write(request, status)

    async def _granted(self, request: CertificateRequest) -> tuple[dict[str, Any], str]:
        """The status that grants it, and to whom. DeniedError, KubernetesError, OSError."""
        scope = self._scope
        document = await self._pod(request)
        pod = None if document is None else read_pod(document)
        check_pod(request, pod, system_namespace=scope.system_namespace)
        check_asks(document or {})
        if request.pod.namespace not in scope.namespaces():
            raise DeniedError("NotInMesh", f"namespace {request.pod.namespace} is not in the mesh (label it)")
        wish = CertificateWish(
            spiffe_id=identity_of(request.pod.namespace, request.service_account, scope.trust_domain),
            public_key=proved_key(request),
            least_seconds=LEAST_SECONDS,
            most_seconds=request.most_seconds,
        )
        try:
            granted = await self._certifier.certify(wish)
        except ValueError as error:
            raise DeniedError("NotIssued", str(error)) from error
        status = {
            "conditions": [self._condition("Issued", "Issued", f"to {wish.spiffe_id}")],
            "certificateChain": granted.chain_pem.decode("ascii"),
            "notBefore": _moment(granted.not_before),
            "notAfter": _moment(granted.not_after),
            "beginRefreshAt": _moment(refresh_at(granted.not_before, granted.not_after)),
        }
        return status, str(wish.spiffe_id)

    async def _pod(self, request: CertificateRequest) -> dict[str, Any] | None:
        try:
            return await self._connection.get(PODS, request.pod.name, request.pod.namespace)
        except NotFoundError:
            return None

    async def _write(self, request: CertificateRequest, status: dict[str, Any]) -> None:
        try:
            await self._connection.patch(
                POD_CERTIFICATE_REQUESTS,
                request.name,
                {"status": status},
                request.pod.namespace,
                subresource="status",
            )
        except (ConflictError, NotFoundError):
            return  # somebody answered it, or nobody waits for it any more
        except ApiError as error:
            if error.code != _INVALID:
                raise
            # Answered by a replica that led before, or an answer that the API server never takes: not worth another.
            self._log.error("the API server refuses the answer", request=request.name, error=str(error))
            if "certificateChain" in status:
                failed = self._condition("Failed", "NotTaken", "the API server does not take the certificate")
                await self._write(request, {"conditions": [failed]})

    def _condition(self, kind: str, reason: str, message: str) -> dict[str, str]:
        return {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message[:1000],
            "lastTransitionTime": _moment(int(self._clock.now())),
        }


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
