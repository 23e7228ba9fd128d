"""How the process comes by its identity and keeps it: host key, then token; renewed at half life; kept to its end."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId, TrustBundle, X509Svid
from sidecar.identity import IdentityHolder
from sidecar.identity.client import Evidence, Issued
from sidecar.identity.errors import IdentityRefused, IdentityUnavailable, WrongRoot
from sidecar.identity.host_key import HostKey, HostKeyStore
from sidecar.identity.proving import Proving
from sidecar.settings import EvidenceSettings
from sidecar.state_folder import StateFolder
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, WEB
from tests.pki import TestCa


@dataclass
class FakeIssuing:
    """A CA as one object; ``failures`` are raised, one a call, before anything is issued."""

    clock: FakeClock
    lifetime_seconds: float = 3600.0
    skew_seconds: float = 0.0
    token: str = "good"
    token_for: SpiffeId = ORDERS
    evidence: bytes = b"header.claims.signature"
    enrolled: dict[str, SpiffeId] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    broken: Exception | None = None

    def __post_init__(self) -> None:
        self.ca = TestCa(TRUST_DOMAIN, now=self.clock.now())

    async def join(self, token: str, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        self._enter("join")
        if token != self.token:
            raise IdentityRefused("this caller is not permitted an identity")
        self.token = ""
        self.enrolled[host_key.id] = self.token_for
        return self._issue(self.token_for, csr)

    async def prove(self, evidence: Evidence, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        self._enter("prove")
        if evidence != Evidence(kind="kubernetes", content=self.evidence):
            raise IdentityRefused("the evidence is of another audience")
        self.enrolled[host_key.id] = self.token_for
        return self._issue(self.token_for, csr)

    async def attest(self, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        self._enter("attest")
        if host_key.id not in self.enrolled:
            raise IdentityRefused("this caller is not permitted an identity")
        return self._issue(self.enrolled[host_key.id], csr)

    async def renew(self, svid: X509Svid, bundle: TrustBundle, csr: bytes, deadline_seconds: float) -> Issued:
        self._enter("renew")
        assert svid.not_after > self.clock.now()
        return self._issue(svid.spiffe_id, csr)

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self.broken is not None:
            raise self.broken
        if self.failures:
            raise self.failures.pop(0)

    def _issue(self, spiffe_id: SpiffeId, csr: bytes) -> Issued:
        from tests.issuing_backends import _PublicOnly

        self.ca.now = self.clock.now() + self.skew_seconds
        public = x509.load_der_x509_csr(csr).public_key()
        svid = self.ca.svid(spiffe_id, self.lifetime_seconds, key=_PublicOnly(public))  # type: ignore[arg-type]
        return Issued(
            spiffe_id=str(spiffe_id),
            chain=svid.chain,
            roots=self.ca.bundle().roots,
            ca_time=self.ca.now,
            local_time=self.clock.now(),
            trusted=self.ca.bundle(),
        )


class Bench:
    """A holder with everything about it under the test's hand."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.client = FakeIssuing(clock)
        self.store = HostKeyStore(StateFolder(folder / "state"))
        self.token_file = folder / "token"
        self.token_file.write_text("good\n")
        self.evidence_file = folder / "evidence"
        self.evidence_file.write_bytes(self.client.evidence + b"\n")
        self.lines = io.StringIO()
        self.log = Logger("identity", stream=self.lines, clock=clock)
        self.waits: list[float] = []
        self.asleep_seconds = 0.0
        """Added to the wall clock, but not to the monotonic one, in the next wait."""
        self.holder = self.new_holder()

    def new_holder(self, *, no_token: bool = False, evidence: bool = False) -> IdentityHolder:
        proving = Proving(
            spiffe_id=ORDERS,
            client=self.client,
            host_keys=self.store,
            join_token_file=None if no_token else self.token_file,
            log=self.log,
            evidence=EvidenceSettings(kind="kubernetes", file=self.evidence_file) if evidence else None,
        )
        return IdentityHolder(
            spiffe_id=ORDERS,
            client=self.client,
            proving=proving,
            clock=self.clock,
            random=lambda: 0.5,
            log=self.log,
            wait=self.wait,
        )

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)
        self.clock._now += self.asleep_seconds
        self.asleep_seconds = 0.0
        await asyncio.sleep(0)

    def logged(self, msg: str) -> list[dict[str, object]]:
        return [line for line in map(json.loads, self.lines.getvalue().splitlines()) if line["msg"] == msg]

    async def until(self, predicate: Callable[[], bool], holder: IdentityHolder | None = None) -> None:
        """Let the holder run until ``predicate`` holds; what it raises comes out here."""
        task = asyncio.ensure_future((holder or self.holder).run())
        try:
            for _ in range(100_000):
                if predicate():
                    return
                if task.done():
                    break
                await asyncio.sleep(0)
            await asyncio.wait_for(task, 0)
            raise AssertionError("the predicate never held")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock) -> Bench:
    return Bench(tmp_path, clock)


def refusal(holder: IdentityHolder) -> Awaitable[None]:
    return asyncio.wait_for(holder.run(), 10)


async def test_the_first_identity_is_got_by_the_token(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    assert bench.client.calls == ["join"]
    assert bench.holder.svid is not None
    assert bench.holder.svid.spiffe_id == ORDERS
    assert bench.holder.bundles == (bench.client.ca.bundle(),)
    assert bench.holder.waiting_for is None
    await bench.holder.ready()


async def test_a_restarted_process_uses_the_host_key_and_leaves_the_token_alone(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    bench.token_file.unlink()
    again = bench.new_holder()
    await bench.until(lambda: again.svid is not None, again)
    assert bench.client.calls == ["join", "attest"]


async def test_a_refused_host_key_falls_back_to_the_token_with_a_new_key(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    (revoked,) = bench.client.enrolled
    bench.client.enrolled.clear()
    bench.client.token = "good"
    again = bench.new_holder()
    await bench.until(lambda: again.svid is not None, again)
    assert bench.client.calls == ["join", "attest", "join"]
    assert [key.id for key in bench.store.candidates()] == list(bench.client.enrolled)
    assert revoked not in bench.client.enrolled


async def test_a_host_key_of_another_workload_falls_back_to_the_token(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    (key_id,) = bench.client.enrolled
    bench.client.enrolled[key_id] = WEB
    bench.client.token = "good"
    again = bench.new_holder()
    await bench.until(lambda: again.svid is not None, again)
    assert again.svid is not None
    assert again.svid.spiffe_id == ORDERS


async def test_a_key_that_was_enrolled_in_the_moment_of_a_crash_is_found(bench: Bench) -> None:
    # The CA enrolled the key, and the process died before it heard of it: the key is still called pending.
    pending = bench.store.draw()
    bench.client.enrolled[pending.id] = ORDERS
    bench.client.token = ""
    await bench.until(lambda: bench.holder.svid is not None)
    assert bench.client.calls == ["attest"]


async def test_a_spent_token_ends_it_with_one_line_that_has_the_mend(bench: Bench) -> None:
    bench.client.token = ""
    with pytest.raises(IdentityRefused) as error:
        await refusal(bench.holder)
    line = str(error.value)
    assert "\n" not in line
    assert str(ORDERS) in line
    assert f"the join token in {bench.token_file} was refused" in line
    assert "put a new token" in line
    assert bench.holder.waiting_for == f"a first identity ({line})"
    assert bench.waits == []


async def test_a_token_of_another_workload_is_told_with_both_names(bench: Bench) -> None:
    bench.client.token_for = WEB
    with pytest.raises(IdentityRefused, match="is another workload's") as error:
        await refusal(bench.holder)
    assert f"issued {WEB}, but this sidecar is set to be {ORDERS}" in str(error.value)


async def test_without_a_token_file_it_tells_how_to_make_one(bench: Bench) -> None:
    bench.token_file.unlink()
    holder = bench.new_holder(no_token=True)
    with pytest.raises(IdentityRefused, match=f"ringfence ca token create --spiffe-id {ORDERS}"):
        await refusal(holder)


async def test_both_refusals_are_told_when_both_fail(bench: Bench) -> None:
    bench.store.draw()
    bench.client.token = ""
    with pytest.raises(IdentityRefused, match=r"the host key [0-9a-f]{16}… was refused.*the join token"):
        await refusal(bench.holder)


async def test_a_missing_token_file_is_told(bench: Bench) -> None:
    bench.token_file.unlink()
    with pytest.raises(IdentityRefused, match="cannot read the join token file"):
        await refusal(bench.holder)
    assert bench.client.calls == []


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "x" * 5000, "tökén"])
async def test_a_file_that_holds_no_token_is_told_and_not_sent(bench: Bench, content: str) -> None:
    bench.token_file.write_text(content)
    with pytest.raises(IdentityRefused, match="holds no join token"):
        await refusal(bench.holder)
    assert bench.client.calls == []


async def test_the_token_is_in_no_line_of_the_log(bench: Bench) -> None:
    bench.token_file.write_text("ringfence-secret-token")
    bench.client.failures = [IdentityUnavailable("not now")]
    with pytest.raises(IdentityRefused) as error:
        await refusal(bench.holder)
    assert "ringfence-secret-token" not in bench.lines.getvalue() + str(error.value)


async def test_a_wrong_root_ends_it_before_the_token_is_tried(bench: Bench) -> None:
    bench.store.draw()
    bench.client.broken = WrongRoot("not the pinned root")
    with pytest.raises(WrongRoot, match="not the pinned root"):
        await refusal(bench.holder)
    assert bench.client.calls == ["attest"]


async def test_a_ca_that_is_away_is_asked_again_with_growing_waits(bench: Bench) -> None:
    bench.client.failures = [IdentityUnavailable(f"away {number}") for number in range(8)]
    await bench.until(lambda: bench.holder.svid is not None)
    assert bench.holder.failures == 8
    assert bench.waits[:8] == sorted(bench.waits[:8])
    assert bench.waits[7] > 10 * bench.waits[0]


async def test_an_unreachable_ca_does_not_cost_the_token_when_there_is_a_host_key(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    again = bench.new_holder()
    bench.client.failures = [IdentityUnavailable("away")]
    await bench.until(lambda: again.svid is not None, again)
    assert bench.client.calls == ["join", "attest", "attest"]


async def test_while_waiting_it_says_for_what(bench: Bench) -> None:
    assert bench.holder.waiting_for == "a first identity"
    bench.client.failures = [IdentityUnavailable("127.0.0.1:7401: connection refused")] * 3
    await bench.until(lambda: bench.holder.failures == 1)
    assert bench.holder.waiting_for == "a first identity (127.0.0.1:7401: connection refused)"


async def test_an_unwritable_state_folder_does_not_spend_the_token(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sidecar.state_folder import StateError

    def full(self: StateFolder, name: str, content: bytes) -> None:
        raise StateError("no space left on device")

    monkeypatch.setattr(StateFolder, "write", full)
    await bench.until(lambda: bench.holder.failures == 2)
    assert bench.client.calls == []
    monkeypatch.undo()
    await bench.until(lambda: bench.holder.svid is not None)


async def test_it_renews_at_half_life_with_new_keys(bench: Bench) -> None:
    seen: list[X509Svid] = []
    bench.holder.on_change(lambda svid, _: seen.append(svid))
    began = bench.clock.now()
    await bench.until(lambda: len(seen) == 4)
    assert bench.client.calls == ["join", "renew", "renew", "renew"]
    assert bench.clock.now() - began == pytest.approx(3 * 1800.0, rel=0.01)
    assert len({svid.serial for svid in seen}) == 4
    assert len({svid.private_key.public_key().public_numbers() for svid in seen}) == 4
    assert bench.holder.renewals == 4


async def test_ten_second_identities_are_renewed_in_time(bench: Bench) -> None:
    bench.client.lifetime_seconds = 10.0
    lives: list[float] = []
    bench.holder.on_change(lambda svid, _: lives.append(svid.not_after - bench.clock.now()))
    await bench.until(lambda: bench.holder.renewals == 20)
    assert bench.client.calls == ["join"] + ["renew"] * 19


async def test_the_old_identity_stays_while_renewal_fails(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    first = bench.holder.svid
    bench.client.failures = [IdentityUnavailable("away")] * 5 + [IdentityRefused("no")] * 5  # type: ignore[list-item]
    held: list[bool] = []
    bench.client.calls.clear()
    await bench.until(lambda: held.append(bench.holder.svid is first) or bench.holder.failures == 10)  # type: ignore[func-returns-value]
    assert all(held)
    assert bench.holder.waiting_for is None
    assert set(bench.client.calls) == {"renew"}
    await bench.until(lambda: bench.holder.svid is not first)


async def test_an_identity_that_ended_unrenewed_is_got_anew_by_the_host_key(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    bench.client.broken = IdentityUnavailable("away")
    await bench.until(lambda: bench.holder.left_seconds == 0.0)
    assert bench.holder.waiting_for is not None
    assert bench.holder.waiting_for.startswith("a new identity, as the old one has ended")
    bench.client.broken = None
    bench.client.calls.clear()
    await bench.until(lambda: bench.holder.waiting_for is None)
    assert bench.client.calls == ["attest"]


async def test_a_sleep_through_the_whole_lifetime_is_noticed_on_waking(bench: Bench) -> None:
    bench.asleep_seconds = 8 * 3600.0
    await bench.until(lambda: bench.holder.renewals == 2)
    assert bench.client.calls == ["join", "attest"]
    assert bench.waits[0] <= 15.0, "one wait of half a lifetime would come late by all of the sleep"


async def test_an_ended_identity_and_a_final_no_end_the_process(bench: Bench) -> None:
    await bench.until(lambda: bench.holder.svid is not None)
    bench.client.broken = IdentityRefused("this caller is not permitted an identity")
    with pytest.raises(IdentityRefused, match="put a new token"):
        await refusal(bench.holder)
    assert bench.holder.left_seconds == 0.0


async def test_a_wrong_clock_is_told_and_does_not_upset_the_schedule(bench: Bench) -> None:
    bench.client.skew_seconds = 93.0
    began = bench.clock.now()
    await bench.until(lambda: bench.holder.renewals == 2)
    assert bench.clock.now() - began == pytest.approx(1800.0, rel=0.01)
    (line, *_) = bench.logged("clocks differ")
    assert "your clock is 93 s behind the CA's" in str(line["advice"])
    assert bench.holder.clock_skew_seconds == pytest.approx(93.0)


async def test_a_listener_that_fails_costs_neither_the_identity_nor_the_other_listeners(bench: Bench) -> None:
    heard: list[X509Svid] = []

    def fail(svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        raise RuntimeError("a fault")

    bench.holder.on_change(fail)
    bench.holder.on_change(lambda svid, _: heard.append(svid))
    await bench.until(lambda: len(heard) == 2)
    assert len(bench.logged("identity listener failed")) == 2


async def test_a_listener_that_left_hears_nothing_more(bench: Bench) -> None:
    heard: list[X509Svid] = []
    end = bench.holder.on_change(lambda svid, _: heard.append(svid))
    await bench.until(lambda: bench.holder.renewals == 1)
    end()
    await bench.until(lambda: bench.holder.renewals == 3)
    assert len(heard) == 1


async def test_evidence_goes_before_the_token_and_its_host_key_before_both(bench: Bench) -> None:
    holder = bench.new_holder(evidence=True)
    await bench.until(lambda: holder.svid is not None, holder)
    again = bench.new_holder(evidence=True)
    await bench.until(lambda: again.svid is not None, again)
    assert bench.client.calls == ["prove", "attest"]
    assert bench.client.token == "good"
    assert [line["proved_by"] for line in bench.logged("identity issued")] == ["service account token", "host key"]


async def test_refused_evidence_is_read_anew_and_tried_until_the_platform_gave_better(bench: Bench) -> None:
    bench.evidence_file.write_bytes(b"stale")
    holder = bench.new_holder(no_token=True, evidence=True)
    await bench.until(lambda: holder.failures == 2, holder)
    words = f"the service account token in {bench.evidence_file} was refused: the evidence is of another audience"
    assert holder.waiting_for == f"a first identity (no identity for {ORDERS}: {words})"
    bench.evidence_file.write_bytes(bench.client.evidence)
    await bench.until(lambda: holder.svid is not None, holder)
    assert bench.client.calls == ["prove", "prove", "prove"]  # a key that was refused is not tried by itself
    assert [key.id for key in bench.store.candidates()] == list(bench.client.enrolled)


async def test_a_key_whose_proof_got_no_answer_is_tried_before_the_evidence_again(bench: Bench) -> None:
    holder = bench.new_holder(no_token=True, evidence=True)
    bench.client.failures = [IdentityUnavailable("away")]
    await bench.until(lambda: holder.failures == 1, holder)
    (pending,) = bench.store.candidates()
    bench.client.enrolled[pending.id] = ORDERS  # the CA had answered
    await bench.until(lambda: holder.svid is not None, holder)
    assert bench.client.calls == ["prove", "attest"]


async def test_refused_evidence_leaves_the_token_where_there_is_one(bench: Bench) -> None:
    bench.evidence_file.write_bytes(b"stale")
    holder = bench.new_holder(evidence=True)
    await bench.until(lambda: holder.svid is not None, holder)
    assert bench.client.calls == ["prove", "join"]


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * 16_385, None])
async def test_a_file_that_holds_no_evidence_is_told_and_not_sent(bench: Bench, content: bytes | None) -> None:
    bench.evidence_file.unlink()
    if content is not None:
        bench.evidence_file.write_bytes(content)
    holder = bench.new_holder(no_token=True, evidence=True)
    await bench.until(lambda: holder.failures == 1, holder)
    assert bench.client.calls == []
    assert "service account token" in str(holder.waiting_for)
    assert str(bench.evidence_file) in str(holder.waiting_for)


async def test_evidence_of_another_workload_ends_it_with_both_names(bench: Bench) -> None:
    bench.client.token_for = WEB
    with pytest.raises(IdentityRefused, match=r"the service account token in .* is another workload's") as error:
        await refusal(bench.new_holder(evidence=True))
    assert f"issued {WEB}, but this sidecar is set to be {ORDERS}" in str(error.value)
    assert bench.client.calls == ["prove"]


async def test_evidence_is_in_no_line_of_the_log(bench: Bench) -> None:
    bench.evidence_file.write_bytes(b"ringfence-secret-evidence")
    holder = bench.new_holder(no_token=True, evidence=True)
    await bench.until(lambda: holder.failures == 2, holder)
    assert "ringfence-secret-evidence" not in bench.lines.getvalue() + str(holder.waiting_for)
