"""`ringfence sidecar --workers 2`: several processes, one sidecar. Real processes and mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.data_path import HttpClient, echo_app, http_app, serving
from tests.issuing_backends import FakeBackend
from tests.sidecar_process import HTTP_PORT, TCP_PORT, SelfCaller, SidecarProcess
from tests.waiting import until

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def lifetime_seconds() -> float:
    return 3600.0


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int], lifetime_seconds: float) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(lifetime_seconds=lifetime_seconds), tmp_path, free_port)
    await made.backend.start()
    async with echo_app() as port:
        made.apps[TCP_PORT] = port
        made.push(HTTP_PORT, TCP_PORT)
        yield made
        await made.stop()


async def started(bench: SelfCaller, *flags: str) -> SidecarProcess:
    process = await bench.start("--workers", "2", *flags)
    await process.ready()
    await until(lambda: len(bench.control.acks) >= len(bench.processes))
    return process


async def pids(process: SidecarProcess) -> dict[int, int]:
    """The processes that enforce a snapshot, by the worker's number."""
    return {one["worker"]: one["pid"] for one in (await process.ask("/config"))["workers"] if one["enforces"]}


async def echoes(connection: Connection, word: bytes = b"hello") -> bool:
    reader, writer = connection
    try:
        writer.write(word)
        return await asyncio.wait_for(reader.readexactly(len(word)), 10) == word
    except (OSError, RuntimeError, asyncio.IncompleteReadError):  # RuntimeError: of uvloop, for a closed one
        return False


@dataclass
class Spread:
    """Opaque connections of the app, by the worker that took them from it."""

    by_worker: dict[int, list[Connection]]

    @property
    def all(self) -> list[Connection]:
        return [one for some in self.by_worker.values() for one in some]

    def close(self) -> None:
        for _, writer in self.all:
            writer.close()


async def spread(bench: SelfCaller, process: SidecarProcess, *, least: int = 2) -> Spread:
    """Opaque connections, at least so many at each of the two workers; the kernel chooses where each goes."""
    by_worker: dict[int, list[Connection]] = {1: [], 2: []}
    while min(map(len, by_worker.values())) < least:
        before = await outbound(process)
        connection = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
        assert await echoes(connection)
        after = await outbound(process)
        grown = [number for number in after if after[number] > before[number]]
        if len(grown) == 1:
            by_worker[grown[0]].append(connection)
        else:  # one of before ended at the same worker meanwhile
            connection[1].close()
    return Spread(by_worker)


async def outbound(process: SidecarProcess) -> dict[int, int]:
    """How many of the app's connections each worker has."""
    found = {1: 0, 2: 0}
    for one in (await process.ask("/connections"))["connections"]:
        found[one["worker"]] += one["direction"] == "outbound"
    return found


def read(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


def descriptors_of(pid: int) -> dict[int, str]:
    """What a process has open, as the kernel calls it."""
    found = {}
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found[int(one.name)] = str(one.readlink())
    return found


async def eventually(true: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until an asynchronous predicate holds."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - what is waited for is seen from outside only
            await asyncio.sleep(0.02)


async def test_both_workers_serve_and_every_connection_and_line_tells_its_worker(bench: SelfCaller) -> None:
    process = await started(bench)
    await until(lambda: bench.control.acks)
    assert bench.control.acks[-1].accepted
    living = await spread(bench, process)
    for one in living.all:
        one[1].close()
    ended = lambda: {line["worker"] for line in process.said("connection ended")}  # noqa: E731
    await until(lambda: ended() == {1, 2})
    assert await process.end(signal.SIGTERM) == 0
    assert {line["worker"] for line in process.said("worker stopped")} == {1, 2}
    assert process.told("error") == []


async def landing(process: SidecarProcess, connection: Connection, size: int) -> int:
    """At which worker a connection arrives that goes out by some worker; ``size``: no other has echoed so much."""
    assert await echoes(connection, b"x" * size)
    return next(
        int(one["worker"])
        for one in (await process.ask("/connections"))["connections"]
        if one["direction"] == "inbound" and one["bytes_to_app"] >= size
    )


def counters(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if "_total" in name or "_bucket" in name}


async def test_a_killed_worker_is_replaced_the_other_serves_on_and_no_counter_falls(bench: SelfCaller) -> None:
    while True:  # until a worker has a link to itself, and so connections that are none of the other's business
        process = await started(bench, "--drain", "1s")
        living = await spread(bench, process)
        arrives = {number: await landing(process, some[0], 1000 * number) for number, some in living.by_worker.items()}
        survivor = next((number for number, at in arrives.items() if number == at), None)
        if survivor is not None:
            break
        living.close()
        assert await process.end(signal.SIGTERM) == 0
    victim = 3 - survivor
    for _ in range(8):  # ended connections are counted
        connection = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
        assert await echoes(connection)
        connection[1].close()
    before = await pids(process)

    async def counted() -> bool:
        found = await process.metrics()
        return sum(value for name, value in found.items() if name.startswith("ringfence_connections_total")) >= 16

    await eventually(counted)
    shown = counters(await process.metrics())
    descriptors = len(descriptors_of(process.pid))

    os.kill(before[victim], signal.SIGKILL)

    served = 0
    while before[victim] == (now := await pids(process)).get(victim, before[victim]):
        assert all([await echoes(one) for one in living.by_worker[survivor]])
        with contextlib.suppress(OSError):  # one that was in the queue of the killed worker is reset
            connection = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
            served += await echoes(connection)
            connection[1].close()
        found = counters(await process.metrics())
        assert {name for name, value in shown.items() if found.get(name, -1.0) < value} == set()
        shown = found
    assert served
    assert now[survivor] == before[survivor]
    [told] = process.said("worker ended")
    assert (told["worker"], told["pid"], told["ended"]) == (victim, before[victim], "by signal 9")
    assert (await process.metrics())["ringfence_worker_restarts_total"] == 1.0
    more = await spread(bench, process, least=1)  # the new one takes connections, too
    await until(lambda: len(descriptors_of(process.pid)) == descriptors)
    for one in (living, more):
        one.close()


async def test_a_snapshot_is_enforced_by_all_and_ends_exactly_what_it_denies_in_all(bench: SelfCaller) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        await reader.read()
        writer.close()

    async with serving(slow) as port:
        bench.apps[HTTP_PORT] = port
        bench.push(HTTP_PORT, TCP_PORT)
        process = await started(bench)
        living = await spread(bench, process)
        asking = [await HttpClient.to(bench.http_listen) for _ in range(12)]
        for client in asking:
            client.writer.write(b"GET /x HTTP/1.1\r\nhost: orders\r\n\r\n")
        for client in asking:
            await asyncio.wait_for(client.reader.readuntil(b"ab"), 10)

        bench.push(TCP_PORT)
        await until(lambda: bench.control.acks[-1].enforced_revision == bench.revision)

        for client in asking:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(client.reader.read(), 10) == b""
        assert all([await echoes(one) for one in living.all])
        await until(lambda: len(process.said("connection denied")) == len(asking))
        assert {one["enforces"] for one in (await process.ask("/config"))["workers"]} == {bench.revision}
        for client in asking:
            client.close()
        living.close()


async def test_what_one_cannot_enforce_is_refused_by_all_and_the_old_one_stays(
    bench: SelfCaller, free_port: Callable[[], int]
) -> None:
    process = await started(bench)
    living = await spread(bench, process)
    revision = bench.revision
    moved = bench.snapshot()  # it permits nothing, and would end everything
    moved.workload.mesh_port = free_port()
    listen = moved.upstreams.add()
    listen.CopyFrom(moved.upstreams[0])
    listen.port, listen.listen_port = 8081, bench.apps[HTTP_PORT]
    bench.control.push(moved)
    await until(lambda: not bench.control.acks[-1].accepted)
    assert ": the mesh port moved" in bench.control.acks[-1].error
    assert bench.control.acks[-1].enforced_revision == revision
    assert all([await echoes(one) for one in living.all])
    assert {one["enforces"] for one in (await process.ask("/config"))["workers"]} == {revision}
    with pytest.raises(ConnectionRefusedError):  # the port that was opened for it is closed again
        await asyncio.open_connection("127.0.0.1", bench.apps[HTTP_PORT])
    living.close()


async def test_a_worker_that_stands_still_is_killed_so_that_a_denial_holds(bench: SelfCaller) -> None:
    process = await started(bench)
    before = await pids(process)
    os.kill(before[1], signal.SIGSTOP)
    bench.push()  # nothing is permitted any more
    await until(lambda: bench.control.acks[-1].enforced_revision == bench.revision, deadline_seconds=60)
    await until(lambda: process.said("worker ended"))
    [told] = process.said("worker ended")
    assert (told["worker"], told["pid"]) == (1, before[1])
    assert "did not answer" in told["ended"]

    async def replaced() -> bool:
        return before[1] != (await pids(process)).get(1, before[1])

    await eventually(replaced)
    assert {one["enforces"] for one in (await process.ask("/config"))["workers"]} == {bench.revision}


async def test_a_port_that_another_process_has_is_named_and_refused(bench: SelfCaller) -> None:
    async with serving(lambda *_: asyncio.sleep(0)) as taken:
        bench.tcp_listen, good = taken, bench.tcp_listen
        bench.push(TCP_PORT)
        process = await bench.start("--workers", "2")
        await until(lambda: bench.control.acks)
        assert f"upstream shop/orders, listen 127.0.0.1:{taken}: already in use" in bench.control.acks[-1].error
        assert (await process.page("/readyz")).startswith(b"HTTP/1.1 503 ")
        bench.tcp_listen = good
        bench.push(TCP_PORT)
        await process.ready()


@pytest.mark.parametrize("lifetime_seconds", [12.0])
async def test_a_renewed_identity_reaches_every_worker_and_harms_no_living_connection(bench: SelfCaller) -> None:
    process = await started(bench)
    living = await spread(bench, process, least=1)
    first = (await process.ask("/certs"))["svid"]["serial"]

    async def renewed() -> bool:
        now = (await process.ask("/certs"))["svid"]["serial"]
        links = (await process.ask("/connections"))["links"]
        proved = {link["worker"] for link in links if link["peer_serial"] == now}
        return now != first and proved == {1, 2} and all(link["peer_serial"] == now for link in links)

    await eventually(renewed)
    assert all([await echoes(one) for one in living.all])
    assert process.told("error") == []
    living.close()


async def test_sigterm_lets_every_worker_finish_what_it_has(bench: SelfCaller) -> None:
    process = await started(bench)
    living = await spread(bench, process)
    process.child.send_signal(signal.SIGTERM)
    await until(lambda: len(process.said("draining")) == 3)
    assert (await process.page("/readyz")).startswith(b"HTTP/1.1 503 ")
    with pytest.raises(OSError):  # refused, or reset if it was in a queue
        reader, _ = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
        if not await reader.read():
            raise ConnectionResetError
    assert all([await echoes(one) for one in living.all])
    living.close()
    assert await process.end() == 0
    assert {line["reason"] for line in process.said("connection ended")} <= {"closed", "reset"}


async def test_a_second_sigterm_ends_all_at_once(bench: SelfCaller) -> None:
    process = await started(bench, "--drain", "10m")
    living = await spread(bench, process, least=1)
    process.child.send_signal(signal.SIGTERM)
    await until(lambda: len(process.said("draining")) == 3)
    assert await process.end(signal.SIGTERM) == 0
    assert len(process.said("worker stopped")) == 2
    living.close()


async def test_workers_whose_parent_was_killed_end(bench: SelfCaller) -> None:
    process = await started(bench, "--drain", "1s")
    workers = list((await pids(process)).values())
    living = await spread(bench, process, least=1)
    await process.end(signal.SIGKILL)
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert {line["worker"] for line in process.said("the parent is lost: draining")} == {1, 2}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
    living.close()


async def test_a_worker_s_command_line_environment_and_files_tell_no_secret(bench: SelfCaller) -> None:
    process = await started(bench)
    own = read(process.pid, "environ")
    for pid in (await pids(process)).values():
        command = read(pid, "cmdline").decode().split("\0")
        assert command[1:4] == ["-P", "-m", "sidecar.workers"]
        assert command[4].isdigit()
        assert command[5:] == [""]
        assert read(pid, "environ") == own
        opened = set(descriptors_of(pid).values()) - set(descriptors_of(process.pid).values())
        assert {name for name in opened if not name.startswith(("socket:", "pipe:", "anon_inode:"))} == set()


async def test_a_crash_leaves_no_file_with_the_private_key(bench: SelfCaller) -> None:
    own = resource.getrlimit(resource.RLIMIT_CORE)
    if own[1] == 0:
        pytest.skip("no process here may leave a core file")
    resource.setrlimit(resource.RLIMIT_CORE, (own[1], own[1]))
    try:
        process = await started(bench)
        for pid in (process.pid, *(await pids(process)).values()):
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, own[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, own)


async def test_a_limit_permits_over_both_workers_what_one_would(bench: SelfCaller) -> None:
    async with http_app() as port:
        bench.apps[HTTP_PORT] = port
        limited = bench.snapshot(HTTP_PORT)
        limited.workload.ports[0].limits.add(
            name="few", per="caller", requests={"amount": 1, "seconds": 3600}, burst=30
        )
        bench.control.push(limited)
        while True:  # until connections arrive at both
            process = await started(bench)
            clients = [await HttpClient.to(bench.http_listen) for _ in range(12)]
            answers = [(await client.ask("GET", "/x")).status for client in clients]
            there = (await process.ask("/connections"))["connections"]
            if {one["worker"] for one in there if one["direction"] == "inbound"} == {1, 2}:
                break
            for client in clients:
                client.close()
            assert await process.end(signal.SIGTERM) == 0
        for _ in range(4):
            answers += await asyncio.gather(*(status(client) for client in clients))
        assert (answers.count(200), answers.count(429)) == (30, 30)
        for client in clients:
            client.close()


async def status(client: HttpClient) -> int:
    return (await client.ask("GET", "/x")).status


async def test_the_log_level_and_a_tap_reach_every_worker(bench: SelfCaller) -> None:
    process = await started(bench)
    assert (await process.ask("/loglevel", {"level": "error"}))["level"] == "error"
    reader, writer = await asyncio.open_unix_connection(str(process.admin_socket))
    writer.write(b"GET /tap?to=orders HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    living = await spread(bench, process)
    living.close()
    seen: set[bytes] = set()
    async with asyncio.timeout(30):
        while seen != {b'"worker":1', b'"worker":2'}:
            line = await reader.readline()
            seen |= {word for word in (b'"worker":1', b'"worker":2') if word in line}
    writer.close()
    assert process.said("connection ended") == []
    os.kill((await pids(process))[1], signal.SIGKILL)
    await until(lambda: process.said("worker ended"))

    async def back() -> bool:
        return len(await pids(process)) == 2

    await eventually(back)
    assert not process.said("worker ready")[2:]  # the new one's parent logs errors alone, and so does it
    assert (await process.ask("/drain", {}))["draining"]
    assert await process.end() == 0
