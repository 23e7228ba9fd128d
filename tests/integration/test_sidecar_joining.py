"""A sidecar's identity end to end over real gRPC: the first, the next, the one after a kill; refusals in one line."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import uvloop

from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.spiffe import X509Svid, fingerprint
from ringfence.wire.gen import issuing_pb2 as pb
from sidecar.identity import IdentityHolder, IdentityRefused, WrongRoot, open_identity
from sidecar.settings import IdentitySettings, TrustSettings
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, WEB, Backend, FakeBackend, RealBackend
from tests.pki import TestCa
from tests.waiting import until

CHILD = """
import asyncio, json, random, sys
from pathlib import Path
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId
from sidecar.identity import open_identity
from sidecar.settings import IdentitySettings, TrustSettings, parse_host_port
import uvloop

spiffe_id, join, renew, pin, state, token = sys.argv[1:]
settings = IdentitySettings(
    spiffe_id=SpiffeId.parse(spiffe_id), join=parse_host_port(join), renew=parse_host_port(renew),
    trust=TrustSettings(root_fingerprint=pin, bundle_file=None), state_dir=Path(state),
    join_token_file=Path(token), lifetime_seconds=0)

def tell(svid, bundles):
    print(json.dumps({"spiffe_id": str(svid.spiffe_id), "serial": svid.serial}), flush=True)

async def main():
    holder = open_identity(settings, clock=SystemClock(), random=random.random, log=Logger("identity"))
    holder.on_change(tell)
    await holder.run()

uvloop.run(main())
"""


class Bench:
    """Settings for a sidecar of ``backend``, and the holders made from them."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.backend = backend
        self.folder = folder
        self.token_file = folder / "token"
        self.lines = io.StringIO()
        self.settings = IdentitySettings(
            spiffe_id=ORDERS,
            join=backend.servers.join,
            renew=backend.servers.renew,
            trust=TrustSettings(root_fingerprint=backend.root_fingerprint, bundle_file=None),
            state_dir=folder / "state",
            join_token_file=self.token_file,
            lifetime_seconds=0,
        )

    def mint(self) -> None:
        self.token_file.write_text(self.backend.mint(ORDERS) + "\n")

    def holder(self, **changes: object) -> IdentityHolder:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        log = Logger("identity", stream=self.lines)
        return open_identity(settings, clock=SystemClock(), random=random.random, log=log)

    async def run_until(self, holder: IdentityHolder, predicate: Callable[[], object]) -> None:
        task = asyncio.ensure_future(holder.run())
        try:
            await until(lambda: task.done() or predicate())
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def got(self, holder: IdentityHolder) -> X509Svid:
        await self.run_until(holder, lambda: holder.svid is not None)
        assert holder.svid is not None
        return holder.svid

    async def refusal(self, holder: IdentityHolder) -> str:
        with pytest.raises(IdentityRefused) as error:
            await asyncio.wait_for(holder.run(), 30)
        assert holder.svid is None
        line = str(error.value)
        assert "\n" not in line
        return line


@pytest.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    backend = FakeBackend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealBackend]:
    backend = RealBackend(tmp_path)
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def bench(fake: FakeBackend, tmp_path: Path) -> Bench:
    made = Bench(fake, tmp_path)
    made.mint()
    return made


@pytest.fixture
def real_bench(real: RealBackend, tmp_path: Path) -> Bench:
    made = Bench(real, tmp_path)
    made.mint()
    return made


async def test_a_new_sidecar_joins_by_its_token(bench: Bench) -> None:
    holder = bench.holder()
    assert (await bench.got(holder)).spiffe_id == ORDERS
    assert holder.bundles == (bench.backend.bundle,)


async def test_the_host_key_is_the_only_key_on_disk_and_for_the_owner_alone(bench: Bench) -> None:
    svid = await bench.got(bench.holder())
    state = bench.folder / "state"
    assert [path.name for path in state.iterdir()] == ["host-key.pem"]
    assert stat.S_IMODE((state / "host-key.pem").stat().st_mode) == 0o600
    assert svid.private_key_pem() not in (state / "host-key.pem").read_bytes()


async def test_a_spent_token_is_one_clear_line(bench: Bench) -> None:
    await bench.got(bench.holder())
    line = await bench.refusal(bench.holder(state_dir=bench.folder / "elsewhere"))
    assert f"the join token in {bench.token_file} was refused" in line
    assert "put a new token" in line
    assert "spent" not in line.replace(str(bench.token_file), "")


async def test_an_expired_token_is_one_clear_line_that_says_no_more(bench: Bench) -> None:
    bench.backend.clock.offset_seconds = 601.0
    line = await bench.refusal(bench.holder())
    assert f"the join token in {bench.token_file} was refused" in line
    assert "expired" not in line.replace(str(bench.token_file), "")


async def test_a_wrong_fingerprint_is_one_line_and_no_token_is_shown(bench: Bench, fake: FakeBackend) -> None:
    pin = fingerprint(TestCa(TRUST_DOMAIN).root.der)
    holder = bench.holder(trust=TrustSettings(root_fingerprint=pin, bundle_file=None))
    with pytest.raises(WrongRoot) as error:
        await asyncio.wait_for(holder.run(), 30)
    assert f"pinned {pin}" in str(error.value)
    assert fake.root_fingerprint in str(error.value)
    assert "\n" not in str(error.value)
    assert fake.calls == []


async def test_a_bundle_file_is_as_good_as_a_fingerprint(bench: Bench, fake: FakeBackend) -> None:
    roots = bench.folder / "roots.pem"
    roots.write_bytes(fake.bundle.to_pem())
    holder = bench.holder(trust=TrustSettings(root_fingerprint=None, bundle_file=roots))
    assert (await bench.got(holder)).spiffe_id == ORDERS


async def test_a_workload_that_took_the_control_planes_address_is_no_control_plane(
    bench: Bench, fake: FakeBackend
) -> None:
    # A certificate of the right CA, but a workload's: it must not get anybody's token.
    from tests.issuing_backends import Servers

    impostor = Servers(fake.ca.svid(WEB), fake.ca.root.der, fake.bundle)
    await impostor.start()
    try:
        with pytest.raises(WrongRoot, match="not the control plane"):
            await asyncio.wait_for(bench.holder(join=impostor.join).run(), 30)
    finally:
        await impostor.stop()
    assert fake.calls == []


async def test_renewal_is_over_mutual_tls_with_the_svid_that_is_held(bench: Bench, fake: FakeBackend) -> None:
    fake.lifetime_seconds = 5.0
    holder = bench.holder()
    seen: list[X509Svid] = []
    holder.on_change(lambda svid, _: seen.append(svid))
    await bench.run_until(holder, lambda: len(seen) >= 4)
    assert fake.calls[:4] == ["join", "renew", "renew", "renew"]
    assert len({svid.serial for svid in seen}) == len(seen)


async def test_renewal_with_the_real_authority(tmp_path: Path) -> None:
    backend = RealBackend(tmp_path, lifetime_seconds=5)
    await backend.start()
    try:
        bench = Bench(backend, tmp_path)
        bench.mint()
        holder = bench.holder()
        await bench.run_until(holder, lambda: holder.renewals >= 3)
        assert bench.lines.getvalue().count('"proved_by":"renewal"') == 2
    finally:
        await backend.stop()


async def test_the_old_identity_serves_on_while_the_ca_refuses_to_renew(bench: Bench, fake: FakeBackend) -> None:
    fake.lifetime_seconds = 5.0
    holder = bench.holder()
    first: list[X509Svid] = []

    def refuse(svid: X509Svid, _: object) -> None:
        first.append(svid)
        fake.failure = (grpc.StatusCode.UNAVAILABLE, "the authority cannot record what it would issue")

    holder.on_change(refuse)
    await bench.run_until(holder, lambda: holder.failures >= 2)
    assert holder.svid is first[0]
    assert holder.waiting_for is None
    assert "the authority cannot record" in bench.lines.getvalue()


async def test_an_identity_that_ended_unrenewed_is_got_by_the_host_key(bench: Bench, fake: FakeBackend) -> None:
    fake.lifetime_seconds = 2.0
    holder = bench.holder()
    holder.on_change(lambda *_: setattr(fake, "failure", (grpc.StatusCode.UNAVAILABLE, "away")))
    task = asyncio.ensure_future(holder.run())
    try:
        await until(lambda: holder.renewals == 1 and holder.waiting_for is not None)
        assert "the old one has ended" in str(holder.waiting_for)
        tried = holder.failures
        await until(lambda: holder.failures > tried)  # a renewal that began before the end is over, too
        fake.failure = None
        fake.lifetime_seconds = 3600.0
        await until(lambda: holder.waiting_for is None)
        assert fake.calls[-2:] == ["challenge", "attest"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_that_lies_is_not_used(bench: Bench, fake: FakeBackend) -> None:
    other = TestCa(TRUST_DOMAIN)

    def foreign_roots(answer: pb.SvidResponse) -> pb.SvidResponse:
        del answer.roots[:]
        answer.roots.append(other.root.der)
        return answer

    fake.bend = foreign_roots
    holder = bench.holder()
    await bench.run_until(holder, lambda: holder.failures == 1)
    assert holder.svid is None
    assert "does not verify" in str(holder.waiting_for)
    # The host key was enrolled by that answer, so an honest one needs no second token.
    fake.bend = None
    await bench.got(holder)
    assert fake.calls == ["join", "challenge", "attest"]


async def test_an_empty_answer_is_not_used(bench: Bench, fake: FakeBackend) -> None:
    fake.bend = lambda _: pb.SvidResponse()
    holder = bench.holder()
    await bench.run_until(holder, lambda: holder.failures == 1)
    assert holder.svid is None


async def test_a_ca_that_comes_later_is_found(bench: Bench, fake: FakeBackend, free_port: Callable[[], int]) -> None:
    later = FakeBackend()
    port = free_port()
    holder = bench.holder(
        join=replace(later.servers.join, port=port),
        trust=TrustSettings(root_fingerprint=later.root_fingerprint, bundle_file=None),
    )
    task = asyncio.ensure_future(holder.run())
    await until(lambda: holder.failures >= 1)
    assert "connection refused" in str(holder.waiting_for)
    bench.token_file.write_text(later.mint(ORDERS))
    await later.start()
    forward = await asyncio.start_server(_to(later.servers.join.port), "127.0.0.1", port)
    try:
        await until(lambda: holder.svid is not None)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        forward.close()
        await later.stop()


def _to(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
    """A relay to a local port, so that a server can come to live at an address chosen before."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, back), copy(onward, writer), return_exceptions=True)

    return relay


async def test_a_killed_process_gets_its_identity_back_without_a_person(real_bench: Bench) -> None:
    first = await _child_identity(real_bench, kill=True)
    real_bench.token_file.unlink()
    again = await _child_identity(real_bench, kill=False)
    assert first["spiffe_id"] == again["spiffe_id"] == str(ORDERS)
    assert first["serial"] != again["serial"]


async def _child_identity(bench: Bench, *, kill: bool) -> dict[str, str]:
    """The first identity that a process of its own gets; then the process is killed or stopped."""
    settings = bench.settings
    arguments = [str(settings.spiffe_id), str(settings.join), str(settings.renew)]
    arguments += [bench.backend.root_fingerprint, str(settings.state_dir), str(bench.token_file)]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "GRPC_VERBOSITY": "NONE"},
    )  # fmt: skip
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 30)
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        _, errors = await asyncio.wait_for(child.communicate(), 30)
    assert line, errors.decode()
    answer: dict[str, str] = json.loads(line)
    return answer


def test_joining_and_renewing_work_on_uvloop(tmp_path: Path) -> None:
    async def turn() -> int:
        backend = FakeBackend(lifetime_seconds=2.0)
        await backend.start()
        try:
            bench = Bench(backend, tmp_path)
            bench.mint()
            holder = bench.holder()
            await bench.run_until(holder, lambda: holder.renewals >= 2)
            return holder.renewals
        finally:
            await backend.stop()

    assert uvloop.run(turn()) >= 2
