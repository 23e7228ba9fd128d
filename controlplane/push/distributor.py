"""Hands every subscribed sidecar its workload's snapshot, latest wins; one event loop, no I/O.

A subscription is one stream of one sidecar process. Instances of a service share its identity, and two processes may
stand beside one instance while one replaces the other; a process that subscribes again takes the place of its older
stream, which has most likely died without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from controlplane.push.mailbox import Mailbox
from controlplane.push.revisions import Catalog
from controlplane.push.sessions import Session
from controlplane.push.told import TellingMemory
from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.clock import Clock
from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId


class Ending(StrEnum):
    """Why the control plane ends a subscription; values are metric labels."""

    REMOVED = "removed"  # the workload is no longer in the mesh
    SUPERSEDED = "superseded"  # the same process subscribed again
    DRAINING = "draining"  # the control plane stops


class RefusedSubscription(StrEnum):
    """Why a subscription is not taken; values are metric labels."""

    UNKNOWN_WORKLOAD = "unknown_workload"
    UNKNOWN_INSTANCE = "unknown_instance"  # the identity is of the mesh, but has no instance of that name
    TOO_MANY = "too_many"
    DRAINING = "draining"


class SubscriptionRefusedError(Exception):
    """The subscription is not taken; ``reason`` says why; ``instances``: those that the identity has instead."""

    def __init__(self, reason: RefusedSubscription, instances: tuple[str, ...] = ()) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.instances = instances


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """One open stream: what was last offered to it waits in ``mailbox``; an Ending there is the last item."""

    session: Session
    mailbox: Mailbox[Snapshot | Ending]


class Distributor:
    """The open subscriptions, the sessions that ``status`` shows, and the catalog in force."""

    def __init__(self, *, clock: Clock, limit: int, identity_limit: int) -> None:
        """At most ``limit`` subscriptions in all and ``identity_limit`` under one identity, or two for each instance of
        it where that is more: one process may be replacing another beside every one of them."""
        self._clock = clock
        self._limit = limit
        self._identity_limit = identity_limit
        self._catalog = Catalog(revision=0, snapshots={})
        self.told = TellingMemory()
        self._instances: dict[SpiffeId, tuple[str, ...]] = {}
        self._open: dict[WorkloadKey, dict[str, Subscription]] = {}
        self._count = 0
        self._under: Counter[SpiffeId] = Counter()
        self._left: dict[WorkloadKey, Session] = {}
        self._draining = False

    @property
    def catalog(self) -> Catalog:
        """What is in force."""
        return self._catalog

    def instances(self, spiffe_id: SpiffeId) -> tuple[str, ...]:
        """The instances of an identity in the catalog, an unnamed one as empty text; none: no workload has it."""
        return self._instances.get(spiffe_id, ())

    def __len__(self) -> int:
        return self._count

    def publish(self, catalog: Catalog) -> int:
        """Put ``catalog`` in force; offers each sidecar whose snapshot changed the new one, and tells how many."""
        if catalog.snapshots.keys() != self._catalog.snapshots.keys():
            self._instances = {}
            for key in sorted(catalog.snapshots, key=lambda key: key.instance):
                self._instances[key.spiffe_id] = (*self._instances.get(key.spiffe_id, ()), key.instance)
        self._catalog = catalog
        self.told.keep(catalog.snapshots)
        offered = 0
        for subscription in list(self._subscriptions()):
            snapshot = catalog.snapshots.get(subscription.session.workload)
            if snapshot is None:
                self._end(subscription, Ending.REMOVED)
            elif snapshot.revision != subscription.session.offered_revision:
                self._offer(subscription, snapshot)
                offered += 1
        for workload in self._left.keys() - catalog.snapshots.keys():
            del self._left[workload]
        return offered

    def subscribe(self, session: Session) -> Subscription:
        """Take a subscription and offer it the snapshot in force. Raises SubscriptionRefusedError.

        The snapshot is offered whatever revision the sidecar says that it holds: once a stream, so cheap, and right
        also when its claim is not.
        """
        workload = session.workload
        if self._draining:
            raise SubscriptionRefusedError(RefusedSubscription.DRAINING)
        snapshot = self._catalog.snapshots.get(workload)
        instances = self.instances(workload.spiffe_id)
        if snapshot is None:
            known = RefusedSubscription.UNKNOWN_INSTANCE if instances else RefusedSubscription.UNKNOWN_WORKLOAD
            raise SubscriptionRefusedError(known, instances)
        peers = self._open.get(workload, {})
        older = peers.get(session.process)
        limit = max(self._identity_limit, 2 * len(instances))
        if older is not None:
            self._end(older, Ending.SUPERSEDED)
        elif self._count >= self._limit or self._under[workload.spiffe_id] >= limit:
            raise SubscriptionRefusedError(RefusedSubscription.TOO_MANY)
        subscription = Subscription(session=session, mailbox=Mailbox())
        self._open.setdefault(workload, {})[session.process] = subscription
        self._count += 1
        self._under[workload.spiffe_id] += 1
        self._left.pop(workload, None)
        self._offer(subscription, snapshot)
        return subscription

    def leave(self, subscription: Subscription) -> bool:
        """The stream is over; calling it again is harmless. Whether its process has no other stream now."""
        self._remove(subscription)
        session = subscription.session
        if session.workload in self._catalog.snapshots and session.workload not in self._open:
            self._left[session.workload] = session
        return session.process not in self._open.get(session.workload, {})

    def drain(self) -> None:
        """End every subscription and take none any more."""
        self._draining = True
        for subscription in list(self._subscriptions()):
            self._end(subscription, Ending.DRAINING)

    def sessions(self) -> dict[WorkloadKey, list[Session]]:
        """For each workload its open sessions, or the one that left last; none for one that never came."""
        found: dict[WorkloadKey, list[Session]] = {workload: [] for workload in self._catalog.snapshots}
        for subscription in self._subscriptions():
            found.setdefault(subscription.session.workload, []).append(subscription.session)
        for workload, session in self._left.items():
            if not found.get(workload):
                found[workload] = [session]
        return found

    def _subscriptions(self) -> Iterator[Subscription]:
        for peers in self._open.values():
            yield from peers.values()

    def _offer(self, subscription: Subscription, snapshot: Snapshot) -> None:
        subscription.session.offered(snapshot.revision, self._clock.monotonic())
        subscription.mailbox.put(snapshot)

    def _end(self, subscription: Subscription, ending: Ending) -> None:
        # Removed first, so that nothing is offered after the ending.
        self._remove(subscription)
        subscription.mailbox.put(ending)

    def _remove(self, subscription: Subscription) -> None:
        session = subscription.session
        session.connected = False
        peers = self._open.get(session.workload)
        if peers is None or peers.get(session.process) is not subscription:
            return
        del peers[session.process]
        self._count -= 1
        self._under[session.workload.spiffe_id] -= 1
        if not peers:
            del self._open[session.workload]
        if not self._under[session.workload.spiffe_id]:
            del self._under[session.workload.spiffe_id]
