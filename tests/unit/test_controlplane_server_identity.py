"""The control plane's own SVID: renewed in time, verified before it is shown, kept while renewal fails."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest

from controlplane.control.server_identity import ServerIdentity, renewal_delay_seconds
from controlplane.metrics import ControlPlaneMetrics
from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.spiffe import VerificationError, X509Svid, control_plane_id
from tests.pki import TestCa

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
OWN = control_plane_id(CA.trust_domain)


def identity(issue: Callable[[], Awaitable[X509Svid]], clock: FakeClock) -> ServerIdentity:
    return ServerIdentity(
        issue=issue,
        bundle=CA.bundle(),
        metrics=ControlPlaneMetrics(dict),
        log=Logger("identity", stream=io.StringIO()),
        clock=clock,
        random=lambda: 0.0,
    )


@pytest.mark.parametrize(("draw", "delay"), [(0.0, 1440.0), (0.5, 1620.0), (0.999, 1799.64)])
def test_renewal_is_due_before_half_of_what_is_left(draw: float, delay: float) -> None:
    svid = CA.svid(OWN, 3600.0)
    assert renewal_delay_seconds(svid, NOW, draw) == pytest.approx(delay)
    assert renewal_delay_seconds(svid, NOW + 7200.0, draw) == 0.0


async def test_svid_that_sidecars_would_refuse_is_not_adopted(clock: FakeClock) -> None:
    offered: list[X509Svid] = [CA.svid(OWN)]

    async def issue() -> X509Svid:
        return offered.pop()

    held = identity(issue, clock)
    assert not held.valid
    good = await held.renew()
    for bad in (
        CA.svid(OWN, 60.0, not_before=-120.0, self_signed=True),
        CA.svid(OWN, -10.0, not_before=-120.0),
        CA.svid("spiffe://shop.example/ns/shop/sa/web"),
        TestCa("shop.example", now=NOW).svid(OWN),
    ):
        offered.append(bad)
        with pytest.raises(VerificationError):
            await held.renew()
        assert held.valid
    clock.advance(good.not_after - NOW)
    assert not held.valid


async def test_failing_renewal_is_tried_again_and_the_old_svid_stays(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    answers: list[X509Svid | Exception] = [CA.svid(OWN, 100.0), OSError("no disk"), OSError("no disk"), CA.svid(OWN)]
    done = asyncio.Event()
    pause = asyncio.sleep

    async def issue() -> X509Svid:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if not answers:
            done.set()
        return answer

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        clock.advance(seconds)
        await pause(0)

    held = identity(issue, clock)
    await held.renew()
    monkeypatch.setattr("controlplane.control.server_identity.asyncio.sleep", nap)
    task = asyncio.ensure_future(held.run())
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    # 40 s until the first try (in naps of at most 30), then two pauses of backoff without jitter.
    assert [round(nap, 3) for nap in naps[:4]] == [30.0, 10.0, 0.05, 0.1]
    assert held.valid
