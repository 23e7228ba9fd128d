"""Hands every subscribed sidecar its workload's snapshot, latest wins; one event loop, no I/O.

A subscription is one stream of one sidecar instance. Several instances may share an identity (replicas); one instance
that subscribes again takes the place of its older stream, which has most likely died without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from controlplane.push.mailbox import Mailbox
from controlplane.push.revisions import Catalog
from controlplane.push.sessions import Session
from ringfence.kit.clock import Clock
from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId


class Ending(StrEnum):
    """Why the control plane ends a subscription; values are metric labels."""

    REMOVED = "removed"  # the workload is no longer in the mesh
    SUPERSEDED = "superseded"  # the same instance subscribed again
    DRAINING = "draining"  # the control plane stops


class RefusedSubscription(StrEnum):
    """Why a subscription is not taken; values are metric labels."""

    UNKNOWN_WORKLOAD = "unknown_workload"
    TOO_MANY = "too_many"
    DRAINING = "draining"


class SubscriptionRefusedError(Exception):
    """The subscription is not taken; ``reason`` says why."""

    def __init__(self, reason: RefusedSubscription) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """One open stream: what was last offered to it waits in ``mailbox``; an Ending there is the last item."""

    session: Session
    mailbox: Mailbox[Snapshot | Ending]


class Distributor:
    """The open subscriptions, the sessions that ``status`` shows, and the catalog in force."""

    def __init__(self, *, clock: Clock, limit: int, identity_limit: int) -> None:
        """At most ``limit`` subscriptions in all and ``identity_limit`` under one identity."""
        self._clock = clock
        self._limit = limit
        self._identity_limit = identity_limit
        self._catalog = Catalog(revision=0, snapshots={})
        self._open: dict[SpiffeId, dict[str, Subscription]] = {}
        self._count = 0
        self._left: dict[SpiffeId, Session] = {}
        self._draining = False

    @property
    def catalog(self) -> Catalog:
        """What is in force."""
        return self._catalog

    def __len__(self) -> int:
        return self._count

    def publish(self, catalog: Catalog) -> int:
        """Put ``catalog`` in force; offers each sidecar whose snapshot changed the new one, and tells how many."""
        self._catalog = catalog
        offered = 0
        for subscription in list(self._subscriptions()):
            snapshot = catalog.snapshots.get(subscription.session.spiffe_id)
            if snapshot is None:
                self._end(subscription, Ending.REMOVED)
            elif snapshot.revision != subscription.session.offered_revision:
                self._offer(subscription, snapshot)
                offered += 1
        for spiffe_id in self._left.keys() - catalog.snapshots.keys():
            del self._left[spiffe_id]
        return offered

    def subscribe(self, session: Session) -> Subscription:
        """Take a subscription and offer it the snapshot in force. Raises SubscriptionRefusedError.

        The snapshot is offered whatever revision the sidecar says that it holds: once a stream, so cheap, and right
        also when its claim is not.
        """
        spiffe_id = session.spiffe_id
        if self._draining:
            raise SubscriptionRefusedError(RefusedSubscription.DRAINING)
        snapshot = self._catalog.snapshots.get(spiffe_id)
        if snapshot is None:
            raise SubscriptionRefusedError(RefusedSubscription.UNKNOWN_WORKLOAD)
        peers = self._open.get(spiffe_id, {})
        older = peers.get(session.instance)
        if older is not None:
            self._end(older, Ending.SUPERSEDED)
        elif self._count >= self._limit or len(peers) >= self._identity_limit:
            raise SubscriptionRefusedError(RefusedSubscription.TOO_MANY)
        subscription = Subscription(session=session, mailbox=Mailbox())
        self._open.setdefault(spiffe_id, {})[session.instance] = subscription
        self._count += 1
        self._left.pop(spiffe_id, None)
        self._offer(subscription, snapshot)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """The stream is over; calling it again is harmless."""
        self._remove(subscription)
        session = subscription.session
        if session.spiffe_id in self._catalog.snapshots and session.spiffe_id not in self._open:
            self._left[session.spiffe_id] = session

    def drain(self) -> None:
        """End every subscription and take none any more."""
        self._draining = True
        for subscription in list(self._subscriptions()):
            self._end(subscription, Ending.DRAINING)

    def sessions(self) -> dict[SpiffeId, list[Session]]:
        """For each workload its open sessions, or the one that left last; none for one that never came."""
        found: dict[SpiffeId, list[Session]] = {spiffe_id: [] for spiffe_id in self._catalog.snapshots}
        for subscription in self._subscriptions():
            found.setdefault(subscription.session.spiffe_id, []).append(subscription.session)
        for spiffe_id, session in self._left.items():
            if not found.get(spiffe_id):
                found[spiffe_id] = [session]
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
        peers = self._open.get(session.spiffe_id)
        if peers is None or peers.get(session.instance) is not subscription:
            return
        del peers[session.instance]
        self._count -= 1
        if not peers:
            del self._open[session.spiffe_id]
