"""A redirect is proved by what arrives, and by nothing else."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest

from ringfence.kit.log import Logger
from sidecar.redirect.canary import CANARIES, Canary
from sidecar.redirect_check import RedirectCheck
from tests.waiting import until


class Kernel:
    """A listener that stands for the outbound port: with ``leads``, connections to it count as led there."""

    def __init__(self) -> None:
        self.leads = True
        self.tried = 0
        self.log = io.StringIO()
        self.others: list[tuple[str, int]] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._took, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.check = RedirectCheck(
            Logger("redirect", stream=self.log),
            canaries=(Canary("IPv4", "127.0.0.1", port),),
        )

    async def _took(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tried += 1
        for other in self.others:
            self.check.arrived(other)
        if self.leads:
            self.check.arrived(writer.get_extra_info("peername"))
        writer.close()

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def said(self) -> list[tuple[str, str]]:
        return [(line["level"], line["msg"]) for line in map(json.loads, self.log.getvalue().splitlines())]


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    made = Kernel()
    await made.start()
    yield made
    await made.stop()


async def test_what_arrives_proves_the_redirect_and_is_said_once(kernel: Kernel) -> None:
    assert kernel.check.waiting_for == "its redirect, which is not tried before the outbound port is open"
    await kernel.check.look()
    assert kernel.check.waiting_for is None
    await kernel.check.look()
    assert kernel.said() == [("info", "redirect in force")]


async def test_nothing_is_tried_before_the_outbound_port_is_open_and_at_once_then(kernel: Kernel) -> None:
    keeping = asyncio.ensure_future(kernel.check.keep())
    await asyncio.sleep(0)
    assert kernel.tried == 0
    kernel.check.listening()
    await until(lambda: kernel.check.waiting_for is None)
    keeping.cancel()


async def test_somebody_who_answers_out_there_proves_nothing(kernel: Kernel) -> None:
    kernel.leads = False
    kernel.others = [("127.0.0.1", 1), ("10.0.0.7", 2)]  # the app dialled it, too
    await kernel.check.look()
    assert kernel.check.waiting_for is not None
    assert "not led here by IPv4 (see that the CNI plugin" in kernel.check.waiting_for


async def test_many_who_dial_it_keep_nothing_from_being_proved(kernel: Kernel) -> None:
    kernel.others = [("127.0.0.1", number) for number in range(1, 1000)]
    await kernel.check.look()
    assert kernel.check.waiting_for is None


async def test_a_redirect_that_is_lost_is_told(kernel: Kernel) -> None:
    await kernel.check.look()
    kernel.leads = False
    await kernel.check.look()
    assert kernel.check.waiting_for is None  # once may be chance
    await kernel.check.look()
    assert kernel.check.waiting_for is not None
    kernel.leads = True
    await kernel.check.look()
    assert kernel.check.waiting_for is None
    assert kernel.said() == [("info", "redirect in force"), ("error", "no redirect"), ("info", "redirect in force")]


async def test_one_miss_between_two_arrivals_is_no_loss(kernel: Kernel) -> None:
    for leads in (True, False, True, False, True):
        kernel.leads = leads
        await kernel.check.look()
        assert kernel.check.waiting_for is None
    assert kernel.said() == [("info", "redirect in force")]


async def test_a_drain_is_no_loss(kernel: Kernel) -> None:
    await kernel.check.look()
    kernel.leads = False
    kernel.check.stop()
    for _ in range(3):
        await kernel.check.look()
    assert kernel.check.waiting_for is None


async def test_a_refused_connection_is_no_redirect(kernel: Kernel) -> None:
    await kernel.stop()
    await kernel.check.look()
    assert "not led here" in (kernel.check.waiting_for or "")
    await kernel.start()


def test_the_canaries_are_nobodys() -> None:
    assert [canary.address for canary in CANARIES] == ["192.0.2.106", "2001:db8::7266"]
