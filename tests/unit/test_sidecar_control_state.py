"""What is in force, and the last good snapshot on disk."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.kit.log import Logger
from ringfence.snapshot import Snapshot
from ringfence.wire.convert import snapshot_to_wire
from ringfence.wire.gen import control_pb2 as pb
from sidecar.control import SnapshotRefused, StoredSnapshotUnfit
from sidecar.control.enforcement import Enforcement, OnSnapshot
from sidecar.control.snapshot_file import NAME, SnapshotFile
from sidecar.state_folder import StateFolder
from tests.issuing_backends import ORDERS, WEB
from tests.sidecar_snapshots import snapshot_message
from tests.wire_policies import SECRET, full_snapshot

LOG = Logger("control", stream=io.StringIO())


def enforcement(on_snapshot: OnSnapshot = lambda _: None) -> Enforcement:
    return Enforcement(spiffe_id=ORDERS, on_snapshot=on_snapshot, log=LOG)


async def test_a_snapshot_is_put_in_force_and_answered_for() -> None:
    seen: list[Snapshot] = []
    held = enforcement(seen.append)
    outcome = await held.take(snapshot_message(1))
    assert outcome is not None
    assert (outcome.revision, outcome.error, outcome.is_new) == (1, None, True)
    assert held.snapshot is seen[0]
    assert held.revision == 1


async def test_equal_content_is_not_put_in_force_twice() -> None:
    seen: list[Snapshot] = []
    held = enforcement(seen.append)
    await held.take(snapshot_message(1))
    outcome = await held.take(snapshot_message(1))
    assert outcome is not None
    assert (outcome.error, outcome.is_new, len(seen)) == (None, False, 1)


async def test_other_content_under_the_same_revision_is_put_in_force() -> None:
    seen: list[Snapshot] = []
    held = enforcement(seen.append)
    await held.take(snapshot_message(1))
    await held.take(snapshot_message(1, mesh_port=15009))
    assert [snapshot.workload.mesh_port for snapshot in seen] == [15008, 15009]


async def refused(held: Enforcement, message: pb.Snapshot) -> str:
    outcome = await held.take(message)
    assert outcome is not None
    assert outcome.error is not None
    assert held.refused == 1
    return outcome.error


async def test_a_refused_snapshot_leaves_the_older_in_force() -> None:
    def picky(snapshot: Snapshot) -> None:
        if snapshot.revision == 2:
            raise SnapshotRefused("port 8080 is taken")

    held = enforcement(picky)
    await held.take(snapshot_message(1))
    assert await refused(held, snapshot_message(2)) == "port 8080 is taken"
    assert held.revision == 1
    await held.take(snapshot_message(3))
    assert held.revision == 3


async def test_a_refused_snapshot_is_tried_again_when_it_comes_again() -> None:
    faults = [SnapshotRefused("not now")]

    def once(_: Snapshot) -> None:
        if faults:
            raise faults.pop()

    held = enforcement(once)
    await refused(held, snapshot_message(1))
    outcome = await held.take(snapshot_message(1))
    assert outcome is not None
    assert outcome.is_new


async def test_the_snapshot_of_another_workload_is_refused() -> None:
    assert str(WEB) in await refused(enforcement(), snapshot_message(1, spiffe_id=WEB))


@pytest.mark.parametrize(
    ("own", "told", "words"),
    [
        ("a", "b", "it is the snapshot of instance b of"),
        ("a", "", "it is the snapshot of the unnamed instance of"),
        ("", "a", "not of the unnamed instance"),
    ],
)
async def test_the_snapshot_of_another_instance_is_refused(own: str, told: str, words: str) -> None:
    message = snapshot_message(1)
    message.workload.instance = told
    held = Enforcement(spiffe_id=ORDERS, instance=own, on_snapshot=lambda _: None, log=LOG)
    assert words in await refused(held, message)
    message.workload.instance = own
    outcome = await held.take(message)
    assert outcome is not None
    assert outcome.is_new


async def test_a_message_that_does_not_hold_is_refused() -> None:
    message = snapshot_message(1)
    message.workload.mesh_port = 70_000
    assert "mesh_port" in await refused(enforcement(), message)


async def test_a_fault_of_ours_is_no_success() -> None:
    def fail(_: Snapshot) -> None:
        raise KeyError("a fault")

    held = enforcement(fail)
    assert "internal error: KeyError" in await refused(held, snapshot_message(1))
    assert held.snapshot is None


async def test_one_snapshot_at_a_time() -> None:
    running: list[int] = []
    most: list[int] = []
    go = asyncio.Event()

    async def slow(snapshot: Snapshot) -> None:
        running.append(snapshot.revision)
        most.append(len(running))
        await go.wait()
        running.remove(snapshot.revision)

    held = enforcement(slow)
    tasks = [asyncio.ensure_future(held.take(snapshot_message(revision))) for revision in (1, 2)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert most == [1, 1]
    assert held.revision == 2


async def test_the_stored_snapshot_never_overrules_a_living_one() -> None:
    held = enforcement()
    await held.take(snapshot_message(2))
    assert await held.take(snapshot_message(1), only_if_none=True) is None
    assert held.revision == 2


# ------------------------------------------------------------------------------------------------------------ the file


@pytest.fixture
def file(tmp_path: Path) -> SnapshotFile:
    return SnapshotFile(StateFolder(tmp_path / "state"))


def test_what_was_saved_is_read_back(file: SnapshotFile, tmp_path: Path) -> None:
    file.write(snapshot_message(7), spiffe_id=ORDERS, saved_at=123.5)
    assert file.read(ORDERS) == (snapshot_message(7), 123.5)
    assert stat.S_IMODE((tmp_path / "state" / NAME).stat().st_mode) == 0o600


def test_no_file_is_none(file: SnapshotFile) -> None:
    assert file.read(ORDERS) is None


def test_the_snapshot_of_another_workload_is_not_taken_from_disk(file: SnapshotFile) -> None:
    file.write(snapshot_message(7, spiffe_id=WEB), spiffe_id=WEB, saved_at=123.5)
    with pytest.raises(StoredSnapshotUnfit, match=f"is of {WEB}, not of {ORDERS}"):
        file.read(ORDERS)


@given(st.data())
def test_no_changed_byte_goes_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = StateFolder(tmp_path_factory.mktemp("state") / "state")
    file = SnapshotFile(folder)
    file.write(snapshot_message(7), spiffe_id=ORDERS, saved_at=123.5)
    content = bytearray((folder.path / NAME).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    folder.write(NAME, bytes(content))
    with pytest.raises(StoredSnapshotUnfit):
        file.read(ORDERS)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_file_cut_short_is_refused(file: SnapshotFile, tmp_path: Path, cut: int) -> None:
    file.write(snapshot_message(7), spiffe_id=ORDERS, saved_at=123.5)
    path = tmp_path / "state" / NAME
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoredSnapshotUnfit):
        file.read(ORDERS)


def test_a_line_with_another_saved_at_is_refused(file: SnapshotFile, tmp_path: Path) -> None:
    file.write(snapshot_message(7), spiffe_id=ORDERS, saved_at=123.5)
    path = tmp_path / "state" / NAME
    line, _, rest = path.read_bytes().partition(b"\n")
    head = {**json.loads(line), "saved_at": 999999.0}
    path.write_bytes(json.dumps(head).encode() + b"\n" + rest)
    with pytest.raises(StoredSnapshotUnfit, match="digest does not match"):
        file.read(ORDERS)


@pytest.mark.parametrize("mode", [0o620, 0o640, 0o604])
def test_a_file_that_others_could_read_or_write_is_refused(file: SnapshotFile, tmp_path: Path, mode: int) -> None:
    file.write(snapshot_message(7), spiffe_id=ORDERS, saved_at=123.5)
    (tmp_path / "state" / NAME).chmod(mode)
    with pytest.raises(StoredSnapshotUnfit, match="others may read or write"):
        file.read(ORDERS)


def test_a_secret_of_introspection_lies_in_no_file_that_others_may_read(file: SnapshotFile, tmp_path: Path) -> None:
    kept = os.umask(0)
    try:
        file.write(snapshot_to_wire(full_snapshot()), spiffe_id=ORDERS, saved_at=123.5)
    finally:
        os.umask(kept)
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert [path.name for path in holding] == [NAME]
    assert stat.S_IMODE(holding[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(holding[0].parent.stat().st_mode) == 0o700
