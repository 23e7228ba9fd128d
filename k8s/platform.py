"""Kubernetes as a platform of the control plane: the one place where the parts of this package are put together.

Theory of operation. Copies of the cluster are kept from ``first_reading`` on. Each change of them stirs what depends on
it: the reading, which is offered to the control plane; the statuses of documents; the trust bundles in namespaces. What
must be done once in the cluster is done by the replica that holds the lease; what each replica does for itself is to
serve the webhooks, to attest, and to offer readings to its own control plane.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from prometheus_client import CollectorRegistry

from k8s.admission.documents import DocumentJudge
from k8s.admission.injecting import Denial, Injector
from k8s.admission.metrics import AdmissionMetrics
from k8s.admission.namespaces import NamespaceFinder
from k8s.admission.pace import POD_VALUES
from k8s.admission.room import Room
from k8s.admission.serving import Hook, Webhooks, serve
from k8s.attest.api import open_attestor
from k8s.attest.entries import entries_of
from k8s.client.connection import Connection
from k8s.client.errors import KubernetesError, NotFoundError
from k8s.client.resources import NAMESPACES
from k8s.controller.documents import written_of
from k8s.controller.events import EventTeller, Subject, Told
from k8s.controller.history import DocumentHistory
from k8s.controller.leading import Leadership, LeaseSettings
from k8s.controller.metrics import CopyMetrics, DocumentMetrics, LeftOutMetrics, part_failures
from k8s.controller.notices import NoticeTeller
from k8s.controller.offering import JudgedVersions, ReadingMaker, keep_offering
from k8s.controller.parts import Part, run_parts
from k8s.controller.peers import PeerCounts, Replica, others
from k8s.controller.serving import CertificateKeeper, ServingSettings
from k8s.controller.settling import Pace, Settler
from k8s.controller.telling import TellingScope, WaitingTeller
from k8s.controller.watching import ClusterCopies
from k8s.controller.webhooks import WebhookKeeper, WebhookNames
from k8s.controller.writing import StatusWriter
from k8s.objects.membership import left_out
from k8s.objects.namespaces import Namespace, read_namespace
from k8s.options import OptionError, PlatformOptions, read_options
from k8s.translate.meshing import MeshSettings, Translator
from k8s.trust.keeping import TrustKeeper
from k8s.trust.signing import CertificateSigner, SignerScope
from ringfence.attestation import Attestation, Attestor, RegistrationEntry
from ringfence.platform import Host, PlatformError, Reading, Surroundings

_TELL_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 2.0
_BUNDLE_SECONDS: Final = 2.0
_HISTORY_PACE: Final = Pace(settle_seconds=1.0, patience_seconds=5.0, apart_seconds=5.0)
_SLOW_PACE: Final = Pace(settle_seconds=0.2, patience_seconds=1.0, apart_seconds=0.5)


def open_platform(surroundings: Surroundings) -> KubernetesPlatform:
    """Raises PlatformError."""
    try:
        options = read_options(surroundings.options)
        connection = Connection.open(options.kubeconfig, options.context)
    except (OptionError, KubernetesError) as error:
        raise PlatformError(str(error)) from error
    return KubernetesPlatform(connection, options, surroundings)


class KubernetesPlatform:
    """``ringfence.platform.Platform``."""

    def __init__(self, connection: Connection, options: PlatformOptions, surroundings: Surroundings) -> None:
        self._connection = connection
        self._options = options
        self._clock = clock = surroundings.clock
        self._log = log = surroundings.log
        self._registry = cast(CollectorRegistry, surroundings.metrics)
        self._random = chance = random.SystemRandom().random
        self._replica = Replica(pod=os.environ.get("POD_NAME", ""), namespace=options.namespace, lease=options.lease)
        self._others: frozenset[str] | None = None
        self._reading = Settler(clock)
        self._statuses, self._trust, self._webhooks, self._notices = (Settler(clock, _SLOW_PACE) for _ in range(4))
        self._history = Settler(clock, _HISTORY_PACE)
        self._judged = JudgedVersions()
        self._copies = ClusterCopies(
            connection,
            self._mesh_changed,
            self._documents_changed,
            log=log.bind("watch"),
            random=chance,
            failed=self._count_failure,
        )
        settings = MeshSettings(trust_domain=options.trust_domain, name="kubernetes", root_namespace=options.namespace)
        self._maker = ReadingMaker(self._copies, Translator(settings))
        self._attestor, self._keys = open_attestor(
            connection,
            self._copies.pod,
            Path(options.keys_file) if options.keys_file else None,
            clock=clock,
            log=log.bind("attest"),
            random=chance,
        )
        self._led: list[Callable[[], None]] = []
        """What else waits for who leads."""
        self._admission_metrics = AdmissionMetrics(self._registry)
        self._failures = part_failures(self._registry)
        self._registry.register(CopyMetrics(lambda: self._copies.all))
        self._registry.register(DocumentMetrics(self._copies.sizes))
        self._registry.register(LeftOutMetrics(self._left_out))

    @property
    def attestor(self) -> Attestor:
        """By the tokens of service accounts."""
        return self._attestor

    @property
    def replicated(self) -> bool:
        """Whether other pods of the control plane go on."""
        return bool(self._other_replicas())

    def entries(self, attestation: Attestation) -> Sequence[RegistrationEntry]:
        """The one entry of an attested pod."""
        return entries_of(attestation, self._options.trust_domain.name, system_namespace=self._options.namespace)

    async def first_reading(self) -> Reading:
        """All that there is, once every watch has seen it; what is waited for is logged meanwhile."""
        self._copies.start()
        while True:
            try:
                async with asyncio.timeout(_TELL_SECONDS):
                    await self._copies.wait_complete()
                reading = self._maker.reading()
                self._judged.take(reading)  # `run` follows only once it is in force
                return reading
            except TimeoutError:
                mend = "apply the custom resource definitions of this version, and its roles"
                self._log.warning("waiting for the cluster to be read", missing=self._copies.lost(), mend=mend)

    async def run(self, host: Host) -> None:
        """Serve until cancelled."""
        leadership = self._leadership()
        signer = self._signer(host, leadership)
        self._led.append(signer.stir)
        host.watch_standings(self._statuses.stir)
        peers = self._peers(host)
        writer = StatusWriter(
            self._connection,
            self._copies,
            peers,
            lambda: leadership.leading,
            judged=self._judged,
            clock=self._clock,
            log=self._log.bind("statuses"),
        )
        history = DocumentHistory(
            self._connection,
            self._copies,
            host,
            lambda: leadership.leading,
            judged=self._judged,
            changed=self._history.stir,
            log=self._log.bind("history"),
            random=self._random,
        )
        host.watch_standings(self._history.stir)
        trust, webhooks = self._trust_keeper(host), self._webhook_keeper(host)
        events = self._events()
        notices = NoticeTeller(self._copies, host, lambda: leadership.leading, events.tell, clock=self._clock)
        host.watch_standings(self._notices.stir)
        for settler in (self._reading, self._statuses, self._history, self._trust, self._webhooks, self._notices):
            settler.stir()
        log = self._log.bind("platform")
        parts: dict[str, Part] = {
            "readings": lambda: keep_offering(
                self._maker, self._reading, host, self._take_judged, log=self._log.bind("readings")
            ),
            "lease": leadership.run,
            "peers": peers.run,
            "statuses": lambda: writer.run(self._statuses),
            "history copy": history.watch,
            "history": lambda: history.run(self._history),
            "trust": trust.run,
            "trust namespaces": lambda: self._watch_namespaces(trust),
            "webhook copies": webhooks.watch,
            # Those of a named revision are known to it alone, and who leads may be of another.
            "webhook bundles": lambda: webhooks.run(
                self._webhooks, lambda: leadership.leading or bool(self._options.inject.revision)
            ),
            "bundle": lambda: self._watch_bundle(host, trust),
            "keys": self._keys.run,
            "certificates": signer.run,
            "events": events.run,
            "pods that wait": self._waiting_teller(host, events).run,
            "notices": lambda: notices.run(self._notices),
            "admission": lambda: self._serve(host, events),
        }
        await run_parts(parts, self._count_failure, log)

    async def close(self) -> None:
        """After ``run`` was cancelled."""
        await self._copies.close()
        await self._connection.close()

    def _take_judged(self, reading: Reading) -> None:
        self._judged.take(reading)
        self._statuses.stir()
        self._history.stir()

    def _count_failure(self, part: str) -> None:
        self._failures.labels(part).inc()

    # ------------------------------------------------------------------------------------------------- what stirs what

    def _left_out(self) -> Mapping[str, int]:
        namespaces = {one.name: one for one in self._copies.namespaces.objects.values()}
        return left_out(self._copies.pods.objects.values(), namespaces)

    def _mesh_changed(self) -> None:
        self._others = None
        self._maker.mesh_changed()
        self._reading.stir()
        self._trust.stir()

    def _documents_changed(self) -> None:
        self._reading.stir()
        self._statuses.stir()

    def _led_changed(self) -> None:
        for settler in (self._statuses, self._history, self._webhooks, self._notices):
            settler.stir()
        for stir in self._led:
            stir()

    async def _watch_namespaces(self, trust: TrustKeeper) -> None:
        """Most changes of pods change no namespace."""
        before: frozenset[str] = frozenset()
        while True:
            await self._trust.settled()
            found = self._namespaces()
            if found != before:
                before = found
                trust.stir()

    async def _watch_bundle(self, host: Host, trust: TrustKeeper) -> None:
        """The control plane does not tell of its roots by itself."""
        last = host.trust_bundle
        while True:
            await asyncio.sleep(_BUNDLE_SECONDS)
            if host.trust_bundle != last:
                last = host.trust_bundle
                trust.stir()
                self._webhooks.stir()

    # ------------------------------------------------------------------------------------------------------- the parts

    def _leadership(self) -> Leadership:
        holder = os.environ.get("POD_NAME", "") or socket.gethostname()
        return Leadership(
            self._connection,
            LeaseSettings(
                namespace=self._options.namespace,
                name=self._options.lease,
                # A container that was restarted in its pod is another holder: the lease of the one before must end.
                holder=f"{holder}_{secrets.token_hex(4)}",
            ),
            clock=self._clock,
            log=self._log.bind("lease"),
            random=self._random,
            changed=self._led_changed,
        )

    def _peers(self, host: Host) -> PeerCounts:
        return PeerCounts(
            self._connection,
            self._replica,
            host,
            self._judged,
            self._other_replicas,
            changed=self._statuses.stir,
            log=self._log.bind("peers"),
        )

    def _other_replicas(self) -> frozenset[str]:
        """Asked for each workload, and found out only after pods have changed."""
        if self._others is None:
            self._others = others(self._replica, self._copies.pod, self._copies.pods.objects)
        return self._others

    def _trust_keeper(self, host: Host) -> TrustKeeper:
        return TrustKeeper(
            self._connection,
            namespaces=self._namespaces,
            bundle=lambda: host.trust_bundle,
            log=self._log.bind("trust"),
            random=self._random,
        )

    def _signer(self, host: Host, leadership: Leadership) -> CertificateSigner:
        scope = SignerScope(
            trust_domain=self._options.trust_domain.name,
            namespaces=self._namespaces,
            leading=lambda: leadership.leading,
            system_namespace=self._options.namespace,
        )
        log = self._log.bind("certificates")
        return CertificateSigner(self._connection, scope, host, clock=self._clock, log=log, random=self._random)

    def _namespaces(self) -> frozenset[str]:
        return self._copies.meshed_namespaces(self._options.namespace)

    def _webhook_keeper(self, host: Host) -> WebhookKeeper:
        options = self._options
        names = WebhookNames(configurations=options.webhooks, service=options.service, namespace=options.namespace)
        return WebhookKeeper(
            self._connection,
            names,
            lambda: host.trust_bundle.to_pem(),
            changed=self._webhooks.stir,
            log=self._log.bind("webhooks"),
            random=self._random,
        )

    def _events(self) -> EventTeller:
        instance = os.environ.get("POD_NAME", "") or socket.gethostname()
        return EventTeller(
            self._connection,
            component="ringfence",
            instance=instance,
            clock=self._clock,
            log=self._log.bind("events"),
        )

    def _waiting_teller(self, host: Host, events: EventTeller) -> WaitingTeller:
        options = self._options
        scope = TellingScope(
            trust_domain=options.trust_domain.name,
            revision=options.inject.revision,
            service=options.inject.host,
            pod=self._replica.pod,
            others=self._other_replicas,
        )
        return WaitingTeller(
            lambda: self._copies.pods.objects.values(),
            host,
            self._attestor.notes,
            events.tell,
            scope,
            clock=self._clock,
        )

    async def _serve(self, host: Host, events: EventTeller) -> None:
        """The webhooks, once there is a certificate for them."""
        log = self._log.bind("admission")
        keeper = CertificateKeeper(
            host,
            ServingSettings(dns_names=self._options.dns_names),
            clock=self._clock,
            log=log,
            random=self._random,
        )
        serving = await keeper.obtain()
        finder = NamespaceFinder(lambda name: self._copies.namespaces.objects.get(("", name)), self._ask_for_namespace)
        injector = Injector(self._options.inject, finder, lambda denial: events.tell(_told(denial)))
        documents = DocumentJudge(written_of, host.check, Room(self._copies.sizes, self._options.namespace))
        webhooks = Webhooks(
            hooks={"/mutate": Hook(judge=injector.judge, values=POD_VALUES), "/validate": Hook(judge=documents.judge)},
            log=log,
            observer=self._admission_metrics,
        )
        address = self._options.webhook_listen
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.create_server((address.host, address.port), family=family, backlog=256) as listener:
            listener.setblocking(False)
            async with asyncio.TaskGroup() as group:
                group.create_task(keeper.renew(serving))
                group.create_task(serve(webhooks, listener, serving))

    async def _ask_for_namespace(self, name: str) -> Namespace | None:
        try:
            return read_namespace(await self._connection.within(_ASK_SECONDS).get(NAMESPACES, name))
        except NotFoundError:
            return None
        except (KubernetesError, ValueError) as error:
            raise OSError(str(error)) from error


def _told(denial: Denial) -> Told:
    owner = denial.owner
    subject = Subject(
        api_version=owner.api_version if owner is not None else "v1",
        kind=owner.kind if owner is not None else "Pod",
        namespace=denial.namespace,
        name=owner.name if owner is not None else denial.pod.rstrip("-"),
        uid=owner.uid if owner is not None else "",
    )
    return Told(subject=subject, reason="InjectionDenied", message=denial.message)
