"""The works that measure a process or a deed of the mesh by itself: what they make of what they saw."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import attesting, issuance, issuing_alone, revision, start
from benchmarks.profile import Place, Spent
from benchmarks.streams import echo_all, opened
from benchmarks.works import BenchmarkError
from ca.csr import public_key_of_csr
from ca.host_proof import HostKey, attest_message, enrol_message
from controlplane.mesh.document import read_mesh
from ringfence.policy.documents import read_documents

IN_FORCE = '{"ts":"2026-11-22T22:00:00.250Z","level":"info","msg":"configuration in force","revision":7}'


def test_the_moment_of_a_revision_is_read_from_the_log() -> None:
    text = '{"ts":"2026-11-22T22:00:00.100Z","msg":"svid issued"}\n' + IN_FORCE + "\n"

    assert revision.in_force(text) == 1795384800.25


@pytest.mark.parametrize("text", ["", f"{IN_FORCE}\n{IN_FORCE}\n", "half a line"])
def test_no_revision_or_two_are_no_moment(text: str) -> None:
    with pytest.raises(BenchmarkError):
        revision.in_force(text)


def test_a_log_is_read_from_where_one_stood(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(f"{IN_FORCE}\n")
    log = revision.Log(file)
    log.skip()
    with pytest.raises(BenchmarkError):
        log.in_force()

    with file.open("a") as more:
        more.write(IN_FORCE.replace("00.250", "01.500") + "\n")

    assert log.in_force() == 1795384801.5


def test_revision_rows_count_from_both_moments_and_look_at_the_slowest() -> None:
    quick = revision.Change(in_place=False, saved=0.0, in_force=0.15, first_end=0.17, last_end=0.2)
    slow = revision.Change(in_place=False, saved=0.0, in_force=0.1, first_end=0.19, last_end=0.26)
    written = revision.Change(in_place=True, saved=0.0, in_force=0.1, first_end=0.17, last_end=0.21)

    rows = {row.metric: row for row in revision.rows(1000, [quick] * 19 + [slow] + [written] * 20)}

    assert rows["p99_milliseconds_from_in_force"].ours == pytest.approx(160)
    assert rows["p99_milliseconds_from_in_force"].met is False
    assert rows["p99_milliseconds_from_renamed"].ours == pytest.approx(260)
    assert rows["p99_milliseconds_from_written"].ours == pytest.approx(210)
    assert rows["p99_milliseconds_from_first_end"].ours == pytest.approx(70)
    assert all(row.level == "1000 streams, 500 ended" for row in rows.values())


def test_the_policy_that_is_changed_is_one_that_is_enforced() -> None:
    documents, problems = read_documents(json.dumps(revision._policy(9000, 9001)), "api.yaml")

    assert [str(problem) for problem in problems] == []
    assert len(documents) == 1


def test_start_rows_hold_each_way_of_starting_against_a_second() -> None:
    taken = {
        "join token": [start.Start(seconds=0.4, cpu_seconds=0.3)],
        "host key": [start.Start(seconds=1.2, cpu_seconds=0.3)],
        "envoy": [start.Start(seconds=0.1, cpu_seconds=0.1)],
    }

    rows = start.rows(taken, "envoy 1.40.0")

    assert [(row.level, row.met) for row in rows if row.bar] == [("join token", True), ("host key", False)]
    assert {row.peer for row in rows} == {"its bar", "envoy 1.40.0, its configuration in a file"}


def test_issuance_rows_judge_by_cpu_time_only() -> None:
    kept = issuance.Turn(per_cpu_second=600, per_second=400)
    alone = issuance.Turn(per_cpu_second=400)

    rows = issuance.rows(16, {"port": [kept], "alone": [alone]})

    assert [(row.level, row.metric, row.met) for row in rows] == [
        ("port, 16 workloads", "svids_per_cpu_second", True),
        ("alone, 16 workloads", "svids_per_cpu_second", False),
        ("port, 16 workloads", "svids_per_second", None),
    ]


def test_what_a_workload_signs_is_what_the_ca_checks() -> None:
    workload = attesting.Workload()
    join, attest = workload.joining("token"), workload.attesting(b"nonce")
    key = HostKey.parse(join.host_public_key)

    assert key.key_id == workload.key_id == attest.host_key_id
    assert key.signed(join.host_key_proof, enrol_message("token", join.csr))
    assert key.signed(attest.signature, attest_message(b"nonce", attest.csr))
    assert public_key_of_csr(join.csr) != public_key_of_csr(attest.csr)


def test_the_ca_alone_issues_and_records_what_is_attested(tmp_path: Path) -> None:
    assert issuing_alone.attest(tmp_path, count=3, workloads=2) > 0


async def test_a_connection_that_does_not_echo_is_no_open_stream() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            connection.sendall(connection.recv(1))
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        held = await opened(listening.getsockname()[1], 1)
        assert held[0].ended_at is None
        with pytest.raises(BenchmarkError, match="live on"):
            await echo_all(held)
        thread.join(10)
        assert held[0].ended_at is not None
        held[0].close()


def test_stretches_of_a_profile_add_up() -> None:
    place = Place("f.py", 1, "f")
    before = Spent(samples=Counter({place: 1}), cpu_seconds=1.0, kernel_seconds=0.5)
    after = Spent(samples=Counter({place: 4}), cpu_seconds=1.003, kernel_seconds=0.501)

    total = Spent.sum([after, after]).tables_since(Spent.sum([before, before]), "api", 2, "change")

    assert total.splitlines()[0] == "api: 3,000.0 µs a change, 1,000.0 of them in the kernel (6 samples)"


def test_the_mesh_of_a_revision_is_one_that_the_control_plane_takes() -> None:
    from benchmarks.mesh_documents import Port, Service, Upstream, mesh_document

    numbers = (9000, 9001)
    api = Service(
        name="api",
        mesh_port=1,
        signals_port=2,
        ports=tuple(Port(port=number, protocol="tcp", app_port=3) for number in numbers),
    )
    client = Service(
        name="client",
        mesh_port=4,
        signals_port=5,
        upstreams=tuple(Upstream(service="api", port=number, listen_port=number - 8990) for number in numbers),
    )

    read, problems = read_mesh(json.dumps(mesh_document([api, client], 6, 7, 8)), "mesh.yaml")

    assert [str(problem) for problem in problems] == []
    assert read is not None
