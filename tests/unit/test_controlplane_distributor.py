"""Subscriptions: latest wins, one offer a change, bounds, endings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from controlplane.push.distributor import Distributor, Ending, SubscriptionRefusedError
from controlplane.push.mailbox import Mailbox
from controlplane.push.revisions import Catalog
from controlplane.push.sessions import Session, Standing
from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.clock import FakeClock
from ringfence.snapshot import Snapshot, Workload
from ringfence.spiffe import SpiffeId

WEB = WorkloadKey(SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web"))
ORDERS = WorkloadKey(SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders"))


def snapshot(key: WorkloadKey, revision: int) -> Snapshot:
    return Snapshot(
        revision=revision,
        workload=Workload(
            service=key.spiffe_id.service_account or "",
            namespace="shop",
            spiffe_id=key.spiffe_id,
            mesh_host="127.0.0.1",
            mesh_port=15008,
            ports=(),
            instance=key.instance,
        ),
        upstreams=(),
        allowlists=(),
        bundles=(),
    )


def catalog(revision: int, found: Mapping[WorkloadKey, int]) -> Catalog:
    return Catalog(revision=revision, snapshots={key: snapshot(key, value) for key, value in found.items()})


def session(workload: WorkloadKey, process: str = "a") -> Session:
    return Session(
        workload=workload,
        process=process,
        version="1",
        peer="ipv4:127.0.0.1:1",
        svid_not_after=1.0,
        svid_serial="ab",
        since=0.0,
    )


@pytest.fixture
def distributor(clock: FakeClock) -> Distributor:
    made = Distributor(clock=clock, limit=3, identity_limit=2)
    made.publish(catalog(1, {WEB: 1, ORDERS: 1}))
    return made


async def test_mailbox_holds_the_latest_only() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for item in (1, 2, 3):
        mailbox.put(item)
    assert await mailbox.take() == 3
    waiting = asyncio.ensure_future(mailbox.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.put(4)
    assert await waiting == 4


async def test_cancelled_taker_loses_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox()
    waiting = asyncio.ensure_future(mailbox.take())
    await asyncio.sleep(0)
    waiting.cancel()
    mailbox.put(1)
    await asyncio.gather(waiting, return_exceptions=True)
    assert await mailbox.take() == 1


async def test_new_subscriber_gets_what_is_in_force(distributor: Distributor) -> None:
    subscription = distributor.subscribe(session(WEB))
    assert await subscription.mailbox.take() == snapshot(WEB, 1)


async def test_only_those_whose_snapshot_changed_are_told(distributor: Distributor) -> None:
    web, orders = distributor.subscribe(session(WEB)), distributor.subscribe(session(ORDERS))
    await web.mailbox.take()
    await orders.mailbox.take()
    assert distributor.publish(catalog(2, {WEB: 1, ORDERS: 2})) == 1
    assert await orders.mailbox.take() == snapshot(ORDERS, 2)
    distributor.publish(catalog(3, {WEB: 3, ORDERS: 2}))
    assert await web.mailbox.take() == snapshot(WEB, 3)


async def test_slow_sidecar_gets_only_the_latest(distributor: Distributor) -> None:
    web = distributor.subscribe(session(WEB))
    for revision in range(2, 100):
        distributor.publish(catalog(revision, {WEB: revision, ORDERS: 1}))
    assert await web.mailbox.take() == snapshot(WEB, 99)


async def test_removed_workload_is_told_so_last(distributor: Distributor) -> None:
    web = distributor.subscribe(session(WEB))
    distributor.publish(catalog(2, {ORDERS: 1}))
    distributor.publish(catalog(3, {WEB: 3, ORDERS: 1}))
    assert await web.mailbox.take() is Ending.REMOVED
    assert len(distributor) == 0


def test_stranger_to_the_mesh_is_refused(distributor: Distributor) -> None:
    with pytest.raises(SubscriptionRefusedError, match="unknown_workload"):
        distributor.subscribe(session(WorkloadKey(SpiffeId.parse("spiffe://shop.example/ns/shop/sa/stranger"))))


async def test_same_process_takes_the_place_of_its_older_stream(distributor: Distributor) -> None:
    older = distributor.subscribe(session(WEB))
    newer = distributor.subscribe(session(WEB))
    assert await older.mailbox.take() is Ending.SUPERSEDED
    assert await newer.mailbox.take() == snapshot(WEB, 1)
    distributor.leave(older)  # its stream ends later
    assert len(distributor) == 1
    assert distributor.publish(catalog(2, {WEB: 2, ORDERS: 1})) == 1
    assert distributor.sessions()[WEB] == [newer.session]


async def test_processes_beside_one_workload_are_told_the_same(distributor: Distributor) -> None:
    replicas = [distributor.subscribe(session(WEB, name)) for name in ("a", "b")]
    distributor.publish(catalog(2, {WEB: 2, ORDERS: 1}))
    assert [await replica.mailbox.take() for replica in replicas] == [snapshot(WEB, 2)] * 2


def test_subscriptions_are_bounded_by_identity_and_in_all(distributor: Distributor) -> None:
    first = distributor.subscribe(session(WEB, "a"))
    distributor.subscribe(session(WEB, "b"))
    with pytest.raises(SubscriptionRefusedError, match="too_many"):
        distributor.subscribe(session(WEB, "c"))
    distributor.subscribe(session(ORDERS, "a"))
    with pytest.raises(SubscriptionRefusedError, match="too_many"):
        distributor.subscribe(session(ORDERS, "b"))
    distributor.leave(first)
    distributor.leave(first)
    assert len(distributor) == 2
    distributor.subscribe(session(ORDERS, "b"))


async def test_draining_ends_all_and_takes_none(distributor: Distributor) -> None:
    web = distributor.subscribe(session(WEB))
    distributor.drain()
    assert await web.mailbox.take() is Ending.DRAINING
    with pytest.raises(SubscriptionRefusedError, match="draining"):
        distributor.subscribe(session(ORDERS))


def test_who_left_last_is_remembered_until_it_returns_or_the_workload_goes(distributor: Distributor) -> None:
    assert distributor.sessions() == {WEB: [], ORDERS: []}
    first = distributor.subscribe(session(WEB))
    distributor.leave(first)
    assert distributor.sessions()[WEB] == [first.session]
    assert first.session.standing(0.0, 10.0) is Standing.DISCONNECTED
    second = distributor.subscribe(session(WEB, "b"))
    assert distributor.sessions()[WEB] == [second.session]
    distributor.leave(second)
    distributor.publish(catalog(2, {ORDERS: 1}))
    assert distributor.sessions() == {ORDERS: []}


class TestStanding:
    """Where a sidecar stands with what it was offered."""

    def test_from_offer_to_enforcement(self) -> None:
        one = session(WEB)
        one.offered(3, 100.0)
        assert one.standing(101.0, 10.0) is Standing.PENDING
        one.sent(3)
        assert one.standing(101.0, 10.0) is Standing.PENDING
        assert one.answered(3, accepted=True, enforced_revision=3, error="")
        assert one.standing(1000.0, 10.0) is Standing.CURRENT
        one.offered(4, 1000.0)
        assert one.standing(1001.0, 10.0) is Standing.PENDING
        assert one.standing(1011.0, 10.0) is Standing.OVERDUE

    def test_refusal_stays_until_the_next_snapshot(self) -> None:
        one = session(WEB)
        one.offered(3, 0.0)
        one.sent(3)
        assert one.answered(3, accepted=False, enforced_revision=2, error="")
        assert (one.standing(1.0, 10.0), one.error, one.enforced_revision) == (
            Standing.REFUSED,
            "refused without a reason",
            2,
        )
        one.offered(4, 5.0)
        one.sent(4)
        assert (one.standing(6.0, 10.0), one.error) == (Standing.PENDING, "")

    def test_answer_to_an_overtaken_snapshot_is_no_answer_to_the_last(self) -> None:
        one = session(WEB)
        for revision in (3, 4):
            one.offered(revision, 0.0)
            one.sent(revision)
        assert one.answered(3, accepted=True, enforced_revision=3, error="")
        assert (one.standing(1.0, 10.0), one.enforced_revision) == (Standing.PENDING, 3)

    @pytest.mark.parametrize(
        ("revision", "accepted", "enforced"), [(0, True, 0), (4, True, 4), (3, True, 2), (3, True, 4), (4, False, 3)]
    )
    def test_contradictory_answers_are_told_apart(self, revision: int, accepted: bool, enforced: int) -> None:
        one = session(WEB)
        one.offered(3, 0.0)
        one.sent(3)
        assert not one.answered(revision, accepted=accepted, enforced_revision=enforced, error="")
        assert one.enforced_revision == 0


A, B = WorkloadKey(ORDERS.spiffe_id, "a"), WorkloadKey(ORDERS.spiffe_id, "b")


async def test_each_instance_is_told_its_own(distributor: Distributor) -> None:
    distributor.publish(catalog(2, {A: 2, B: 2}))
    a, b = distributor.subscribe(session(A)), distributor.subscribe(session(B))
    assert (await a.mailbox.take(), await b.mailbox.take()) == (snapshot(A, 2), snapshot(B, 2))
    assert distributor.publish(catalog(3, {A: 2, B: 3})) == 1
    assert await b.mailbox.take() == snapshot(B, 3)
    distributor.publish(catalog(4, {A: 2}))
    assert await b.mailbox.take() is Ending.REMOVED
    assert distributor.sessions() == {A: [a.session]}


@pytest.mark.parametrize(
    ("held", "asked", "instances"),
    [((A, B), ORDERS, ("a", "b")), ((A, B), WorkloadKey(A.spiffe_id, "c"), ("a", "b")), ((ORDERS,), A, ("",))],
)
def test_an_instance_that_the_identity_does_not_have_is_refused(
    distributor: Distributor, held: tuple[WorkloadKey, ...], asked: WorkloadKey, instances: tuple[str, ...]
) -> None:
    distributor.publish(catalog(2, dict.fromkeys(held, 2)))
    with pytest.raises(SubscriptionRefusedError, match="unknown_instance") as refused:
        distributor.subscribe(session(asked))
    assert refused.value.instances == instances


def test_every_instance_finds_room_under_its_identity(clock: FakeClock) -> None:
    distributor = Distributor(clock=clock, limit=100, identity_limit=2)
    workloads = [WorkloadKey(ORDERS.spiffe_id, f"i{number}") for number in range(5)]
    distributor.publish(catalog(1, {**dict.fromkeys(workloads, 1), WEB: 1}))
    for workload in workloads:
        for process in ("old", "new"):
            distributor.subscribe(session(workload, process))
    with pytest.raises(SubscriptionRefusedError, match="too_many"):
        distributor.subscribe(session(workloads[0], "one more"))
    distributor.subscribe(session(WEB))
