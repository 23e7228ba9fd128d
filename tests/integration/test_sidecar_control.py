"""The stream to the control plane over real gRPC: snapshots in, answers out, and a life without it."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId, TrustBundle, X509Svid, control_plane_dns_name, control_plane_id
from ringfence.wire.gen import control_pb2 as pb
from ringfence.wire.gen.control_pb2_grpc import add_ControlServicer_to_server
from sidecar.control import ControlStream, SnapshotRefused
from sidecar.control.enforcement import OnSnapshot
from sidecar.control.snapshot_file import NAME, SnapshotFile
from sidecar.settings import HostPort
from sidecar.state_folder import StateFolder
from tests.fake_control import FakeControl
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, WEB
from tests.pki import TestCa
from tests.ports import free_port
from tests.sidecar_snapshots import snapshot_message
from tests.waiting import until


class HeldIdentity:
    """An identity that changes when the test says so."""

    def __init__(self, ca: TestCa, svid: X509Svid | None) -> None:
        self.spiffe_id: SpiffeId = ORDERS
        self.svid = svid
        self.bundles: tuple[TrustBundle, ...] = (ca.bundle(),)
        self.left = 3600.0
        self._listeners: list[Callable[[X509Svid, tuple[TrustBundle, ...]], None]] = []

    @property
    def left_seconds(self) -> float:
        return self.left if self.svid is not None else 0.0

    def on_change(self, callback: Callable[[X509Svid, tuple[TrustBundle, ...]], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def ready(self) -> None:
        await until(lambda: self.svid is not None)

    def change(self, svid: X509Svid) -> None:
        self.svid = svid
        for callback in tuple(self._listeners):
            callback(svid, self.bundles)


class Bench:
    """A control plane and a sidecar's stream to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = TestCa(TRUST_DOMAIN)
        self.control = FakeControl()
        self.server: grpc.aio.Server | None = None
        self.port = free_port()
        self.lines = io.StringIO()
        self.identity = HeldIdentity(self.ca, self.ca.svid(ORDERS))
        self.enforced: list[Snapshot] = []
        self.tasks: list[asyncio.Future[None]] = []

    async def serve(self) -> None:
        """Start the control plane, each time on the same port."""
        svid = self.ca.svid(control_plane_id(TRUST_DOMAIN), dns=[control_plane_dns_name(TRUST_DOMAIN)])
        credentials = grpc.ssl_server_credentials(
            [(svid.private_key_pem(), svid.chain_pem())],
            root_certificates=self.ca.bundle().to_pem(),
            require_client_auth=True,
        )
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_ControlServicer_to_server(self.control, self.server)  # type: ignore[no-untyped-call]
        self.server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self.server.start()

    async def stop_serving(self) -> None:
        if self.server is not None:
            await self.server.stop(None)
            self.server = None

    def stream(self, on_snapshot: OnSnapshot | None = None, **options: Any) -> ControlStream:
        return ControlStream(
            address=HostPort("127.0.0.1", self.port),
            holder=self.identity,
            file=SnapshotFile(StateFolder(self.folder / "state")),
            on_snapshot=on_snapshot or self.enforced.append,
            clock=SystemClock(),
            random=random.random,
            log=Logger("control", stream=self.lines),
            version="0.1.0",
            process="0123456789abcdef",
            backoff=Backoff(first_seconds=0.02, cap_seconds=0.2),
            **options,
        )

    def run(self, stream: ControlStream) -> ControlStream:
        self.tasks.append(asyncio.ensure_future(stream.run()))
        return stream

    async def stop_streams(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    def logged(self, msg: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines.getvalue().splitlines()) if line["msg"] == msg]

    async def saved(self, revision: int) -> None:
        file = SnapshotFile(StateFolder(self.folder / "state"))
        await until(lambda: (stored := file.read(ORDERS)) is not None and stored[0].revision == revision)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.serve()
    yield made
    await made.stop_streams()
    await made.stop_serving()


async def test_hello_and_identity_come_first(bench: Bench) -> None:
    bench.control.push(snapshot_message(1))
    bench.run(bench.stream())
    await until(lambda: bench.control.hellos and bench.control.identities)
    (hello,) = bench.control.hellos
    assert (hello.version, hello.process, hello.held_revision) == ("0.1.0", "0123456789abcdef", 0)
    svid = bench.identity.svid
    assert svid is not None
    (report,) = bench.control.identities
    assert (report.serial, report.not_after) == (svid.serial, int(svid.not_after))


async def test_a_snapshot_is_enforced_and_acknowledged(bench: Bench) -> None:
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    assert stream.waiting_for == "a snapshot from the control plane"
    await until(lambda: bench.control.acks)
    ack = bench.control.acks[0]
    assert (ack.revision, ack.accepted, ack.error, ack.enforced_revision) == (1, True, "", 1)
    assert [snapshot.revision for snapshot in bench.enforced] == [1]
    assert stream.waiting_for is None
    assert stream.connected
    assert stream.staleness_seconds() == 0.0
    assert stream.last_contact is not None


async def test_a_change_is_pushed_on_the_same_stream(bench: Bench) -> None:
    bench.control.push(snapshot_message(1))
    bench.run(bench.stream())
    await until(lambda: len(bench.control.acks) == 1)
    bench.control.push(snapshot_message(2))
    await until(lambda: len(bench.control.acks) == 2)
    assert [snapshot.revision for snapshot in bench.enforced] == [1, 2]
    assert len(bench.control.hellos) == 1


async def test_a_refused_snapshot_is_acknowledged_as_such_and_the_older_stays(bench: Bench) -> None:
    def picky(snapshot: Snapshot) -> None:
        if snapshot.revision == 2:
            raise SnapshotRefused("127.0.0.1:9102 is taken (change listen of upstream payments)")
        bench.enforced.append(snapshot)

    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream(picky))
    await until(lambda: len(bench.control.acks) == 1)
    bench.control.push(snapshot_message(2))
    await until(lambda: len(bench.control.acks) == 2)
    ack = bench.control.acks[1]
    assert (ack.revision, ack.accepted, ack.enforced_revision) == (2, False, 1)
    assert "127.0.0.1:9102 is taken" in ack.error
    assert stream.snapshot is bench.enforced[0]
    assert stream.refused == 1
    await bench.saved(1)
    bench.control.push(snapshot_message(3))
    await until(lambda: len(bench.control.acks) == 3)
    assert bench.control.acks[2].accepted


async def test_a_message_that_does_not_hold_is_acknowledged_as_refused(bench: Bench) -> None:
    broken = snapshot_message(1)
    broken.workload.ports[0].protocol = "smtp"
    bench.control.push(broken)
    stream = bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    assert not bench.control.acks[0].accepted
    assert "protocol" in bench.control.acks[0].error
    assert bench.enforced == []
    assert "was refused" in str(stream.waiting_for)


async def test_the_snapshot_of_another_workload_is_refused(bench: Bench) -> None:
    bench.control.push(snapshot_message(1, spiffe_id=WEB))
    bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    assert not bench.control.acks[0].accepted
    assert bench.enforced == []


class Word:
    """What a sidecar has to report of its readiness."""

    def __init__(self) -> None:
        self.now = pb.ReadinessReport(ready=True)

    def __call__(self) -> pb.ReadinessReport:
        return self.now


async def test_a_stream_names_the_instance_and_tells_readiness_once_a_snapshot_is_in_force(bench: Bench) -> None:
    word = Word()
    stream = bench.run(bench.stream(instance="b", readiness=word))
    await until(lambda: bench.control.identities)
    assert bench.control.hellos[0].instance == "b"
    stream.readiness_changed()
    message = snapshot_message(1)
    message.workload.instance = "a"
    bench.control.push(message)
    await until(lambda: len(bench.control.acks) == 1)
    assert "not of instance b" in bench.control.acks[0].error
    message.workload.instance = "b"
    bench.control.push(message)
    await until(lambda: bench.control.readiness)
    assert len(bench.control.acks) == 2
    word.now = pb.ReadinessReport(ready=False, reason="draining")
    stream.readiness_changed()
    await asyncio.wait_for(stream.flush(), 10)
    await until(lambda: len(bench.control.readiness) == 2)
    assert [one.ready for one in bench.control.readiness] == [True, False]


async def test_the_next_stream_begins_with_what_changed_while_there_was_none(bench: Bench) -> None:
    word = Word()
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream(readiness=word))
    await until(lambda: bench.control.readiness)
    await bench.stop_serving()
    await until(lambda: not stream.connected)
    word.now = pb.ReadinessReport(ready=False, reason="draining")
    stream.readiness_changed()
    await asyncio.wait_for(stream.flush(), 10)
    await bench.serve()
    await until(lambda: len(bench.control.readiness) == 2)
    assert not bench.control.readiness[1].ready


async def test_what_differs_in_readiness_alone_is_enforced_and_not_written_to_disk(bench: Bench) -> None:
    def saved() -> int:
        stored = SnapshotFile(StateFolder(bench.folder / "state")).read(ORDERS)
        return stored[0].revision if stored is not None else 0

    message = snapshot_message(1)
    upstream = message.upstreams.add(service="payments", namespace="shop", port=8080, protocol="tcp")
    upstream.endpoints.add(mesh_host="10.0.0.2", mesh_port=15008, address="10.0.0.2", spiffe_id=str(WEB))
    bench.control.push(message)
    bench.run(bench.stream())
    await until(lambda: len(bench.control.acks) == 1)
    for revision, not_ready in ((2, True), (3, False)):
        message = pb.Snapshot.FromString(message.SerializeToString())
        message.revision, message.upstreams[-1].endpoints[0].not_ready = revision, not_ready
        bench.control.push(message)
        await until(lambda revision=revision: len(bench.control.acks) == revision)  # type: ignore[misc]
    ends = [snapshot.upstreams[-1].endpoints[0].ready for snapshot in bench.enforced]
    assert (ends, bench.control.acks[-1].enforced_revision, saved()) == ([True, False, True], 3, 1)
    message = pb.Snapshot.FromString(message.SerializeToString())
    message.revision, message.upstreams[-1].endpoints[0].mesh_port = 4, 15009
    bench.control.push(message)
    await until(lambda: len(bench.control.acks) == 4)
    assert saved() == 4


async def test_on_snapshot_may_take_its_time(bench: Bench) -> None:
    go = asyncio.Event()

    async def slow(snapshot: Snapshot) -> None:
        await go.wait()
        bench.enforced.append(snapshot)

    bench.control.push(snapshot_message(1))
    bench.run(bench.stream(slow))
    await until(lambda: bench.control.hellos)
    assert bench.control.acks == []
    go.set()
    await until(lambda: bench.control.acks)


async def test_a_lost_control_plane_is_found_again_and_changes_nothing_meanwhile(bench: Bench) -> None:
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    await bench.stop_serving()
    await until(lambda: not stream.connected)
    assert stream.snapshot is bench.enforced[0]
    assert stream.waiting_for is None
    before = stream.staleness_seconds()
    await until(lambda: stream.staleness_seconds() > before)
    await bench.serve()
    await until(lambda: stream.connected)
    assert stream.staleness_seconds() == 0.0
    assert stream.reconnects >= 1
    await until(lambda: len(bench.control.hellos) == 2)
    assert bench.control.hellos[1].held_revision == 1
    # The same content again is answered for, and not put in force a second time.
    await until(lambda: len(bench.control.acks) == 2)
    assert bench.control.acks[1].accepted
    assert len(bench.enforced) == 1


async def test_a_stream_that_is_ended_is_opened_again(bench: Bench) -> None:
    bench.control.push(snapshot_message(1))
    bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    bench.control.end_streams()
    await until(lambda: len(bench.control.hellos) == 2)


async def test_a_control_plane_that_says_no_is_asked_again(bench: Bench) -> None:
    bench.control.failure = (grpc.StatusCode.PERMISSION_DENIED, "this workload is not in the mesh")
    stream = bench.run(bench.stream())
    await until(lambda: "not in the mesh" in str(stream.waiting_for))
    bench.control.failure = None
    bench.control.push(snapshot_message(1))
    await until(lambda: stream.waiting_for is None)


async def test_a_control_plane_that_says_nothing_is_given_up(bench: Bench) -> None:
    stream = bench.run(bench.stream(answer_seconds=0.05))
    await until(lambda: len(bench.control.hellos) >= 2 and "silent" in str(stream.waiting_for))


async def test_a_new_svid_is_reported_on_the_stream(bench: Bench) -> None:
    bench.control.push(snapshot_message(1))
    bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    newer = bench.ca.svid(ORDERS)
    bench.identity.change(newer)
    await until(lambda: len(bench.control.identities) == 2)
    assert bench.control.identities[1].serial == newer.serial
    assert len(bench.control.hellos) == 1


async def test_the_next_stream_is_opened_by_the_newer_svid_before_the_old_one_ends(bench: Bench) -> None:
    # Three quarters of the first one's life are over: from the start there is little left of it.
    bench.identity.svid = bench.ca.svid(ORDERS, lifetime=600.0, not_before=-3000.0)
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    newer = bench.ca.svid(ORDERS)
    bench.identity.change(newer)
    await until(lambda: len(bench.control.hellos) == 2)
    assert len(set(bench.control.peers)) == 2
    await until(lambda: bench.control.streams == 1)
    assert stream.connected
    assert bench.logged("control plane lost") == []


async def test_a_stream_that_ends_meanwhile_does_not_leave_half_a_snapshot(bench: Bench) -> None:
    go = asyncio.Event()
    steps: list[str] = []

    async def slow(snapshot: Snapshot) -> None:
        steps.append("begun")
        try:
            await go.wait()
        except asyncio.CancelledError:
            steps.append("cut off")
            raise
        steps.append("done")

    bench.identity.svid = bench.ca.svid(ORDERS, lifetime=600.0, not_before=-3000.0)
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream(slow))
    await until(lambda: steps)
    bench.identity.change(bench.ca.svid(ORDERS))
    await until(lambda: len(bench.control.hellos) == 2)
    go.set()
    await until(lambda: bench.control.acks)
    assert steps == ["begun", "done"]
    assert stream.snapshot is not None
    assert bench.control.acks[0].accepted


async def test_an_svid_that_ended_is_not_shown(bench: Bench) -> None:
    bench.identity.left = 0.0
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    await until(stream._settled.is_set)
    assert bench.control.hellos == []
    bench.identity.left = 3600.0
    await until(lambda: stream.connected)


# ----------------------------------------------------------------------------------------- without a control plane


async def stored(bench: Bench, revision: int = 1) -> None:
    """A sidecar ran before and was told a snapshot; now the control plane is away."""
    bench.control.push(snapshot_message(revision))
    bench.run(bench.stream())
    await bench.saved(revision)
    await bench.stop_streams()
    await bench.stop_serving()
    bench.enforced.clear()


async def test_without_a_control_plane_the_last_good_snapshot_serves(bench: Bench) -> None:
    await stored(bench)
    stream = bench.run(bench.stream())
    await until(lambda: stream.snapshot is not None)
    assert [snapshot.revision for snapshot in bench.enforced] == [1]
    assert stream.waiting_for is None
    assert not stream.connected
    (line,) = bench.logged("serving by the last good snapshot")
    assert line["revision"] == 1
    # And when it comes back, its word counts.
    bench.control.current = snapshot_message(2)
    await bench.serve()
    await until(lambda: len(bench.enforced) == 2)
    assert bench.enforced[1].revision == 2


async def test_a_control_plane_that_answers_goes_before_the_stored_snapshot(bench: Bench) -> None:
    await stored(bench)
    bench.control.current = snapshot_message(2)
    await bench.serve()
    stream = bench.run(bench.stream(patience_seconds=30.0))
    await until(lambda: stream.snapshot is not None)
    assert [snapshot.revision for snapshot in bench.enforced] == [2]


async def test_a_control_plane_that_hangs_does_not_keep_the_stored_snapshot_waiting(bench: Bench) -> None:
    await stored(bench)
    bench.control.current = None
    await bench.serve()
    stream = bench.run(bench.stream(patience_seconds=0.05))
    await until(lambda: stream.snapshot is not None)
    assert not stream.connected


async def test_nothing_is_enforced_before_there_is_an_identity(bench: Bench) -> None:
    await stored(bench)
    svid, bench.identity.svid = bench.identity.svid, None
    bench.run(bench.stream(patience_seconds=0.0))
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.enforced == []
    bench.identity.svid = svid
    await until(lambda: bench.enforced)


async def test_a_tampered_snapshot_is_refused_and_told(bench: Bench) -> None:
    await stored(bench)
    path = bench.folder / "state" / NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b"/orders/{id}", b"/admin/{id}"))
    assert path.read_bytes() != content
    stream = bench.run(bench.stream())
    await until(lambda: bench.logged("stored snapshot refused"))
    (line,) = bench.logged("stored snapshot refused")
    assert "its digest does not match" in line["reason"]
    assert bench.enforced == []
    assert stream.waiting_for is not None


async def test_a_stored_snapshot_that_is_refused_leaves_the_sidecar_waiting(bench: Bench) -> None:
    await stored(bench)

    def refuse(_: Snapshot) -> None:
        raise SnapshotRefused("port 9102 is taken")

    stream = bench.run(bench.stream(refuse))
    await until(lambda: stream.refused == 1)
    assert stream.snapshot is None
    assert stream.waiting_for is not None


async def test_no_private_key_is_in_the_file(bench: Bench) -> None:
    await stored(bench)
    content = (bench.folder / "state" / NAME).read_bytes()
    svid = bench.identity.svid
    assert svid is not None
    secret = svid.private_key.private_numbers().private_value.to_bytes(32, "big")
    assert b"PRIVATE KEY" not in content
    assert secret not in content


async def test_a_full_disk_costs_the_file_and_not_the_policy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.state_folder import StateError

    def full(self: StateFolder, name: str, content: bytes) -> None:
        raise StateError("no space left on device")

    monkeypatch.setattr(StateFolder, "write", full)
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    await until(lambda: bench.control.acks)
    assert bench.control.acks[0].accepted
    await until(lambda: bench.logged("snapshot not saved"))
    assert stream.connected


# -------------------------------------------------------------------------------------------------------- who may speak


async def test_a_server_of_another_ca_is_not_listened_to(bench: Bench) -> None:
    bench.identity.bundles = (TestCa(TRUST_DOMAIN).bundle(),)
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    await until(lambda: bench.logged("control plane not reached"))
    assert stream.snapshot is None
    assert bench.control.hellos == []


async def test_a_workloads_certificate_does_not_pass_for_the_control_plane(bench: Bench) -> None:
    await bench.stop_serving()
    svid = bench.ca.svid(WEB, dns=["web.shop.example"])
    credentials = grpc.ssl_server_credentials(
        [(svid.private_key_pem(), svid.chain_pem())],
        root_certificates=bench.ca.bundle().to_pem(),
        require_client_auth=True,
    )
    impostor = grpc.aio.server()
    add_ControlServicer_to_server(bench.control, impostor)  # type: ignore[no-untyped-call]
    bench.port = impostor.add_secure_port("127.0.0.1:0", credentials)
    await impostor.start()
    bench.control.push(snapshot_message(1))
    stream = bench.run(bench.stream())
    await until(lambda: bench.logged("control plane not reached"))
    assert stream.snapshot is None
    assert bench.control.hellos == []
    await bench.stop_streams()
    await impostor.stop(None)


def test_the_stream_works_on_uvloop(tmp_path: Path) -> None:
    async def turn() -> int:
        bench = Bench(tmp_path)
        await bench.serve()
        bench.control.push(snapshot_message(1))
        try:
            bench.run(bench.stream())
            await until(lambda: bench.control.acks)
            return bench.enforced[0].revision
        finally:
            await bench.stop_streams()
            await bench.stop_serving()

    assert uvloop.run(turn()) == 1
